"""From one machine to another: what is pushed is what is pulled, whatever happens on the way."""

import hashlib
import json
import os
import shutil
import subprocess
import time
import uuid

import numpy as np
import psycopg
import pytest
import torch
from safetensors.numpy import save_file
from transformers import AutoModel, BertConfig, BertForSequenceClassification, BertModel

from adapterhub_client import Hub, compose
from adapterhub_client.errors import WrongBase

CONFIG = {
    "config": {
        "mh_adapter": False,
        "output_adapter": True,
        "reduction_factor": 16,
        "non_linearity": "relu",
        "original_ln_before": True,
        "original_ln_after": True,
        "residual_before_ln": True,
    },
    "hidden_size": 32,
    "model_type": "bert",
    "model_name": "tiny",
    "name": "a",
    "version": "adapters.1.3.0",
}


def make_folder(folder, *, size_bytes=4000, seed=0):
    """Write an adapter folder whose weights have about this size."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    values = np.random.default_rng(seed).standard_normal(size_bytes // 4).astype(np.float32)
    save_file(
        {"encoder.layer.0.output.adapters.a.adapter_down.0.weight": values},
        folder / "adapter.safetensors",
    )
    return folder


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def hub(server, write_token, tmp_path):
    with Hub(server.url, write_token, tmp_path / "cache") as opened:
        yield opened


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


# ---------------------------------------------------------------- the right base


@pytest.fixture
def published(hub, trained):
    return hub.push("nli/based@me", trained[0])


def other_bert(base_folder):
    """A BERT of exactly MiniLM's shape, with other weights."""
    config = AutoModel.from_pretrained(base_folder).config
    torch.manual_seed(0)
    return BertModel(BertConfig(**{**config.to_dict(), "architectures": None}))


def test_another_base_of_the_same_shape_is_refused_with_its_tensors(published, hub, base_folder):
    with pytest.raises(WrongBase) as refusal:
        hub.pull("nli/based@me", base=other_bert(base_folder))

    assert "encoder.layer.0.attention.self.query.weight" in refusal.value.differing
    assert "tensors differ" in str(refusal.value)


def test_the_command_refuses_another_base_with_its_own_exit_code(
    published, client, base_folder, tmp_path
):
    other_bert(base_folder).save_pretrained(tmp_path / "other")

    code, _, err = client("pull", "nli/based@me", "--base", tmp_path / "other")
    allowed, out, _ = client(
        "pull", "nli/based@me", "--base", tmp_path / "other", "--allow-base-mismatch"
    )

    assert code == 68
    assert "tensors differ" in err
    assert "--allow-base-mismatch" in err
    assert allowed == 0
    assert out


@pytest.mark.parametrize("form", ["re-saved", "sharded", "with a head", "bfloat16", "folder"])
def test_the_same_base_is_accepted_in_every_form(form, published, hub, base_folder, tmp_path):
    model = AutoModel.from_pretrained(base_folder)
    if form == "re-saved":
        model.save_pretrained(tmp_path / "copy")
        base = AutoModel.from_pretrained(tmp_path / "copy")
    elif form == "sharded":
        model.save_pretrained(tmp_path / "copy", max_shard_size="20MB")
        base = tmp_path / "copy"
    elif form == "with a head":
        base = BertForSequenceClassification.from_pretrained(base_folder)
    elif form == "bfloat16":
        base = model.to(torch.bfloat16)
    else:
        base = base_folder

    assert (hub.pull("nli/based@me", base=base) / "adapter.safetensors").is_file()


def test_compose_refuses_the_wrong_base_too(published, hub, base_folder):
    adapted = compose.attach(other_bert(base_folder), hub=hub)

    with pytest.raises(WrongBase):
        adapted.load(str(hub.pull("nli/based@me")))

    assert adapted.load(str(hub.pull("nli/based@me")), allow_base_mismatch=True)


def test_a_pull_pinned_by_digest_needs_no_network(published, hub, base_folder):
    pinned = f"nli/based@me:{published.digest}"
    folder = hub.pull(pinned)

    with Hub("http://127.0.0.1:9", cache=hub.cache.root) as offline:
        assert offline.pull(pinned) == folder
        assert offline.pull(pinned, base=base_folder) == folder
        with pytest.raises(WrongBase):
            offline.pull(pinned, base=other_bert(base_folder))


