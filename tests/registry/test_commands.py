"""The operator's commands."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select
from tests.factories import make_files, make_manifest, sha256
from tests.registry.conftest import Hub

from adapterhub_client import wire
from adapterhub_registry.cli import main
from adapterhub_registry.models import Blob, Upload
from adapterhub_registry.service import garbage, integrity
from adapterhub_registry.settings import SettingsRefused, from_environment
from adapterhub_registry.storage import FolderStore, Stored

FILES = make_files()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "BLOBS", "SECRET_KEY", "PUBLIC_URL"):
        monkeypatch.delenv(f"ADAPTERHUB_{name}", raising=False)
    monkeypatch.setenv("ADAPTERHUB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_an_account_and_its_token_need_no_other_step(home: Path) -> None:
    made = run("account", "create", "ukp")
    token = run("token", "create", "ukp", "--scope", "write", "--days", "3")

    assert (made.exit_code, made.stdout, made.stderr) == (0, "", "Created the account `ukp`\n")
    assert token.stdout.startswith("ahub_")
    assert (home / "registry.sqlite").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["account", "create", "ukp"], "error: The name 'ukp' is taken\n"),
        (["account", "create", "UKP"], "error: 'UKP' is no name: "),
        (["token", "create", "nobody"], "error: There is no account named 'nobody'\n"),
        (["org", "create", "lab", "--admin", "nobody"], "error: There is no account named"),
    ],
)
def test_a_refusal_is_one_line(home: Path, arguments: list[str], message: str) -> None:
    run("account", "create", "ukp")

    refused = run(*arguments)

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith(message)


def test_an_organization_has_an_admin(home: Path) -> None:
    run("account", "create", "ukp")

    made = run("org", "create", "lab", "--admin", "ukp")

    assert made.stderr == "Created the organization `lab`\n"
    assert run("org", "create", "lab", "--admin", "ukp").exit_code == 1


def test_an_empty_registry_has_nothing_to_remove_and_no_fault(home: Path) -> None:
    swept, checked = run("gc", "--json"), run("fsck", "--json")

    assert json.loads(swept.stdout) == {"uploads": 0, "blobs": 0, "size_bytes": 0}
    nothing = {"blobs": 0, "hashed": 0, "size_bytes": 0, "versions": 0, "faults": [], "unknown": []}
    assert (json.loads(checked.stdout), checked.exit_code) == (nothing, 0)
    assert run("gc").stdout == "Removed 0 uploads and 0 blobs (0 bytes)\n"


def test_reindex_says_how_many(home: Path) -> None:
    assert run("reindex").stdout == "Indexed 0 adapters\n"


def test_migrate_and_openapi_run(home: Path) -> None:
    assert run("migrate").exit_code == 0
    assert json.loads(run("openapi").stdout)["openapi"].startswith("3.1")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "blobs")


def test_garbage_goes_and_what_is_needed_stays(hub: Hub, store: FolderStore) -> None:
    token = hub.token("ukp")
    hub.publish(token, make_manifest(files=FILES), FILES)
    abandoned = hub.begin(token, make_manifest("nli/abandoned@ukp", make_files(1)))
    content = make_files(1)["README.md"]
    path = f"/uploads/{abandoned.id}/blobs/{sha256(content)}"
    hub.call("PUT", path, token, data=content)
    store.stage("lost", sha256(b"orphan"), [b"orphan"], 6)
    store.promote("lost", sha256(b"orphan"), 6)

    hub.clock.moment = datetime.now(UTC)
    early = garbage.sweep(hub.runtime)
    hub.clock.moment += timedelta(hours=26)
    late = garbage.sweep(hub.runtime)

    assert (early.uploads, early.blobs) == (0, 0)
    assert (late.uploads, late.blobs, late.size_bytes) == (1, 2, 6 + len(content))
    assert {each.sha256 for each in store.blobs()} == {sha256(each) for each in FILES.values()}
    assert hub.get(f"/blobs/{sha256(FILES['README.md'])}").data == FILES["README.md"]
    with hub.runtime.database.reading() as session:
        assert session.scalars(select(Upload)).all() == []
        assert len(session.scalars(select(Blob)).all()) == len(FILES)


def test_garbage_collection_beside_publishing_takes_nothing_that_is_needed(
    hub: Hub, store: FolderStore
) -> None:
    """The same bytes were garbage long ago, and are published again while they are swept."""
    token = hub.token("ukp")
    hub.clock.moment = datetime.now(UTC)
    folders = [make_files(seed) for seed in range(12)]
    for files in folders:
        content = files["adapter.safetensors"]
        store.stage("lost", sha256(content), [content], len(content))
        store.promote("lost", sha256(content), len(content))
        path = store.folder / "blobs" / "sha256" / sha256(content)[:2] / sha256(content)
        os.utime(path, (0, 0))
    done = threading.Event()
    sweeps: list[garbage.Swept] = []

    def sweep() -> None:
        while not done.wait(0.01):
            sweeps.append(garbage.sweep(hub.runtime))

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for files in folders:
            hub.publish(token, make_manifest(files=files), files)
    finally:
        done.set()
        sweeper.join()

    assert sweeps
    assert list(integrity.check(hub.runtime)) == []


class LookedThrough(FolderStore):
    """Something happens between the listing of its blobs and what is done with the list."""

    def __init__(self, folder: Path, meanwhile: Callable[[], object]) -> None:
        super().__init__(folder)
        self.meanwhile = meanwhile

    def blobs(self) -> Iterator[Stored]:
        found = list(super().blobs())
        self.meanwhile()
        yield from found


def test_old_bytes_that_an_upload_brings_anew_stay(hub: Hub, store: FolderStore) -> None:
    token = hub.token("ukp")
    content = FILES["adapter.safetensors"]
    store.stage("lost", sha256(content), [content], len(content))
    store.promote("lost", sha256(content), len(content))
    hub.clock.moment = datetime.now(UTC) + timedelta(hours=26)
    begun: list[wire.Upload] = []

    def bring() -> None:
        begun.append(hub.begin(token, make_manifest(files=FILES)))
        path = f"/uploads/{begun[0].id}/blobs/{sha256(content)}"
        assert hub.call("PUT", path, token, data=content).status_code == 204

    passing = LookedThrough(store.folder, bring)
    swept = garbage.sweep(msgspec.structs.replace(hub.runtime, store=passing))

    assert swept.blobs == 0
    assert sha256(content) not in {
        target.sha256 for target in hub.begin(token, make_manifest(files=FILES)).missing
    }


def test_a_hold_ends_with_the_time_of_its_upload(hub: Hub, store: FolderStore) -> None:
    token = hub.token("ukp")
    hub.clock.moment = datetime.now(UTC)
    upload = hub.begin(token, make_manifest(files=FILES))
    content = FILES["README.md"]
    hub.call("PUT", f"/uploads/{upload.id}/blobs/{sha256(content)}", token, data=content)

    held = garbage.sweep(hub.runtime, garbage.Wish(grace=timedelta(hours=-1)))
    hub.clock.moment += timedelta(hours=25)
    let_go = garbage.sweep(hub.runtime, garbage.Wish(grace=timedelta(hours=-1)))

    assert (held.blobs, let_go.blobs) == (0, 1)


def test_lost_and_changed_bytes_are_found(hub: Hub, store: FolderStore) -> None:
    hub.publish(hub.token("ukp"), make_manifest(files=FILES), FILES)
    lost, changed = sha256(FILES["README.md"]), sha256(FILES["adapter.safetensors"])
    store.remove(lost)
    path = store.folder / "blobs" / "sha256" / changed[:2] / changed
    path.write_bytes(b"x" + path.read_bytes()[1:])

    faults = {fault.subject: fault.fault for fault in integrity.check(hub.runtime)}

    assert faults[lost] == "is not in the store"
    assert faults[changed].startswith("they hash to")
    assert len(faults) == 2


def test_lost_bytes_can_be_brought_back_by_the_same_push(hub: Hub, store: FolderStore) -> None:
    token = hub.token("ukp")
    hub.publish(token, make_manifest(files=FILES), FILES)
    store.remove(sha256(FILES["README.md"]))

    hub.publish(token, make_manifest("nli/again@ukp", FILES), FILES)

    assert list(integrity.check(hub.runtime)) == []


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    settings = from_environment(
        {
            "ADAPTERHUB_HOME": str(tmp_path),
            "ADAPTERHUB_DATABASE_URL": "postgres://u:p@host/db",
            "ADAPTERHUB_MAX_FILES": "7",
            "ADAPTERHUB_PUBLIC_URL": "https://hub.example",
        }
    )

    assert settings.database_url == "postgresql+psycopg://u:p@host/db"
    assert (settings.max_files, settings.public_url) == (7, "https://hub.example")
    assert settings.blobs == f"folder:{tmp_path / 'blobs'}"
    assert not settings.is_sqlite


def test_the_default_home_is_where_data_belongs(tmp_path: Path) -> None:
    settings = from_environment({"XDG_DATA_HOME": str(tmp_path)})

    assert settings.home == tmp_path / "adapterhub"
    assert settings.database_url == f"sqlite:///{tmp_path}/adapterhub/registry.sqlite"


def test_the_secret_key_is_made_once(tmp_path: Path) -> None:
    first = from_environment({"ADAPTERHUB_HOME": str(tmp_path)}).secret_key

    assert from_environment({"ADAPTERHUB_HOME": str(tmp_path)}).secret_key == first
    assert len(first) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_a_setting_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="max_files"):
        from_environment({"ADAPTERHUB_HOME": str(tmp_path), "ADAPTERHUB_MAX_FILES": "many"})


def test_scopes_are_those_of_the_wire() -> None:
    assert set(wire.TokenRequest(label="x").scopes) == {"read"}
