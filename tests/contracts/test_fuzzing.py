"""Whatever is sent, by whomever: no 5xx, only what the document says, nothing without the right to it.

Schemathesis makes requests from the OpenAPI document; half of them are led to what the registry holds, since a request
for a name that nobody has says little.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks
from sqlalchemy import select
from tests.factories import FINGERPRINT, make_files, make_manifest, sha256
from tests.registry.conftest import Clock, Hub, ok

from adapterhub_client import wire
from adapterhub_registry import migration
from adapterhub_registry.app import create_app
from adapterhub_registry.models import Account
from adapterhub_registry.settings import from_environment
from adapterhub_registry.storage import MemoryStore

DOCUMENT = json.loads(Path(__file__).with_name("openapi.json").read_text())
ROLES = ("anonymous", "reader", "writer", "admin")
EXAMPLES = 8
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.ignored_auth,
]
FILES = make_files(1)
MANIFEST = make_manifest("nli/closed@ukp", FILES)
HELD = {
    "task": ["nli"],
    "name": ["open", "closed", "the-reader"],
    "org": ["ukp"],
    "version": ["1", "2", "stable"],
    "alias": ["stable"],
    "digest": [wire.digest(MANIFEST)],
    "sha256": [sha256(FILES["README.md"]), sha256(make_files(2)["README.md"])],
    "fingerprint": [FINGERPRINT],
    "dataset": ["multinli"],
    "metric": ["accuracy"],
    "number": [1],
    "token_id": [1, 2, 3, 4],
    "invitation_id": [1, 2],
}


class World:
    """A registry in which there is something, and a token for each role in the organization `ukp`."""

    def __init__(self, home: Path) -> None:
        settings = from_environment(
            {
                "ADAPTERHUB_HOME": str(home),
                "ADAPTERHUB_SECRET_KEY": "for tests",
                "ADAPTERHUB_RATE_WRITE": "0",
                "ADAPTERHUB_RATE_READ": "0",
                "ADAPTERHUB_RATE_SEARCH": "0",
            }
        )
        self.app = create_app(settings, store=MemoryStore())
        hub = Hub(self.app, Clock())
        migration.migrate(hub.runtime.database)
        admin = hub.token("ukp")
        self.tokens: dict[str, str | None] = {"anonymous": None, "admin": admin}
        for role in ("reader", "writer"):
            self.tokens[role] = hub.token(f"the-{role}")
            hub.call("PUT", f"/orgs/ukp/members/the-{role}", admin, body={"role": role})
        metric = wire.Metric(dataset="multinli", split="test", name="accuracy", value=0.9)
        for seed in (2, 3):
            files = make_files(seed)
            hub.publish(admin, make_manifest("nli/open@ukp", files, metrics=[metric]), files)
        hub.publish(admin, MANIFEST, FILES, private=True)
        hub.call("PUT", "/adapters/nli/open@ukp/aliases/stable", admin, body={"version": "1"})
        hub.call("POST", "/orgs/ukp/invitations", admin, body={"label": "x"})
        begun = hub.begin(admin, make_manifest("nli/begun@ukp", make_files(7)))
        self.held = {**HELD, "upload_id": [begun.id]}
        self.hub = hub

    def close(self) -> None:
        self.hub.runtime.database.close()

    def headers(self, role: str) -> dict[str, str]:
        token = self.tokens[role]
        return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module", params=ROLES)
def acting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, str]]:
    world = World(tmp_path_factory.mktemp("registry"))
    yield world, request.param
    world.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param(method, path, id=f"{method} {path}")
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
    ],
)
def test_nothing_breaks_and_nothing_surprises(
    acting: tuple[World, str], method: str, path: str
) -> None:
    world, role = acting
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", world.app)

    @given(case=schema[path][method].as_strategy(), data=st.data())
    @bounded(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers_as_documented(case: schemathesis.Case, data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            _lead(case, world.held, data)
        response = case.call(headers=world.headers(role))
        case.validate_response(response, checks=CHECKS, headers=world.headers(role))

    answers_as_documented()


def _lead(case: schemathesis.Case, held: dict[str, list[Any]], data: st.DataObject) -> None:
    """Put values of what is there into the path."""
    for name in case.path_parameters or {}:
        if name in held:
            case.path_parameters[name] = data.draw(st.sampled_from(held[name]))


def _made(world: World) -> dict[str, tuple[str, str, object]]:
    """What can be made and deleted: how, and where it is read."""
    admin = world.tokens["admin"] or ""
    hub = world.hub
    files = make_files(9)
    hub.publish(admin, make_manifest("nli/gone@ukp", files), files)
    body = {"label": "x"}
    token = ok(hub.call("POST", "/tokens", admin, body=body), wire.Token)
    invitation = ok(hub.call("POST", "/orgs/ukp/invitations", admin, body=body), wire.Invitation)
    hub.call("PUT", "/adapters/nli/open@ukp/aliases/soon-gone", admin, body={"version": "1"})
    return {
        "adapter": ("/adapters/nli/gone@ukp?reason=x", "/adapters/nli/gone@ukp", None),
        "version": (
            "/adapters/nli/open@ukp/versions/2?reason=x",
            f"/manifests/{wire.digest(_version(hub, 'nli/open@ukp', 2))}",
            None,
        ),
        "alias": (
            "/adapters/nli/open@ukp/aliases/soon-gone",
            "/resolve?ref=nli/open@ukp:soon-gone",
            None,
        ),
        "token": (f"/tokens/{token.id}", "/whoami", token.secret),
        "invitation": (
            f"/orgs/ukp/invitations/{invitation.id}",
            "/invitations/accept",
            {"secret": invitation.secret, "name": "new", "password": "a password of theirs"},
        ),
    }


def _version(hub: Hub, name: str, number: int) -> wire.Manifest:
    found = ok(hub.get(f"/resolve?ref={name}:{number}"), wire.Resolution)
    return found.manifest


@pytest.mark.parametrize("what", ["adapter", "version", "alias", "token", "invitation"])
def test_what_was_deleted_answers_no_more(tmp_path: Path, what: str) -> None:
    world = World(tmp_path)
    place, read_at, given_with = _made(world)[what]
    hub, admin = world.hub, world.tokens["admin"]

    def read() -> int:
        if isinstance(given_with, dict):
            return hub.call("POST", read_at, body=given_with).status_code
        return hub.get(read_at, given_with if isinstance(given_with, str) else admin).status_code

    before = None if what == "invitation" else read()
    deleted = hub.call("DELETE", place, admin)
    after = read()

    assert before in {200, None}
    assert deleted.status_code in {200, 204}
    assert after in {401, 404, 410}
    world.close()


def test_an_operator_meets_no_surprise_either(tmp_path: Path) -> None:
    """The fuzzed admin is one of an organization; these are the answers for the registry's own."""
    world = World(tmp_path)
    with world.hub.runtime.database.writing() as session:
        session.scalars(select(Account).filter_by(name="ukp")).one().is_admin = True
    operator = world.tokens["admin"]

    page = ok(world.hub.get("/accounts", operator), wire.AccountPage)
    log = ok(world.hub.get("/audit?limit=500", operator), wire.AuditPage)

    assert [each.name for each in page.items] == ["the-reader", "the-writer", "ukp"]
    assert {"version.publish", "account.create", "org.member"} <= {
        each.action for each in log.items
    }
    assert msgspec.json.encode(log)
    world.close()
