"""Large files by git's LFS protocol."""

import pytest
from tests.factories import make_weights, sha256

from adapterhub_registry.huggingface import largefile

REPO = "ukp/nli.large"
CONTENT = make_weights(5)
OID, SIZE = sha256(CONTENT), len(CONTENT)
BATCH = f"/{REPO}.git/info/lfs/objects/batch"


@pytest.fixture
def repository(ukp):
    assert ukp.create(REPO).status_code == 200
    return REPO


@pytest.fixture
def small_parts(monkeypatch):
    """Parts so small that a test can send several."""
    monkeypatch.setattr(
        largefile, "part_sizes", lambda size: [min(50, size - at) for at in range(0, size, 50)]
    )


def ask(client, *transfers, content=CONTENT):
    body = {
        "operation": "upload",
        "transfers": list(transfers) or ["basic"],
        "objects": [{"oid": sha256(content), "size": len(content)}],
        "hash_algo": "sha256",
    }
    found = client.post(BATCH, body)
    assert found.status_code == 200, found.text
    return found.get_json()


def local(href):
    return href.removeprefix("http://localhost")


def commit(client, oid=OID, size=SIZE):
    value = {"path": "model.safetensors", "algo": "sha256", "oid": oid, "size": size}
    return client.commit(REPO, {}, {"key": "lfsFile", "value": value})


def test_an_object_goes_to_an_address_that_needs_no_token(ukp, anyone, repository):
    [found] = ask(ukp)["objects"]
    actions = found["actions"]

    put = anyone.call("PUT", local(actions["upload"]["href"]), data=CONTENT)
    verified = ukp.post(local(actions["verify"]["href"]), {"oid": OID, "size": len(CONTENT)})
    committed = commit(ukp)

    assert (put.status_code, verified.status_code, committed.status_code) == (200, 200, 200)
    assert anyone.file(REPO, "model.safetensors").data == CONTENT
    assert "actions" not in ask(ukp)["objects"][0]


def test_an_object_may_go_in_parts(ukp, anyone, repository, small_parts):
    answer = ask(ukp, "basic", "multipart")
    upload = answer["objects"][0]["actions"]["upload"]
    size = int(upload["header"].pop("chunk_size"))
    etags = []
    for number, href in sorted(upload["header"].items(), key=lambda item: int(item[0])):
        start = (int(number) - 1) * size
        put = anyone.call("PUT", local(href), data=CONTENT[start : start + size])
        assert put.status_code == 200, put.text
        etags.append({"partNumber": int(number), "etag": put.headers["ETag"]})

    completed = anyone.post(local(upload["href"]), {"oid": OID, "parts": etags})

    assert (answer["transfer"], completed.status_code) == ("multipart", 200)
    assert len(etags) == -(-len(CONTENT) // size) > 1
    assert commit(ukp).status_code == 200
    assert anyone.file(REPO, "model.safetensors").data == CONTENT


def test_parts_that_are_not_all_are_refused(ukp, anyone, repository, small_parts):
    upload = ask(ukp, "multipart")["objects"][0]["actions"]["upload"]
    body = {"oid": OID, "parts": [{"partNumber": 1, "etag": '"' + "0" * 64 + '"'}]}

    assert anyone.post(local(upload["href"]), body).status_code == 400
    assert commit(ukp).status_code == 409


def test_parts_of_other_bytes_are_refused_with_the_commit(ukp, anyone, repository, small_parts):
    upload = ask(ukp, "multipart")["objects"][0]["actions"]["upload"]
    size = int(upload["header"].pop("chunk_size"))
    for number, href in upload["header"].items():
        length = min(size, SIZE - (int(number) - 1) * size)
        assert anyone.call("PUT", local(href), data=b"x" * length).status_code == 200
        assert anyone.call("PUT", local(href), data=b"x" * (length + 1)).status_code == 422

    assert commit(ukp).status_code == 422
    assert commit(ukp).status_code == 409


def test_other_bytes_are_refused(ukp, anyone, repository):
    href = local(ask(ukp)["objects"][0]["actions"]["upload"]["href"])

    assert anyone.call("PUT", href, data=b"x" * len(CONTENT)).status_code == 422
    assert anyone.call("PUT", href, data=CONTENT[:-1]).status_code == 422
    assert commit(ukp).status_code == 409


def test_an_address_that_was_changed_or_has_expired_is_refused(hub, ukp, anyone, repository):
    href = local(ask(ukp)["objects"][0]["actions"]["upload"]["href"])
    changed = href[:-1] + ("A" if href[-1] != "A" else "B")

    assert anyone.call("PUT", changed, data=CONTENT).status_code == 403
    assert anyone.call("PUT", "/api/lfs/made-up", data=CONTENT).status_code == 403
    hub.clock.move(hours=25)
    assert anyone.call("PUT", href, data=CONTENT).status_code == 403


def test_naming_a_hash_gives_nobody_its_bytes(hub, ukp, anyone, repository):
    other = type(anyone)(hub, hub.token("other"))
    other.create("other/nli.secret", visibility="private")
    other.commit("other/nli.secret", {"model.safetensors": CONTENT})

    assert "actions" in ask(ukp)["objects"][0]
    assert commit(ukp).status_code == 409
    assert commit(ukp, size=None).status_code == 409


def test_only_writers_may_ask(hub, ukp, anyone, repository):
    other = type(anyone)(hub, hub.token("other"))
    body = {"operation": "upload", "objects": []}

    assert anyone.post(BATCH, body).status_code == 401
    assert other.post(BATCH, body).status_code == 403


def test_an_object_that_cannot_be_says_why(ukp, repository):
    body = {
        "operation": "upload",
        "objects": [{"oid": "short", "size": 1}, {"oid": OID, "size": 1 << 50}],
    }

    found = ukp.post(BATCH, body).get_json()["objects"]

    assert [each["error"]["code"] for each in found] == [422, 413]
