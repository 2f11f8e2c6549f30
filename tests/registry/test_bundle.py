"""One signed file from one registry to another that never sees it: the same digests there, or nothing."""

import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import select
from tests.factories import make_files, make_manifest, sha256
from tests.registry.conftest import POSTGRES, Clock, Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry import migration
from adapterhub_registry.app import create_app
from adapterhub_registry.cli import main
from adapterhub_registry.database import Database
from adapterhub_registry.errors import BundleRefused
from adapterhub_registry.models import AuditEvent, ImportedBundle, Model, Organization, Version
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import account as accounts
from adapterhub_registry.service import bundle, bundle_import, export, integrity, signing
from adapterhub_registry.service import organization as organizations
from adapterhub_registry.settings import Settings, from_environment
from adapterhub_registry.storage import MemoryStore, open_store
from adapterhub_registry.storage.store import CHUNK_BYTES

ENTRIES = ("blobs/", "manifests/")


def silent(_done: int, _total: int) -> None:
    pass


def publish(hub: Hub, token: str, seed: int, reference: str = "nli/multinli@ukp", **more: object):
    files = make_files(seed)
    private = bool(more.pop("private", False))
    return hub.publish(token, make_manifest(reference, files, **more), files, private=private)


def fill(hub: Hub) -> tuple[str, list[wire.Version]]:
    """A catalogue with all that a catalogue can have."""
    token = hub.token("ukp")
    with hub.runtime.database.writing() as session:
        organizations.found(session, "lab", "ukp", hub.clock())
    members = [publish(hub, token, 1), publish(hub, token, 2, "sts/qqp@lab")]
    composition = wire.Composition(
        expression="fuse(a, b)",
        members=[
            wire.Member(name=name, reference=each.reference, digest=each.digest)
            for name, each in zip("ab", members, strict=True)
        ],
    )
    method = {"name": "fusion", "config_id": "f" * 16, "format": "composition"}
    fused = publish(hub, token, 3, "nli/fused@ukp", method=method, composition=composition)
    newer, gone = publish(hub, token, 4), publish(hub, token, 5)
    secret = publish(hub, token, 6, "nli/secret@ukp", private=True)
    path = "/adapters/nli/multinli@ukp"
    hub.call("POST", f"{path}/versions/2/yank", token, body={"reason": "leaks"})
    hub.call("PUT", f"{path}/aliases/stable", token, body={"version": "1"})
    hub.call("DELETE", f"{path}/versions/3?reason=names", token)
    hub.call("POST", "/adapters/sts/qqp@lab/transfer", token, body={"org": "ukp"})
    return token, [*members, fused, newer, gone, secret]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    signing.create(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def trusted(key: Path) -> dict[str, object]:
    return dict(signing.trusted_keys([key.with_name("site.pub")]))


@pytest.fixture
def other(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hub]:
    """An empty registry on the other kind of database, with bytes in another kind of store."""
    url = f"sqlite:///{tmp_path / 'other.sqlite'}"
    store = open_store(f"folder:{tmp_path / 'other-blobs'}")
    if settings.is_sqlite and POSTGRES:
        url = str(request.getfixturevalue("postgres"))
        emptied(url)
        if os.environ.get("AWS_ENDPOINT_URL_S3"):
            bucket = os.environ.get("S3_BUCKET", "adapterhub")
            store = open_store(f"s3://{bucket}/bundle-{os.getpid()}-{tmp_path.name}")
    else:
        database = Database(url)
        migration.migrate(database)
        database.close()
    given = {
        "ADAPTERHUB_HOME": str(tmp_path / "other"),
        "ADAPTERHUB_DATABASE_URL": url,
        "ADAPTERHUB_SECRET_KEY": "for tests",
    }
    app = create_app(from_environment(given), store=store, clock=Clock())
    hub = Hub(app, Clock())
    yield hub
    hub.runtime.database.close()
    for stored in store.blobs():
        store.remove(stored.sha256)


def emptied(url: str) -> None:
    database = Database(url)
    with database.writing() as session:
        for table in reversed(Model.metadata.sorted_tables):
            session.execute(table.delete())
    database.close()


def exported(runtime: Runtime, path: Path, *keys: Path, **selected: object) -> bundle.Index:
    index = export.survey(runtime, export.Selection(**selected))
    export.write(runtime, index, path, [signing.secret_key(each) for each in keys], silent)
    return index


def take(hub: Hub, path: Path, trusted: dict[str, object]) -> bundle_import.Taken:
    return bundle_import.take(hub.runtime, path, trusted, silent)


def resolve(hub: Hub, ref: str):
    return hub.get(f"/resolve?ref={quote(ref)}")


# ---------------------------------------------------------------- L5: there and back


def test_l5_an_empty_registry_of_another_kind_has_the_same_digests_and_bytes(
    hub: Hub, other: Hub, key: Path, trusted: dict[str, object], tmp_path: Path
) -> None:
    _, versions = fill(hub)
    path = tmp_path / "all.bundle"
    exported(hub.runtime, path, key)

    taken = take(other, path, trusted)

    assert (taken.versions, taken.known, taken.is_stale) == (5, 0, False)
    assert (taken.left_out, taken.still_here) == ([], [])
    for ref, at in [
        ("nli/multinli@ukp", 0),
        ("nli/multinli@ukp:stable", 0),
        ("nli/multinli@ukp:2", 3),
        ("nli/fused@ukp", 2),
        ("sts/qqp@ukp", 1),
        ("sts/qqp@lab", 1),
    ]:
        here, there = resolve(hub, ref), resolve(other, ref)
        assert ok(there, wire.Resolution).version.digest == versions[at].digest
        assert ok(there, wire.Resolution).manifest == ok(here, wire.Resolution).manifest
        assert there.headers.get("Warning") == here.headers.get("Warning")
        for file in ok(there, wire.Resolution).manifest.files:
            stored = b"".join(other.runtime.store.read(file.sha256))
            assert sha256(stored) == file.sha256
            assert stored == b"".join(hub.runtime.store.read(file.sha256))
        digest = versions[at].digest
        assert other.get(f"/manifests/{digest}").data == hub.get(f"/manifests/{digest}").data
    assert problem(resolve(other, "nli/multinli@ukp:3")).code == "deleted"
    assert problem(resolve(other, "nli/secret@ukp")).code == "adapter_not_found"
    around = ok(other.get(f"/versions/{versions[0].digest}/lineage"), wire.Relations)
    assert around.used_in == 1
    assert list(integrity.check(other.runtime)) == []


def test_l5_the_same_catalogue_gives_the_same_file(hub: Hub, key: Path, tmp_path: Path) -> None:
    fill(hub)

    exported(hub.runtime, tmp_path / "first", key)
    exported(hub.runtime, tmp_path / "second", key)

    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    with tarfile.open(tmp_path / "first") as opened:
        names = opened.getnames()
    assert names[:2] == ["index.json", "signature.json"]
    assert all(name.startswith(ENTRIES) for name in names[2:])


def test_l5_a_second_import_changes_nothing_and_a_newer_bundle_brings_what_is_new(
    hub: Hub, other: Hub, key: Path, trusted: dict[str, object], tmp_path: Path
) -> None:
    token, _ = fill(hub)
    old, new = tmp_path / "old", tmp_path / "new"
    exported(hub.runtime, old, key)
    first = take(other, old, trusted)
    again = take(other, old, trusted)
    hub.clock.move(days=1)
    publish(hub, token, 9)
    hub.call("POST", "/adapters/nli/multinli@ukp/versions/2/restore", token)
    hub.call("POST", "/adapters/nli/multinli@ukp/versions/1/yank", token, body={"reason": "x"})
    exported(hub.runtime, new, key)

    newer = take(other, new, trusted)
    stale = take(other, old, trusted)

    assert (first.versions, again.versions, again.blobs, again.known) == (5, 0, 0, 5)
    assert (newer.versions, newer.known, newer.is_stale) == (1, 5, False)
    assert (stale.versions, stale.is_stale) == (0, True)
    statuses = {
        each.number: each.status
        for each in ok(other.get("/adapters/nli/multinli@ukp/versions"), list[wire.Version])
    }
    assert statuses == {1: "yanked", 2: "active", 4: "active"}
    with other.runtime.database.reading() as session:
        assert len(session.scalars(select(ImportedBundle)).all()) == 2
        actions = list(session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)))
    assert actions.count("bundle.import") == 4
    assert actions.count("version.import") == 6


