"""What the client says and does about versions that change their status, name or owner."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.factories import make_files, make_manifest
from tests.registry.conftest import Hub as Registry
from werkzeug.serving import make_server

from adapterhub_client import Hub, wire
from adapterhub_client.errors import Corrupt, NotFound, UsageError, VersionNotFound
from adapterhub_registry.service import organization as organizations

NAME = "nli/multinli@ukp"


@pytest.fixture
def address(hub: Registry) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, hub.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def token(hub: Registry) -> str:
    return hub.token("ukp")


@pytest.fixture
def client(address: str, token: str, tmp_path: Path) -> Iterator[Hub]:
    with Hub(address, token, tmp_path / "cache") as opened:
        yield opened


def publish(hub: Registry, token: str, seed: int, reference: str = NAME, **more: object):
    files = make_files(seed)
    return hub.publish(token, make_manifest(reference, files, **more), files)


def run(address: str, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the client in a process of its own: the server's log is on this one's output."""
    given = {**os.environ, "ADAPTERHUB_URL": address, "ADAPTERHUB_TOKEN": token}
    program = "from adapterhub_client.cli import main; main()"
    call = [sys.executable, "-c", program, *arguments]
    return subprocess.run(call, env=given, capture_output=True, text=True, check=False)


def test_a_pin_of_a_yanked_version_is_pulled_with_a_warning(
    hub: Registry, client: Hub, token: str
) -> None:
    first, _ = publish(hub, token, 1), publish(hub, token, 2)

    yanked = client.yank(f"{NAME}:1", "trained on the test set")
    with pytest.warns(UserWarning, match="multinli@ukp:1 is yanked: trained on the test set"):
        folder = client.pull(f"{NAME}:1")
    restored = client.restore(f"{NAME}:{first.digest}")

    assert (yanked.status, restored.status) == ("yanked", "active")
    assert (folder / "README.md").read_bytes() == make_files(1)["README.md"]
    assert client.resolve(f"{NAME}:1").version.status == "active"


def test_aliases_are_set_listed_and_removed(hub: Registry, client: Hub, token: str) -> None:
    first, second = publish(hub, token, 1), publish(hub, token, 2)

    client.set_alias(f"{NAME}:1", "stable")
    client.set_alias(f"{NAME}:{second.digest}", "stable")
    listed = client.aliases(NAME)
    resolved = client.resolve(f"{NAME}:stable").version
    client.remove_alias(NAME, "stable")

    assert [(each.name, each.number) for each in listed] == [("stable", 2)]
    assert (resolved.digest, first.number) == (second.digest, 1)
    assert client.aliases(NAME) == []
    with pytest.raises(NotFound):
        client.remove_alias(NAME, "stable")


@pytest.mark.parametrize("action", ["restore", "set_alias"])
def test_what_is_changed_is_pinned(client: Hub, action: str) -> None:
    more = ["stable"] if action == "set_alias" else []

    with pytest.raises(UsageError, match="names no version"):
        getattr(client, action)(NAME, *more)


def test_a_transferred_adapter_is_pulled_under_both_names(
    hub: Registry, client: Hub, token: str
) -> None:
    version = publish(hub, token, 1)
    with hub.runtime.database.writing() as session:
        organizations.found(session, "lab", "ukp", hub.clock())
    path = "/adapters/nli/multinli@ukp/transfer"
    assert hub.call("POST", path, token, body={"org": "lab"}).status_code == 200

    folders = {
        client.pull(reference)
        for reference in (
            NAME,
            "nli/multinli@lab",
            f"nli/multinli@lab:{version.digest}",
            f"{NAME}:{version.digest}",
        )
    }

    assert len(folders) == 1
    assert client.verify(folders.pop()).reference.org == "ukp"


def test_a_version_of_another_adapter_is_not_taken_for_this_one(
    hub: Registry, client: Hub, token: str
) -> None:
    publish(hub, token, 1)
    other = publish(hub, token, 2, "nli/other@ukp")
    client.pull(f"nli/other@ukp:{other.digest}")

    with pytest.raises((Corrupt, VersionNotFound)):
        client.pull(f"{NAME}:{other.digest}")


def test_a_deleted_version_is_not_found_and_the_reason_is_told(
    hub: Registry, client: Hub, token: str
) -> None:
    publish(hub, token, 1)
    path = "/adapters/nli/multinli@ukp/versions/1?reason=names+of+people"
    assert hub.call("DELETE", path, token).status_code == 200

    with pytest.raises(VersionNotFound, match="was deleted on 2026-11-20 by 'ukp': names of peopl"):
        client.resolve(f"{NAME}:1")


def test_the_lineage_of_a_version_is_told(hub: Registry, client: Hub, token: str) -> None:
    parent = publish(hub, token, 1)
    lineage = [wire.Lineage(kind="parent", digest=parent.digest)]
    child = publish(hub, token, 2, "nli/child@ukp", lineage=lineage)

    below, above = client.lineage(parent.digest), client.lineage(child.digest)

    assert [each.digest for each in below.children] == [child.digest]
    assert [(each.kind, each.digest) for each in above.parents] == [("parent", parent.digest)]
    assert (below.dependants, above.dependants) == (1, 0)


def test_the_commands_yank_deprecate_and_alias(hub: Registry, address: str, token: str) -> None:
    parent = publish(hub, token, 1)
    lineage = [wire.Lineage(kind="parent", digest=parent.digest)]
    publish(hub, token, 2, "nli/child@ukp", lineage=lineage)

    yanked = run(address, token, "yank", f"{NAME}:1", "--reason", "leaks")
    undone = run(address, token, "yank", f"{NAME}:1", "--undo")
    advised = run(address, token, "deprecate", f"{NAME}:1", "--reason", "old", "--json")
    named = run(address, token, "alias", f"{NAME}:1", "stable")
    listed = run(address, token, "alias", NAME, "--json")
    removed = run(address, token, "alias", NAME, "stable", "--remove")

    assert yanked.stdout == f"{NAME}:1 yanked\n"
    assert yanked.stderr == "warning: 1 versions depend on it: nli/child@ukp:1\n"
    assert (undone.stdout, undone.stderr) == (f"{NAME}:1 active\n", "")
    assert json.loads(advised.stdout)["status"] == "deprecated"
    assert named.stdout == f"stable\t1\t{parent.digest[:19]}\t2026-11-20\n"
    assert [each["name"] for each in json.loads(listed.stdout)] == ["stable"]
    assert (removed.returncode, removed.stdout) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["yank", f"{NAME}:1"], 2),
        (["yank", f"{NAME}:1", "--undo", "--reason", "x"], 2),
        (["yank", NAME, "--reason", "x"], 2),
        (["alias", NAME, "--remove"], 2),
        (["alias", f"{NAME}:7", "stable"], 66),
    ],
    ids=["no reason", "both", "no version", "no name", "unknown version"],
)
def test_commands_refuse_what_cannot_be(
    hub: Registry, address: str, token: str, arguments: list[str], code: int
) -> None:
    publish(hub, token, 1)

    assert run(address, token, *arguments).returncode == code
