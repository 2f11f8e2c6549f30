"""The quick ways to resolve and to a manifest say what the slow ones say."""

from itertools import product

import pytest
from sqlalchemy import event
from tests.factories import FINGERPRINT, OTHER_FINGERPRINT, make_files, make_manifest
from tests.registry.conftest import Hub, problem, statements

from adapterhub_client import names
from adapterhub_registry.domain.permission import ANONYMOUS
from adapterhub_registry.errors import RegistryError
from adapterhub_registry.service import answering, representation
from adapterhub_registry.service.resolution import Wanted, find

ROBERTA = {"name": "roberta-base", "architecture": "roberta", "fingerprint": OTHER_FINGERPRINT}
LORA = {"name": "lora", "config_id": "1234"}


@pytest.fixture
def stocked(hub: Hub) -> Hub:
    token = hub.token("ukp")
    changes: list[dict[str, object]] = [
        {},
        {},
        {"base": ROBERTA},
        {"base": {**ROBERTA, "name": "bert-base-uncased"}},
        {"method": LORA},
    ]
    for seed, each in enumerate(changes):
        files = make_files(seed)
        hub.publish(token, make_manifest("nli/many@ukp", files, **each), files)
    files = make_files(9)
    hub.publish(token, make_manifest("nli/one@ukp", files), files)
    hub.publish(token, make_manifest("nli/hidden@ukp", make_files(8)), make_files(8), private=True)
    path = "/adapters/nli/many@ukp/versions/{}/yank"
    digest = hub.get("/adapters/nli/many@ukp/versions", token).json[0]["digest"]
    hub.call("POST", path.format(digest), token, body={"reason": "wrong"})
    hub.call("PUT", "/adapters/nli/one@ukp/aliases/stable", token, body={"version": "1"})
    return hub


def test_resolve_answers_the_same_quickly_and_slowly(stocked: Hub) -> None:
    bases = [None, FINGERPRINT, OTHER_FINGERPRINT, "bert-base-uncased", "roberta-base", "none"]
    configs = [None, "lora", "seq_bn", "1234", "none"]
    digest = stocked.get("/adapters/nli/one@ukp/versions").json[0]["digest"]
    pins = [None, "1", "2", "3", "stable", digest]
    adapters = ["nli/many@ukp", "nli/one@ukp", "nli/hidden@ukp", "nli/none@ukp"]
    quick = 0
    with stocked.runtime.database.reading() as session:
        for name, pin, base, config in product(adapters, pins, bases, configs):
            reference = names.parse(name).at(pin)
            wanted = Wanted(base=base, config=config)
            found = answering.resolved(session.connection(), ANONYMOUS, reference, wanted)
            if found is None:
                continue
            quick += 1
            row, fell_back = find(session, ANONYMOUS, reference, wanted)
            assert found.version == representation.version(row)
            assert bytes(found.manifest) == row.manifest
            assert fell_back is found.fell_back is False
    assert quick > 40


def test_what_is_found_slowly_alone_is_an_alias(stocked: Hub) -> None:
    wanted = Wanted()
    with stocked.runtime.database.reading() as session:
        for name, pin in product(["nli/many@ukp", "nli/one@ukp"], [None, "1", "2", "stable"]):
            reference = names.parse(name).at(pin)
            try:
                find(session, ANONYMOUS, reference, wanted)
            except RegistryError:
                continue
            found = answering.resolved(session.connection(), ANONYMOUS, reference, wanted)
            assert (found is None) == (pin == "stable")


def test_resolve_and_manifest_cost_few_queries(stocked: Hub) -> None:
    digest = stocked.get("/adapters/nli/one@ukp/versions").json[0]["digest"]
    paths = ["/resolve?ref=nli/one@ukp", f"/manifests/{digest}", f"/manifests/{digest}"]
    headers = [{}, {}, {"If-None-Match": f'"{digest}"'}]
    said, answers = [], []
    for path, sent in zip(paths, headers, strict=True):
        with statements(stocked) as heard:
            answers.append(stocked.get(path, headers=sent).status_code)
        said.append([statement for statement, _ in heard if not statement.startswith("BEGIN")])

    assert answers == [200, 200, 304]
    assert [len(each) for each in said] == [1, 1, 1]
    assert "manifest" not in said[2][0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/resolve?ref=nli/one@ukp", 200, id="resolved"),
        pytest.param("/resolve?ref=nli/nothing@ukp", 404, id="no such adapter"),
        pytest.param("/resolve?ref=nli/one@ukp:stable", 200, id="an alias"),
        pytest.param(f"/manifests/sha256:{'0' * 64}", 404, id="no such manifest"),
    ],
)
def test_a_request_takes_one_connection_also_where_nothing_is_found(
    stocked: Hub, path: str, status: int
) -> None:
    taken: list[object] = []
    engine = stocked.runtime.database.engine

    def note(connection: object, *_rest: object) -> None:
        taken.append(connection)

    event.listen(engine, "checkout", note)
    answer = stocked.get(path)
    event.remove(engine, "checkout", note)

    assert answer.status_code == status
    assert len(taken) == 1
    assert engine.pool.checkedout() == 0


def test_a_held_digest_says_nothing_about_what_is_private(stocked: Hub) -> None:
    token = stocked.token("ukp")
    digest = stocked.get("/adapters/nli/hidden@ukp/versions", token).json[0]["digest"]
    headers = {"If-None-Match": f'"{digest}"'}

    assert stocked.get(f"/manifests/{digest}", token, headers=headers).status_code == 304
    assert problem(stocked.get(f"/manifests/{digest}", headers=headers)).status == 404