def test_l5_an_import_that_was_killed_goes_on_where_it_was(
    hub: Hub,
    other: Hub,
    key: Path,
    trusted: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(hub)
    path = tmp_path / "all.bundle"
    exported(hub.runtime, path, key)
    puts: list[str] = []
    put = type(other.runtime.store).put

    def dies(store: object, digest: str, *rest: object) -> None:
        if len(puts) == 4:
            raise KeyboardInterrupt
        puts.append(digest)
        put(store, digest, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(type(other.runtime.store), "put", dies)
    with pytest.raises(KeyboardInterrupt):
        take(other, path, trusted)
    monkeypatch.undo()
    with other.runtime.database.reading() as session:
        before = session.scalars(select(Version)).all()

    taken = take(other, path, trusted)

    assert before == []
    assert taken.versions == 5
    assert list(integrity.check(other.runtime)) == []


# ---------------------------------------------------------------- what is refused


def tampered(path: Path, name: str, change: bytes = b"!") -> Path:
    """A copy with one byte of one entry changed, sizes and headers left as they are."""
    with tarfile.open(path) as opened:
        names = opened.getnames()
        found = opened.getmember(next(each for each in names if each.startswith(name)))
    content = bytearray(path.read_bytes())
    content[found.offset_data : found.offset_data + 1] = change
    copy = path.with_name("tampered")
    copy.write_bytes(content)
    return copy


def is_untouched(hub: Hub) -> bool:
    with hub.runtime.database.reading() as session:
        rows = session.scalars(select(Organization)).all()
    return not rows and not list(hub.runtime.store.blobs())


@pytest.fixture
def made(hub: Hub, key: Path, tmp_path: Path) -> Path:
    fill(hub)
    exported(hub.runtime, tmp_path / "all.bundle", key)
    return tmp_path / "all.bundle"


@pytest.mark.parametrize("entry", ["blobs/sha256/", "manifests/"])
def test_l5_a_changed_entry_is_named_and_nothing_is_written(
    made: Path, other: Hub, trusted: dict[str, object], entry: str
) -> None:
    with pytest.raises(BundleRefused, match=f"`{entry}.* was changed") as refusal:
        take(other, tampered(made, entry), trusted)

    assert "does not hash to its digest" in str(refusal.value)
    assert is_untouched(other)


@pytest.mark.parametrize(
    ("entry", "message"),
    [("index.json", "signature by the key sha256:"), ("signature.json", "cannot be read")],
)
def test_l5_a_changed_index_or_signature_is_refused(
    made: Path, other: Hub, trusted: dict[str, object], entry: str, message: str
) -> None:
    with pytest.raises(BundleRefused, match=message):
        take(other, tampered(made, entry), trusted)

    assert is_untouched(other)


def test_l5_a_bundle_of_nobody_and_of_a_stranger_is_refused(
    hub: Hub, made: Path, other: Hub, trusted: dict[str, object], tmp_path: Path
) -> None:
    stranger = signing.create(tmp_path / "stranger")
    exported(hub.runtime, tmp_path / "strange", tmp_path / "stranger")
    exported(hub.runtime, tmp_path / "unsigned")

    with pytest.raises(BundleRefused, match=f"signed by {stranger}, and none of them is trusted"):
        take(other, tmp_path / "strange", trusted)
    with pytest.raises(BundleRefused, match="signed by nobody"):
        take(other, tmp_path / "unsigned", trusted)
    with pytest.raises(BundleRefused, match="none of them is trusted"):
        take(other, made, {})
    assert is_untouched(other)


def test_l5_while_keys_change_both_are_good_and_afterwards_only_the_new_one(
    hub: Hub, other: Hub, key: Path, trusted: dict[str, object], tmp_path: Path
) -> None:
    fill(hub)
    signing.create(tmp_path / "next")
    renewed = dict(signing.trusted_keys([tmp_path / "next.pub"]))
    exported(hub.runtime, tmp_path / "both", key, tmp_path / "next")
    exported(hub.runtime, tmp_path / "old", key)

    with_old = bundle_import.examine(other.runtime, tmp_path / "both", trusted, silent)
    with_new = bundle_import.examine(other.runtime, tmp_path / "both", renewed, silent)

    assert [with_old.key_id, with_new.key_id] == [*trusted, *renewed]
    with pytest.raises(BundleRefused, match="none of them is trusted"):
        take(other, tmp_path / "old", renewed)
    folder = signing.trusted_keys([tmp_path])
    assert set(folder) == {*trusted, *renewed}
    assert take(other, tmp_path / "old", dict(folder)).versions == 5


def test_l5_what_is_cut_off_reordered_or_more_is_refused(
    made: Path, other: Hub, trusted: dict[str, object]
) -> None:
    content = made.read_bytes()
    made.with_name("short").write_bytes(content[:-20000])
    made.with_name("longer").write_bytes(content + b"\0")
    made.with_name("empty").write_bytes(b"")
    with tarfile.open(made) as opened:
        entries = [
            (member, opened.extractfile(member).read())  # type: ignore[union-attr]
            for member in opened.getmembers()
        ]
    swapped = io.BytesIO()
    with tarfile.open(fileobj=swapped, mode="w", format=tarfile.GNU_FORMAT) as writer:
        for member, data in [*entries[:2], entries[3], entries[2], *entries[4:]]:
            writer.addfile(member, io.BytesIO(data))
    made.with_name("swapped").write_bytes(swapped.getvalue())

    for name, message in [
        ("short", "cut off|not where its index says"),
        ("longer", "does not end where"),
        ("empty", "no bundle"),
        ("swapped", "not where its index says"),
    ]:
        with pytest.raises(BundleRefused, match=message):
            take(other, made.with_name(name), trusted)
    assert is_untouched(other)


def test_a_number_that_is_taken_here_is_refused_before_anything_is_written(
    hub: Hub, made: Path, other: Hub, trusted: dict[str, object]
) -> None:
    publish(other, other.token("ukp"), 77)

    with pytest.raises(BundleRefused, match="nli/multinli@ukp:1 has the number of sha256:"):
        take(other, made, trusted)

    with other.runtime.database.reading() as session:
        assert len(session.scalars(select(Version)).all()) == 1


def test_what_was_deleted_here_does_not_come_back(
    hub: Hub, made: Path, other: Hub, trusted: dict[str, object], tmp_path: Path, key: Path
) -> None:
    take(other, made, trusted)
    token = other.token("operator")
    with other.runtime.database.writing() as session:
        accounts.find_account(session, "operator").is_admin = True
    gone = "/adapters/nli/multinli@ukp/versions/2?reason=not+here"
    assert other.call("DELETE", gone, token).status_code == 200

    taken = take(other, made, trusted)

    assert taken.left_out == ["nli/multinli@ukp:2"]
    assert problem(resolve(other, "nli/multinli@ukp:2")).code == "deleted"


# ---------------------------------------------------------------- selections


def test_a_selection_takes_along_what_it_pins(hub: Hub, key: Path, tmp_path: Path) -> None:
    _, versions = fill(hub)

    def selected(*named: str, private: bool = True) -> set[str]:
        index = export.survey(hub.runtime, export.Selection(names=named, private=private))
        files = {
            file.sha256
            for each in index.versions
            for file in ok(hub.get(f"/manifests/{each.digest}"), wire.Manifest).files
        }
        assert files == {blob.sha256 for blob in index.blobs}
        return {each.digest for each in index.versions}

    first, second, fused, newer, _gone, _secret = (each.digest for each in versions)
    assert selected("nli/fused@ukp") == {first, second, fused}
    assert selected("nli/multinli@ukp") == {first, newer}
    assert selected("nli/multinli@ukp:2") == {newer}
    assert selected("ukp", private=False) == {first, second, fused, newer}
    assert selected(private=False) == {first, second, fused, newer}


def test_members_come_before_what_pins_them(hub: Hub) -> None:
    _, versions = fill(hub)

    index = export.survey(hub.runtime, export.Selection(names=("nli/fused@ukp",)))

    order = [each.digest for each in index.versions]
    assert order.index(versions[2].digest) == 2


# ---------------------------------------------------------------- commands


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    for name in ("DATABASE_URL", "BLOBS", "SECRET_KEY", "PUBLIC_URL"):
        monkeypatch.delenv(f"ADAPTERHUB_{name}", raising=False)
    return tmp_path / "here", tmp_path / "there"


def run(home: Path, *arguments: str):
    return CliRunner().invoke(main, arguments, env={"ADAPTERHUB_HOME": str(home)})


def test_the_commands_carry_a_catalogue_to_a_site_without_a_network(
    homes: tuple[Path, Path], tmp_path: Path
) -> None:
    here, there = homes
    settings = from_environment({"ADAPTERHUB_HOME": str(here), "ADAPTERHUB_SECRET_KEY": "x"})
    assert run(here, "migrate").exit_code == 0
    clock = Clock()
    source = Hub(create_app(settings, clock=clock), clock)
    version = publish(source, source.token("ukp"), 1)
    source.runtime.database.close()
    secret, file = tmp_path / "site", str(tmp_path / "all.bundle")

    made = run(here, "key", "create", str(secret))
    again = run(here, "key", "create", str(secret))
    shown = run(here, "key", "show", f"{secret}.pub")
    looked = run(here, "export", file, "--dry-run")
    unsigned = run(here, "export", file)
    wrote = run(here, "export", file, "ukp", "--key", str(secret), "--json")
    twice = run(here, "export", file, "--key", str(secret))
    untrusted = run(there, "import", file)
    (there / "trusted-keys").mkdir()
    (there / "trusted-keys" / "site.pub").write_bytes(Path(f"{secret}.pub").read_bytes())
    verified = run(there, "import", file, "--dry-run")
    took = run(there, "import", file)
    checked = run(there, "fsck", "--json")

    assert made.stdout == shown.stdout
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert (again.exit_code, again.stderr.startswith("error: There is already")) == (1, True)
    lines = looked.stdout.splitlines()
    assert lines[0] == f"nli/multinli@ukp:1  {version.digest[:19]}"
    assert lines[1].startswith("1 adapters, 1 versions, 3 blobs, ")
    assert (unsigned.exit_code, twice.exit_code) == (2, 2)
    assert json.loads(wrote.stdout)["versions"][0]["digest"] == version.digest
    assert untrusted.exit_code == 1
    assert "none of them is trusted here\n\nhint: nothing was written" in untrusted.stderr
    assert verified.stdout.endswith(f"by {made.stdout}")
    assert took.stdout.startswith("Took in 1 versions and 3 blobs (")
    assert (checked.exit_code, json.loads(checked.stdout)["versions"]) == (0, 1)


def test_a_file_that_is_no_key_is_refused(homes: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "no.pub").write_text("no key")

    refused = run(homes[0], "key", "show", str(tmp_path / "no.pub"))

    assert refused.exit_code == 1
    assert "is no public key that `key create` made" in refused.stderr


def test_a_blob_that_the_store_lost_stops_the_export_and_leaves_no_file(
    hub: Hub, key: Path, tmp_path: Path
) -> None:
    fill(hub)
    hub.runtime.store.remove(sha256(make_files(1)["README.md"]))

    with pytest.raises(Exception, match="has lost the bytes"):
        exported(hub.runtime, tmp_path / "all.bundle", key)

    assert not list(tmp_path.glob("all.bundle*"))


def test_the_memory_of_a_bundle_is_that_of_its_index(tmp_path: Path, key: Path) -> None:
    """Entries are read in pieces: the largest piece is what counts, not the largest blob."""
    content = bytes(5 << 20)
    store = MemoryStore()
    store.put(sha256(content), [content], len(content))
    blob = bundle.Blob(sha256(content), len(content))
    empty = bundle.Index(
        source="x",
        exported_at="2026-11-20T12:00:00+00:00",
        adapters=[],
        versions=[],
        blobs=[blob],
        tombstones=[],
        retired=[],
    )
    index = msgspec.json.encode(empty)
    signatures = msgspec.json.encode(signing.sign([signing.secret_key(key)], bundle.message(index)))
    path = tmp_path / "large"
    with path.open("wb") as file:
        for name, data in (("index.json", index), ("signature.json", signatures)):
            file.write(bundle.header(name, len(data)) + data + bundle.padding(len(data)))
        [entry] = bundle.entries(empty)
        file.write(bundle.header(entry.path, len(content)) + content)
        file.write(bundle.end(file.tell()))
    told: list[int] = []

    trusted = signing.trusted_keys([key.with_name("site.pub")])
    bundle.verify(path, dict(trusted), lambda *_: None, lambda done, _total: told.append(done))

    assert told == list(range(CHUNK_BYTES, len(content) + 1, CHUNK_BYTES))
