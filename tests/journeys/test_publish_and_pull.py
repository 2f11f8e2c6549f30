"""From one machine to another: what is pushed is what is pulled, whatever happens on the way."""

import hashlib
import os
import time
import uuid

import psycopg
import pytest
import torch
from tests.factories import make_folder
from transformers import AutoModel

from adapterhub_client import Hub, compose


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_adapter_travels_and_gives_the_same_answers(hub, trained, base_folder):
    folder, inputs, logits = trained
    version = hub.push("nli/cb@me", folder)

    model = AutoModel.from_pretrained(base_folder).eval()
    before = model(**inputs).last_hidden_state
    adapted = compose.attach(model, hub=hub)
    name = adapted.load(f"nli/cb@me:{version.number}")
    adapted.activate(name, head=name)
    with torch.no_grad():
        received = adapted(**inputs).logits
    adapted.detach()

    assert torch.equal(received, logits)
    assert torch.equal(model(**inputs).last_hidden_state, before)


def test_the_same_push_again_is_the_same_version(client, tmp_path):
    folder = make_folder(tmp_path / "a")

    first = client.json("push", "nli/again@me", folder)
    second = client.json("push", "nli/again@me", folder)
    (folder / "README.md").write_text("# Now with a card")
    third = client.json("push", "nli/again@me", folder)

    assert first == second
    assert (first["number"], third["number"]) == (1, 2)


def test_a_pull_brings_the_bytes_that_were_pushed(client, stranger, tmp_path):
    folder = make_folder(tmp_path / "a", seed=3)
    client.json("push", "nli/bytes@me", folder)

    code, out, err = stranger("pull", "nli/bytes@me")

    assert code == 0, err
    pulled = {
        path.name: path.read_bytes() for path in map(type(folder), [out]) for path in path.iterdir()
    }
    assert pulled.pop("manifest.json")
    assert pulled == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert stranger("verify", "nli/bytes@me")[0] == 0


def test_a_push_killed_at_any_moment_leaves_nothing_half(client, server, tmp_path):
    folder = make_folder(tmp_path / "a", size_bytes=30_000_000, seed=4)
    seen = set()

    for step in range(8):
        process = client.start("push", "nli/killed@me", folder)
        time.sleep(0.15 + 0.12 * step)
        process.kill()
        process.communicate()
        with Hub(server.url, cache=tmp_path / f"cache{step}") as visitor:
            page = visitor.search("killed", org="me")
            for item in page.items:
                manifest = visitor.resolve(item.reference).manifest
                assert visitor.verify(visitor.pull(item.reference)) == manifest
            seen.add(page.total)
    code, out, err = client("push", "nli/killed@me", folder)

    assert code == 0, err
    assert out.startswith("nli/killed@me:1 ")
    assert seen <= {0, 1}
    assert 0 in seen


def test_a_pull_killed_at_any_moment_resumes_with_the_right_bytes(client, stranger, tmp_path):
    folder = make_folder(tmp_path / "a", size_bytes=120_000_000, seed=5)
    assert client("push", "nli/large@me", folder)[0] == 0
    interrupted = 0

    for _ in range(6):
        process = stranger.start("pull", "nli/large@me")
        partial = stranger.cache / "partial" / digest_of(folder / "adapter.safetensors")
        before = partial.stat().st_size if partial.exists() else 0
        while process.poll() is None and not (partial.exists() and partial.stat().st_size > before):
            time.sleep(0.001)
        process.kill()
        process.communicate()
        interrupted += partial.exists() and 0 < partial.stat().st_size < 120_000_000
        assert (
            not list(stranger.cache.glob("snapshots/me/*/*/manifest.json")) or not partial.exists()
        )
    code, out, err = stranger("pull", "nli/large@me")

    assert code == 0, err
    assert interrupted > 0
    assert digest_of(type(folder)(out) / "adapter.safetensors") == digest_of(
        folder / "adapter.safetensors"
    )


def test_two_processes_pull_into_one_cache(client, stranger, tmp_path):
    folder = make_folder(tmp_path / "a", size_bytes=20_000_000, seed=6)
    assert client("push", "nli/both@me", folder)[0] == 0

    processes = [stranger.start("pull", "nli/both@me") for _ in range(4)]
    results = [(process.communicate()[0].strip(), process.returncode) for process in processes]

    assert {code for _, code in results} == {0}
    assert len({out for out, _ in results}) == 1


def test_a_corrupt_blob_is_refused_and_nothing_stays(client, stranger, server, tmp_path):
    folder = make_folder(tmp_path / "a", seed=7)
    client.json("push", "nli/rotten@me", folder)
    digest = digest_of(folder / "adapter.safetensors")
    stored = next(path for path in server.home.rglob(digest) if path.is_file())
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.chmod(0o644)
    stored.write_bytes(content)

    code, out, err = stranger("pull", "nli/rotten@me")

    assert code == 65
    assert not out
    assert "adapter.safetensors" in err
    assert not list(stranger.cache.rglob(digest))
    assert not list(stranger.cache.glob("snapshots/me/nli.rotten/*"))


def test_a_server_killed_while_it_receives_leaves_the_old_state(new_server, new_client, tmp_path):
    server = new_server()
    client = new_client(server, server.token("me"))
    folder = make_folder(tmp_path / "a", size_bytes=60_000_000, seed=8)

    process = client.start("push", "nli/crash@me", folder)
    time.sleep(0.6)
    server.kill()
    process.communicate()
    server.start()
    code, out, err = client("push", "nli/crash@me", folder)

    assert code == 0, err
    assert out.startswith("nli/crash@me:1 ")
    server.admin("fsck")  # exit code 0: catalogue and blobs agree


@pytest.fixture
def production(new_server):
    """The registry on a PostgreSQL database and an S3 prefix of its own."""
    address, bucket = os.environ.get("DATABASE_URL"), os.environ.get("S3_BUCKET")
    if not (address and bucket and os.environ.get("AWS_ENDPOINT_URL_S3")):
        pytest.skip(
            "needs DATABASE_URL, AWS_ENDPOINT_URL_S3 and S3_BUCKET: a real PostgreSQL and a real S3 server"
        )
    name = f"journey_{uuid.uuid4().hex}"
    with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield new_server(
            ADAPTERHUB_DATABASE_URL=f"{address.rpartition('/')[0]}/{name}",
            ADAPTERHUB_BLOBS=f"s3://{bucket}/{name}",
        )
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_postgresql_and_s3_serve_the_same_journey(production, new_client, tmp_path):
    publisher = new_client(production, production.token("me"))
    folder = make_folder(tmp_path / "a", size_bytes=60_000_000, seed=9)
    code, out, err = publisher("push", "nli/cloud@me", folder)
    assert code == 0, err
    assert out.startswith("nli/cloud@me:1 ")
    visitor = new_client(production)
    visitor.environment["ADAPTERHUB_CACHE"] = str(tmp_path / "visitor")
    visitor.cache = tmp_path / "visitor"

    resumed_from = killed_in_the_middle(
        visitor, "nli/cloud@me", digest_of(folder / "adapter.safetensors")
    )
    code, pulled, err = visitor("pull", "nli/cloud@me")

    assert code == 0, err
    assert 0 < resumed_from < 60_000_000
    assert digest_of(type(folder)(pulled) / "adapter.safetensors") == digest_of(
        folder / "adapter.safetensors"
    )
    production.admin("fsck")


def killed_in_the_middle(client, reference, digest):
    """Kill a pull after its first bytes; returns how many are kept."""
    partial = client.cache / "partial" / digest
    process = client.start("pull", reference)
    while process.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    return partial.stat().st_size if partial.exists() else 0
