"""The command as people type it: what it tells, and how it refuses: a sentence, an exit code, nothing lost."""

import re
import shutil
import subprocess

import pytest
import torch
from tests.factories import make_folder


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


def test_a_password_gives_a_token_of_its_own(client, server, write_token):
    server.settings["ADAPTERHUB_NEW_PASSWORD"] = password = "correct horse battery"
    server.admin("account", "password", "me")
    del client.environment["ADAPTERHUB_TOKEN"]

    process = client.start("login", server.url, "--name", "me", stdin=subprocess.PIPE)
    out, err = process.communicate(password + "\n", timeout=60)

    assert process.returncode == 0, err
    assert "as me" in out
    assert client.json("whoami")["scopes"] == ["write"]


def test_a_wrong_password_is_one_line_and_the_id_of_the_request(client, server):
    process = client.start("login", server.url, "--name", "me", stdin=subprocess.PIPE)

    out, err = process.communicate("a guess at it\n", timeout=60)

    assert (process.returncode, out) == (77, "")
    assert err.startswith("error: No account has this name and this password.\n")
    request_id = re.search(r"^request: (\S+)$", err, re.MULTILINE).group(1)
    assert request_id in (server.home / "server.log").read_text()


def test_a_hub_that_asks_for_a_long_pause_is_not_waited_for(client, server):
    for _ in range(11):
        process = client.start("login", server.url, "--name", "nobody", stdin=subprocess.PIPE)
        _, err = process.communicate("a guess at it\n", timeout=60)

    assert process.returncode == 69
    assert "Too many attempts to sign in: try again in" in err


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


def test_pull_to_copies_into_a_new_folder(published, client, tmp_path):
    code, out, err = client("pull", "nli/based@me", "--to", tmp_path / "copy")
    again, _, refused = client("pull", "nli/based@me", "--to", tmp_path / "copy")

    assert code == 0, err
    assert out == str(tmp_path / "copy")
    assert (tmp_path / "copy" / "adapter.safetensors").is_file()
    assert again == 2
    assert "is there already" in refused
    shutil.rmtree(tmp_path / "copy")
