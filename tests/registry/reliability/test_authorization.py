"""Group A: who may do what, on every route; and private is exactly as missing.

The routes come from the app itself, so one that is added is asked too: it must be told here with which values.
"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from flask import Flask
from sqlalchemy import func, select
from tests.factories import FINGERPRINT, make_files, make_manifest, make_weights, sha256
from tests.registry.conftest import Hub, ok, problem
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from adapterhub_client import wire
from adapterhub_registry.models import Account, AuditEvent, Membership

HIDDEN = "intent/hidden@lab"
FILES = {
    "adapter_config.json": b'{"config": {"reduction_factor": 3}}',
    "adapter.safetensors": make_weights(77),
    "README.md": b"# Not for everyone\n",
}
METRIC = wire.Metric(dataset="tickets", split="test", name="accuracy", value=0.99)
MANIFEST = make_manifest(
    HIDDEN,
    FILES,
    base={"name": "house-bert", "fingerprint": "sha256:" + "e" * 64},
    method={"name": "house_method"},
    metrics=[METRIC],
    description="clandestine",
    languages=["xx"],
)
DIGEST = wire.digest(MANIFEST)
BLOB = sha256(FILES["adapter.safetensors"])

VALUES: dict[str, str] = {
    "access": "read",
    "alias": "stable",
    "branch": "side",
    "dataset": "tickets",
    "digest": DIGEST,
    "direction": "read",
    "filename": "site.css",
    "fingerprint": MANIFEST.base.fingerprint or "",
    "invitation_id": "1",
    "kind": "datasets",
    "metric": "accuracy",
    "model_name": "house-bert",
    "name_at_org": "hidden@lab",
    "number": "1",
    "path": "adapter.safetensors",
    "permit": "none",
    "rest": "lab/intent.hidden",
    "revision": "main",
    "sha256": BLOB,
    "tag": "stable",
    "task": "intent",
    "token_id": "1",
    "upload_id": "0" * 32,
    "version": "1",
    "organization": "lab",
    "file": "hidden",
}
BODIES: dict[str, Any] = {
    "accounts.change_account": {"disabled": True},
    "accounts.create_account": {"name": "new"},
    "accounts.set_password": {"new": "a password of theirs"},
    "accounts.sign_in": {"name": "lab", "password": "a guess at it", "label": "x"},
    "huggingface_administration.add_branch": {},
    "huggingface_administration.add_tag": {"tag": "stable"},
    "huggingface_administration.create": {"name": "intent.hidden", "organization": "lab"},
    "huggingface_administration.delete": {"name": "intent.hidden", "organization": "lab"},
    "huggingface_administration.move": {
        "fromRepo": "lab/intent.hidden",
        "toRepo": "mallory/intent.mine",
    },
    "huggingface_administration.settings": {"private": False},
    "huggingface_largefile.batch": {
        "operation": "upload",
        "objects": [{"oid": BLOB, "size": len(FILES["adapter.safetensors"])}],
    },
    "huggingface_largefile.verify": {"oid": BLOB, "size": len(FILES["adapter.safetensors"])},
    "huggingface_metadata.paths_info": {"paths": ["adapter.safetensors"]},
    "huggingface_upload.commit": {"key": "header", "value": {"summary": "x"}},
    "huggingface_upload.preupload": {"files": [{"path": "a.txt", "size": 1, "sample": ""}]},
    "huggingface_upload.validate_yaml": {"content": "", "repoType": "model"},
    "invitations.accept": {
        "secret": "ahub_invite_guess",
        "name": "new",
        "password": "a password of theirs",
    },
    "invitations.create": {"label": "a friend"},
    "invitations.create_in": {"label": "a friend", "role": "admin"},
    "organizations.create": {"name": "lab"},
    "organizations.set_member": {"role": "admin"},
    "organizations.set_quota": {"max_bytes": 1},
    "ownership.set_visibility": {"private": False},
    "ownership.transfer": {"org": "mallory"},
    "tokens.create_token": {"label": "x"},
    "tokens.rotate_token": {},
    "uploads.begin": msgspec.to_builtins(
        wire.UploadDraft(manifest=make_manifest(HIDDEN, make_files(3)))
    ),
    "versions.deprecate": {"reason": "wrong"},
    "versions.restore": {},
    "versions.set_alias": {"version": "1"},
    "versions.yank": {"reason": "wrong"},
}
FORMS: dict[str, dict[str, str]] = {
    "web.change_account": {"change": "disable"},
    "web.create_account": {"name": "new"},
    "web.fits_leaves": {"leaves": "{}"},
    "web.invite": {"label": "a friend", "role": "admin"},
    "web.invite_into_registry": {"label": "a friend"},
    "web.join": {
        "invitation": "ahub_invite_guess",
        "name": "new",
        "password": "a password of theirs",
    },
    "web.set_alias": {"alias": "stable"},
    "web.set_member": {"name": "mallory", "role": "admin"},
    "web.set_quota": {"max_versions": "1"},
    "web.set_status": {"status": "yanked", "reason": "wrong"},
    "web.set_visibility": {"private": "false"},
    "web.upload": {"task": "intent", "name": "hidden", "org": "lab"},
}
QUERIES: dict[str, list[str]] = {
    "adapters.list_adapters": [
        "?q=hidden&facets=true",
        "?q=clandestine",
        "?task=intent",
        "?base=house-bert",
        "?language=xx",
        "?q=metric:accuracy@tickets",
        "?sort=metric:accuracy@tickets",
        "?facets=true",
        "?q=hiden",
    ],
    "adapters.resolve": [
        f"?ref={HIDDEN}",
        f"?ref={HIDDEN}:1",
        f"?ref={HIDDEN}:{DIGEST}",
        "?ref=lab/intent.hidden",
    ],
    "audit.read": ["?org=lab", f"?subject={HIDDEN}"],
    "blobs.blob": ["", f"?version={DIGEST}"],
    "catalogue.compatible": [f"?base={MANIFEST.base.fingerprint}", "?base=house-bert"],
    "catalogue.leaderboard": ["?dataset=tickets&metric=accuracy"],
    "huggingface_listing.models": ["?search=hidden", "?author=lab", "?filter=intent"],
    "ownership.delete": ["?reason=mine"],
    "versions.delete": ["?reason=mine"],
    "web.adapter_list": [
        "?q=hidden",
        "?task=intent",
        "?dataset=tickets",
        "?sort=metric:accuracy@tickets",
        "",
    ],
    "web.compare_page": [f"?with={HIDDEN}&with=sts/open@lab", f"?with={HIDDEN}:{DIGEST}"],
    "web.diff_page": ["", "?from=1&to=1"],
    "web.feed": ["?q=hidden", "?task=intent", ""],
    "web.fits_page": ["", f"?base={MANIFEST.base.fingerprint}", "?base=house-bert"],
    "web.join_page": ["?invitation=ahub_invite_guess"],
    "web.leaderboard_page": ["", "?metric=accuracy"],
}
NAMED = {  # what an argument stands for depends on the route
    "huggingface": {"namespace": "lab", "name": "intent.hidden", "path": "adapter.safetensors"},
    "adapters": {"name": "hidden", "org": "lab"},
    "orgs": {"org": "lab", "name": "mallory"},
    "accounts": {"name": "lab"},
    "tasks": {"name": "intent"},
    "methods": {"name": "house_method"},
    "operator": {"name": "lab"},
}
OWN = {  # about whoever asks alone, or about the asking itself
    "accounts.set_password",
    "accounts.sign_in",
    "metrics",
    "tokens.create_token",
    "tokens.revoke_token",
    "tokens.rotate_token",
    "tokens.tokens",
    "web.account_page",
    "web.activity_page",
    "web.create_organization",
    "web.create_token",
    "web.revoke_token",
    "web.rotate_token",
    "web.set_password",
    "web.sign_in",
    "web.sign_out",
    "web.token_page",
}
VARIES = {"Date", "RateLimit", "X-Request-Id"}


def cases(app: Flask) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every route, every method, with values that lead to the hidden adapter."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint in OWN:
            continue
        path = _path(rule)
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            for query in QUERIES.get(rule.endpoint, [""]):
                more: dict[str, Any] = {}
                if method in {"POST", "PUT", "DELETE", "PATCH"} and rule.endpoint in BODIES:
                    more["json"] = BODIES[rule.endpoint]
                elif method == "POST" and rule.endpoint in FORMS:
                    more["data"] = FORMS[rule.endpoint]
                yield method, path + query, more


def _path(rule: Rule) -> str:
    parts = rule.rule.split("/")
    of_route = next((NAMED[part] for part in parts if part in NAMED), {})
    if rule.endpoint.startswith("huggingface"):
        of_route = NAMED["huggingface"]
    elif rule.endpoint.startswith("web.") and "orgs" in parts:
        of_route = {"name": "lab"}

    def value(found: re.Match[str]) -> str:
        name = found[1]
        return of_route.get(name) or VALUES[name]

    return re.sub(r"<(?:[^:<>]+:)?(\w+)>", value, rule.rule)


def shown(answer: TestResponse) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in answer.headers.items() if name not in VARIES}
    return answer.status_code, headers, answer.data


def _differing(old: list[Any], new: list[Any]) -> list[Any]:
    """What of two answers is not the same, short enough to read."""
    headers = {name for name in {*old[1], *new[1]} if old[1].get(name) != new[1].get(name)}
    return [old[0], new[0], sorted(headers), old[2][-300:], new[2][-300:]]


@pytest.fixture
def lab(hub: Hub) -> str:
    """The admin of the organization `lab`, which has a public adapter too."""
    token = hub.token("lab")
    files = make_files(1)
    hub.publish(token, make_manifest("sts/open@lab", files), files)
    return token


def outsiders(hub: Hub, lab: str) -> dict[str, str | None]:
    """Those for whom the adapter shall not be there."""
    mallory, former, partner = (hub.token(name) for name in ("mallory", "former", "partner"))
    hub.call("PUT", "/orgs/lab/members/former", lab, body={"role": "writer"})
    hub.call("PUT", "/orgs/lab/members/former", lab, body={"role": None})
    hub.call("PUT", "/orgs/lab/members/partner", lab, body={"role": "admin"})
    body = {"label": "ci", "scopes": ["admin"], "organizations": ["partner"]}
    narrow = ok(hub.call("POST", "/tokens", partner, body=body), wire.Token)
    return {
        "nobody": None,
        "a stranger": mallory,
        "a former member": former,
        "a narrow token": narrow.secret,
    }


@pytest.mark.parametrize("who", ["nobody", "a stranger", "a former member", "a narrow token"])
def test_a1_private_is_exactly_as_missing_on_every_route(hub: Hub, lab: str, who: str) -> None:
    token = outsiders(hub, lab)[who]
    asked = list(cases(hub.app))

    def answers() -> list[Any]:
        found = []
        for method, path, more in asked:
            headers = {"Accept": "*/*"} | ({"Authorization": f"Bearer {token}"} if token else {})
            with hub.client.open(path, method=method, headers=headers, **more) as answer:
                found.append((method, path, *shown(answer)))
        return found

    before = answers()
    hub.publish(lab, MANIFEST, FILES, private=True)
    hub.call("PUT", f"/adapters/{HIDDEN}/aliases/stable", lab, body={"version": "1"})
    after = answers()

    assert len(asked) > 150
    differ = [
        (method, path, *_differing(old, new))
        for (method, path, *old), (_, _, *new) in zip(before, after, strict=True)
        if old != new
    ]
    assert differ == []


def test_a1_the_hidden_adapter_is_found_by_those_routes_where_one_may_read(
    hub: Hub, lab: str
) -> None:
    """Else the test above would compare nothing with nothing."""
    hub.publish(lab, MANIFEST, FILES, private=True)
    hub.call("PUT", f"/adapters/{HIDDEN}/aliases/stable", lab, body={"version": "1"})
    headers = {"Authorization": f"Bearer {lab}"}

    marks = (b"hidden", b"house-bert", b"reduction_factor", DIGEST[7:].encode())
    seen = []
    for method, path, more in cases(hub.app):
        if method != "GET":
            continue
        with hub.client.get(path, headers=headers, **more) as answer:
            if answer.status_code == 200 and any(mark in answer.data for mark in marks):
                seen.append(path)

    assert len(seen) >= 35, seen


# ---------------------------------------------------------------- what each role may do


Act = Callable[["Cast", str | None], TestResponse]


class Cast:
    """A registry with one public and one private adapter of `lab`, and somebody in every role."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        admin = hub.token("boss")
        hub.call("POST", "/orgs", admin, body={"name": "lab"})
        self.tokens: dict[str, str | None] = {"nobody": None, "stranger": hub.token("stranger")}
        for role in ("reader", "writer"):
            self.tokens[role] = hub.token(f"the-{role}")
            hub.call("PUT", f"/orgs/lab/members/the-{role}", admin, body={"role": role})
        self.tokens["admin"] = admin
        for scope in ("read", "write"):
            self.tokens[f"admin, {scope} token"] = hub.token("boss", scope)  # type: ignore[arg-type]
        self.tokens["operator"] = hub.token("root")
        with hub.runtime.database.writing() as session:
            session.scalars(select(Account).filter_by(name="root")).one().is_admin = True
        for at, (name, private) in enumerate((("open", False), ("closed", True))):
            files = make_files(at)
            hub.publish(admin, make_manifest(f"nli/{name}@lab", files), files, private=private)

    def api(self, method: str, path: str, body: object = None) -> Act:
        more = {} if body is None else {"body": body}
        return lambda cast, token: cast.hub.call(method, path, token, **more)

    def hf(self, method: str, path: str, body: object = None) -> Act:
        def act(cast: "Cast", token: str | None) -> TestResponse:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return cast.hub.client.open(path, method=method, headers=headers, json=body)

        return act