# ---------------------------------------------------------------- bad input, each with a sentence


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(
            ["pull", "NLI/x@me"], 2, "the task 'NLI' does not fit", id="malformed reference"
        ),
        pytest.param(["show", "nli/based"], 66, "hint:", id="reference without an org"),
        pytest.param(
            ["pull", "nli/basd@me"], 66, "nli/based@me", id="unknown adapter, nearest name"
        ),
        pytest.param(
            ["push", "nli/x@me", "empty"], 2, "adapter_config.json", id="no adapter folder"
        ),
        pytest.param(
            ["push", "nli/x@me", "nowhere"], 2, "adapter_config.json", id="folder that is not there"
        ),
        pytest.param(
            ["fingerprint", "nowhere"], 66, "There is no base model", id="base that is not there"
        ),
        pytest.param(["pull", "nli/based@me:99"], 66, "99", id="version that is not there"),
    ],
)
def test_bad_input_gets_a_sentence_and_an_exit_code(
    published, client, tmp_path, monkeypatch, arguments, code, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()

    found, out, err = client(*arguments)

    assert found == code, err
    assert said in err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert not out


def test_a_wrong_token_is_refused(client):
    client.environment["ADAPTERHUB_TOKEN"] = "ahub_wrong"

    code, _, err = client("whoami")

    assert code == 77
    assert "token" in err


def test_a_token_without_the_scope_is_refused(client, server, tmp_path):
    client.environment["ADAPTERHUB_TOKEN"] = server.token("me", scope="read")

    code, _, err = client("push", "nli/scope@me", make_folder(tmp_path / "a"))

    assert code == 77
    assert "write" in err


def test_login_remembers_and_whoami_tells(client, server, write_token):
    del client.environment["ADAPTERHUB_TOKEN"]

    code, out, err = client("login", server.url, "--token", write_token)

    assert code == 0, err
    assert "me" in out
    assert client.json("whoami")["name"] == "me"


def test_a_token_can_come_through_a_pipe(client, server, write_token):
    del client.environment["ADAPTERHUB_TOKEN"]
    process = client.start("login", server.url, stdin=subprocess.PIPE)

    out, err = process.communicate(write_token + "\n", timeout=60)

    assert process.returncode == 0, err
    assert "as me" in out
    assert not err


def test_search_and_show_tell_what_was_published(published, client):
    found = client.json("search", "based")
    shown = client.json("show", "nli/based@me")

    assert "nli/based@me" in [item["reference"] for item in found["items"]]
    assert shown["versions"][0]["digest"] == published.digest
    assert shown["versions"][0]["base"]["fingerprint"].startswith("sha256:")


def test_a_legacy_pickle_is_converted_before_it_travels(client, stranger, tmp_path):
    folder = make_folder(tmp_path / "a")
    torch.save(
        {"encoder.layer.0.output.adapters.a.adapter_up.bias": torch.ones(3)},
        folder / "pytorch_adapter.bin",
    )
    (folder / "adapter.safetensors").unlink()
    client.json("push", "nli/legacy@me", folder)

    code, out, err = stranger("pull", "nli/legacy@me")

    assert code == 0, err
    assert sorted(path.name for path in type(folder)(out).iterdir()) == [
        "adapter.safetensors",
        "adapter_config.json",
        "manifest.json",
    ]


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(client, tmp_path):
    folder = make_folder(tmp_path / "a")
    (folder / "adapter.safetensors").unlink()
    canary = tmp_path / "ran"
    (folder / "pytorch_adapter.bin").write_bytes(
        b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    )

    code, _, err = client("push", "nli/hostile@me", folder)

    assert code == 2
    assert "is not a file of tensors" in err
    assert not canary.exists()


def test_a_description_cannot_write_on_the_terminal(client, tmp_path):
    words = "chat [/INST] \x1b[2J\nnli/other@me\tfake"
    code, _, err = client(
        "push", "nli/rude@me", make_folder(tmp_path / "a"), "--description", words
    )
    assert code in {0, 78}, err

    for arguments in (["search", "rude"], ["show", "nli/rude@me"]):
        _, out, _ = client(*arguments)

        assert "\x1b" not in out
        assert not any(line.startswith("nli/other@me") for line in out.splitlines())


def test_a_wrong_base_can_be_allowed_with_a_warning(published, hub, base_folder):
    with pytest.warns(UserWarning, match="was made for"):
        folder = hub.pull("nli/based@me", base=other_bert(base_folder), allow_base_mismatch=True)

    assert folder.is_dir()


def test_pull_to_copies_into_a_new_folder(published, client, tmp_path):
    code, out, err = client("pull", "nli/based@me", "--to", tmp_path / "copy")
    again, _, refused = client("pull", "nli/based@me", "--to", tmp_path / "copy")

    assert code == 0, err
    assert out == str(tmp_path / "copy")
    assert (tmp_path / "copy" / "adapter.safetensors").is_file()
    assert again == 2
    assert "is there already" in refused
    shutil.rmtree(tmp_path / "copy")