EVERYONE = [
    "nobody",
    "stranger",
    "reader",
    "writer",
    "admin",
    "admin, read token",
    "admin, write token",
    "operator",
]
MEMBERS = EVERYONE[2:]
WRITERS = ["writer", "admin", "admin, write token", "operator"]
ADMINS = ["admin", "admin, write token", "operator"]
OWNERS = ["admin", "operator"]  # of the organization itself: with a token of the scope `admin`
COMMIT = {"key": "header", "value": {"summary": "x"}}

MATRIX: dict[str, tuple[tuple[str, str, Any], list[str]]] = {
    "read public": (("GET", "/adapters/nli/open@lab", None), EVERYONE),
    "read private": (("GET", "/adapters/nli/closed@lab", None), MEMBERS),
    "resolve private": (("GET", "/resolve?ref=nli/closed@lab", None), MEMBERS),
    "publish": (("POST", "/uploads", "draft"), WRITERS),
    "yank": (("POST", "/adapters/nli/open@lab/versions/1/yank", {"reason": "x"}), WRITERS),
    "deprecate": (
        ("POST", "/adapters/nli/open@lab/versions/1/deprecate", {"reason": "x"}),
        WRITERS,
    ),
    "set alias": (("PUT", "/adapters/nli/open@lab/aliases/stable", {"version": "1"}), WRITERS),
    "hide": (("PUT", "/adapters/nli/open@lab/visibility", {"private": True}), ADMINS),
    "delete": (("DELETE", "/adapters/nli/open@lab?reason=x", None), ADMINS),
    "delete a version": (("DELETE", "/adapters/nli/open@lab/versions/1?reason=x", None), ADMINS),
    "set member": (("PUT", "/orgs/lab/members/stranger", {"role": "reader"}), OWNERS),
    "invite": (("POST", "/orgs/lab/invitations", {"label": "x"}), OWNERS),
    "see invitations": (("GET", "/orgs/lab/invitations", None), OWNERS),
    "see quota": (("GET", "/orgs/lab/quota", None), MEMBERS),
    "set quota": (("PUT", "/orgs/lab/quota", {"max_bytes": 0}), ["operator"]),
    "read the audit log": (("GET", "/audit?org=lab", None), OWNERS),
    "list accounts": (("GET", "/accounts", None), ["operator"]),
    "make an account": (("POST", "/accounts", {"name": "x"}), ["operator"]),
    "invite into the registry": (("POST", "/invitations", {"label": "x"}), ["operator"]),
}
HUGGING_FACE: dict[str, tuple[tuple[str, str, Any], list[str]]] = {
    "info of public": (("GET", "/api/models/lab/nli.open", None), EVERYONE),
    "info of private": (("GET", "/api/models/lab/nli.closed", None), MEMBERS),
    "file of private": (("GET", "/lab/nli.closed/resolve/main/README.md", None), MEMBERS),
    "tree of private": (("GET", "/api/models/lab/nli.closed/tree/main", None), MEMBERS),
    "create": (("POST", "/api/repos/create", {"name": "nli.new", "organization": "lab"}), WRITERS),
    "preupload": (("POST", "/api/models/lab/nli.open/preupload/main", {"files": []}), WRITERS),
    "branch": (("POST", "/api/models/lab/nli.open/branch/side", {}), WRITERS),
    "tag": (("POST", "/api/models/lab/nli.open/tag/main", {"tag": "good"}), WRITERS),
    "settings": (("PUT", "/api/models/lab/nli.open/settings", {"private": True}), ADMINS),
    "remove": (
        ("DELETE", "/api/repos/delete", {"name": "nli.open", "organization": "lab"}),
        ADMINS,
    ),
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # nothing here depends on it
@pytest.mark.parametrize("what", [*MATRIX, *(f"hugging face: {each}" for each in HUGGING_FACE)])
@pytest.mark.parametrize("who", EVERYONE)
def test_a1_each_role_may_do_what_it_may(hub: Hub, who: str, what: str) -> None:
    cast = Cast(hub)
    known = what.removeprefix("hugging face: ")
    (method, path, body), allowed = (HUGGING_FACE if known != what else MATRIX)[known]
    if body == "draft":
        draft = wire.UploadDraft(manifest=make_manifest("nli/new@lab", make_files(5)))
        body = msgspec.to_builtins(draft)
    act = (cast.hf if known != what else cast.api)(method, path, body)

    answer = act(cast, cast.tokens[who])

    if who in allowed:
        assert answer.status_code < 300, answer.text
    else:
        assert answer.status_code in {401, 403, 404}, answer.text
        hidden = "private" in what and who in {"nobody", "stranger"}
        assert (answer.status_code in {401, 404}) or not hidden


# ---------------------------------------------------------------- A2, A3: what ends, and what is somebody else's


def halfway(
    hub: Hub, token: str, reference: str = "nli/half@ukp"
) -> tuple[wire.Upload, dict[str, bytes]]:
    files = make_files(4)
    upload = hub.begin(token, make_manifest(reference, files))
    contents = {file.sha256: files[file.path] for file in make_manifest(reference, files).files}
    first = upload.missing[0]
    path = first.url.removeprefix("/api/v1")
    assert hub.call("PUT", path, token, data=contents[first.sha256]).status_code == 204
    return upload, contents


@pytest.mark.parametrize("how", ["revoked", "expired", "disabled", "taken out"])
def test_a2_who_loses_the_right_on_the_way_publishes_nothing(hub: Hub, how: str) -> None:
    boss = hub.token("ukp")
    hub.token("ada")
    hub.call("PUT", "/orgs/ukp/members/ada", boss, body={"role": "writer"})
    token = hub.token("ada", "write", days=1)
    upload, contents = halfway(hub, token)
    for target in upload.missing:
        hub.call("PUT", target.url.removeprefix("/api/v1"), token, data=contents[target.sha256])

    if how == "revoked":
        mine = ok(hub.get("/tokens", token), list[wire.Token])[-1]
        hub.call("DELETE", f"/tokens/{mine.id}", token)
    elif how == "expired":
        hub.clock.moment += timedelta(days=1)
        boss = hub.token("ukp")
    elif how == "disabled":
        with hub.runtime.database.writing() as session:
            session.scalars(select(Account).filter_by(name="ada")).one().disabled_at = hub.clock()
    else:
        hub.call("PUT", "/orgs/ukp/members/ada", boss, body={"role": None})
    answer = hub.call("POST", f"/uploads/{upload.id}/commit", token)

    assert answer.status_code == (403 if how == "taken out" else 401)
    assert hub.get("/adapters/nli/half@ukp", boss).status_code == 404


def test_a2_a_role_is_looked_up_at_the_commit_not_at_the_begin(hub: Hub) -> None:
    boss, ada = hub.token("ukp"), hub.token("ada", "write")
    hub.call("PUT", "/orgs/ukp/members/ada", boss, body={"role": "writer"})
    upload, contents = halfway(hub, ada)
    hub.call("PUT", "/orgs/ukp/members/ada", boss, body={"role": "reader"})

    for target in upload.missing:
        hub.call("PUT", target.url.removeprefix("/api/v1"), ada, data=contents[target.sha256])
    refused = hub.call("POST", f"/uploads/{upload.id}/commit", ada)

    assert (refused.status_code, problem(refused).code) == (403, "missing_role")


@pytest.mark.parametrize(
    "verb", ["PUT a blob", "POST a batch", "PUT a part", "GET parts", "POST commit"]
)
def test_a3_an_upload_is_nobody_elses(hub: Hub, verb: str) -> None:
    ukp, mallory = hub.token("ukp"), hub.token("mallory")
    hub.call("PUT", "/orgs/ukp/members/mallory", ukp, body={"role": "writer"})
    upload, contents = halfway(hub, ukp)
    target = upload.missing[-1]
    blob = f"/uploads/{upload.id}/blobs/{target.sha256}"
    content = contents[target.sha256]
    calls: dict[str, tuple[str, str, Any]] = {
        "PUT a blob": ("PUT", blob, content),
        "POST a batch": (
            "POST",
            f"/uploads/{upload.id}/blobs",
            bytes.fromhex(target.sha256) + content,
        ),
        "PUT a part": ("PUT", f"{blob}/parts/1", content),
        "GET parts": ("GET", f"{blob}/parts", None),
        "POST commit": ("POST", f"/uploads/{upload.id}/commit", None),
    }
    method, path, data = calls[verb]

    answer = hub.call(method, path, mallory, data=data)

    assert (answer.status_code, problem(answer).code) == (404, "upload_not_found")


def lfs(hub: Hub, token: str, content: bytes) -> dict[str, Any]:
    body = {"operation": "upload", "objects": [{"oid": sha256(content), "size": len(content)}]}
    headers = {"Authorization": f"Bearer {token}"}
    answer = hub.client.post(
        "/ukp/nli.large.git/info/lfs/objects/batch", json=body, headers=headers
    )
    return json.loads(answer.data)["objects"][0]


def test_a3_an_address_for_a_large_file_is_for_that_file_alone(hub: Hub) -> None:
    ukp, mallory = hub.token("ukp"), hub.token("mallory")
    headers = {"Authorization": f"Bearer {ukp}"}
    hub.client.post(
        "/api/repos/create", json={"name": "nli.large", "organization": "ukp"}, headers=headers
    )
    mine, other = make_weights(1), make_weights(2)
    href = lfs(hub, ukp, mine)["actions"]["upload"]["href"].removeprefix("http://localhost")

    foreign = hub.client.put(href, data=other)
    forged = hub.client.put(href[:-2] + ("aa" if href[-2:] != "aa" else "bb"), data=mine)
    sent = hub.client.put(href, data=mine)
    verify = {"oid": sha256(mine), "size": len(mine)}
    path = "/api/models/ukp/nli.large/lfs-verify"
    of_another = hub.client.post(path, json=verify, headers={"Authorization": f"Bearer {mallory}"})
    hub.call("PUT", "/orgs/ukp/members/mallory", ukp, body={"role": "writer"})
    of_a_writer = hub.client.post(path, json=verify, headers={"Authorization": f"Bearer {mallory}"})

    assert (foreign.status_code, forged.status_code, sent.status_code) == (422, 403, 200)
    assert of_another.status_code == 403
    assert of_a_writer.status_code == 409
    assert hub.client.post(path, json=verify, headers=headers).status_code == 200


# ---------------------------------------------------------------- A5: the audit log


def test_a5_every_change_is_in_the_log_with_its_request(hub: Hub) -> None:
    cast = Cast(hub)
    admin, operator = cast.tokens["admin"], cast.tokens["operator"]
    changes = [
        (admin, "POST", "/tokens", {"label": "x"}),
        (admin, "POST", "/orgs", {"name": "another"}),
        (admin, "PUT", "/orgs/lab/members/stranger", {"role": "reader"}),
        (admin, "POST", "/orgs/lab/invitations", {"label": "x"}),
        (operator, "PUT", "/orgs/lab/quota", {"max_bytes": 0}),
        (operator, "POST", "/accounts", {"name": "made"}),
        (operator, "PUT", "/accounts/made", {"disabled": True}),
        (operator, "POST", "/invitations", {"label": "x"}),
        (admin, "PUT", "/password", {"new": "a password of theirs"}),
        (admin, "POST", "/adapters/nli/open@lab/versions/1/deprecate", {"reason": "x"}),
        (admin, "POST", "/adapters/nli/open@lab/versions/1/yank", {"reason": "x"}),
        (admin, "POST", "/adapters/nli/open@lab/versions/1/restore", {}),
        (admin, "PUT", "/adapters/nli/open@lab/aliases/stable", {"version": "1"}),
        (admin, "DELETE", "/adapters/nli/open@lab/aliases/stable", None),
        (admin, "PUT", "/adapters/nli/closed@lab/visibility", {"private": False}),
        (admin, "POST", "/adapters/nli/open@lab/transfer", {"org": "another"}),
        (admin, "DELETE", "/adapters/nli/closed@lab/versions/1?reason=x", None),
        (admin, "DELETE", "/adapters/nli/open@another?reason=x", None),
    ]

    for token, method, path, body in changes:
        more = {} if body is None else {"body": body}
        answer = hub.call(method, path, token, **more)
        assert answer.status_code < 300, (path, answer.text)
        with hub.runtime.database.reading() as session:
            request_id = answer.headers["X-Request-Id"]
            logged = session.scalars(select(AuditEvent).filter_by(request_id=request_id)).all()
        assert logged, path
        assert all(each.account_id is not None for each in logged), path


def test_a5_what_is_refused_at_the_end_leaves_no_entry(hub: Hub) -> None:
    cast = Cast(hub)
    hub.call("PUT", "/orgs/lab/quota", cast.tokens["operator"], body={"max_bytes": 1})
    with hub.runtime.database.reading() as session:
        before = session.scalar(select(func.count()).select_from(AuditEvent))
        members = session.scalar(select(func.count()).select_from(Membership))
    admin = cast.tokens["admin"]

    files = make_files(6)
    hub.publish(str(admin), make_manifest("nli/mine@boss", files), files)
    refused = hub.call("POST", "/adapters/nli/mine@boss/transfer", admin, body={"org": "lab"})

    with hub.runtime.database.reading() as session:
        after = session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)).all()
        assert session.scalar(select(func.count()).select_from(Membership)) == members
    assert problem(refused).code == "quota_exceeded"
    assert after[before:] == ["adapter.create", "version.publish"]


def test_no_token_is_in_an_address_or_an_error(hub: Hub) -> None:
    token = hub.token("ukp")
    asked = [
        hub.get(f"/adapters?q={token}"),
        hub.get(f"/resolve?ref={token}"),
        hub.get("/whoami", token + "x"),
    ]

    assert FINGERPRINT  # the factories are those of every test
    for answer in asked:
        assert token + "x" not in answer.text
        assert token not in str(answer.headers)
