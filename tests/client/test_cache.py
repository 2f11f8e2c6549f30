"""The local cache: whole or not there, for many processes, and never with wrong bytes."""

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapterhub_client import admission, wire
from adapterhub_client.cache import Cache
from adapterhub_client.errors import Corrupt


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def manifest(*files, **changes):
    return wire.Manifest(
        **{
            "reference": wire.Name(task="nli", name="cb", org="me"),
            "base": wire.Base(name="bert", architecture="bert"),
            "method": wire.Method(name="seq_bn", config_id="9076f36a74755ac4"),
            "files": list(files),
            **changes,
        }
    )


def put(cache, path, content):
    """Bring bytes into the cache as a download would."""
    file = wire.File(path=path, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    part = cache.partial(file.sha256)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(content)
    cache.adopt(file, file.sha256)
    return file


def test_what_is_adopted_is_there(cache):
    file = put(cache, "a.json", b"{}")

    assert cache.has(file)
    assert cache.blob(file.sha256).read_bytes() == b"{}"


def test_wrong_bytes_are_refused_and_nothing_is_kept(cache):
    file = wire.File(path="a.json", sha256="0" * 64, size_bytes=2)
    part = cache.partial(file.sha256)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"{}")

    with pytest.raises(Corrupt, match=r"'a\.json' came with other bytes"):
        cache.adopt(file, hashlib.sha256(b"{}").hexdigest())

    assert not part.exists()
    assert not cache.has(file)


def test_a_blob_that_rots_is_noticed_and_removed(cache):
    file = put(cache, "a.json", b"{}")
    path = cache.blob(file.sha256)
    path.chmod(0o644)
    path.write_bytes(b"[]")

    assert not cache.has(file)
    assert not path.exists()


def test_a_snapshot_holds_the_files_and_the_manifest(cache):
    version = manifest(
        put(cache, "adapter.safetensors", b"weights"), put(cache, "deep/er.json", b"{}")
    )

    folder = cache.snapshot(version, wire.canonical(version))

    assert (folder / "adapter.safetensors").read_bytes() == b"weights"
    assert (folder / "deep" / "er.json").read_bytes() == b"{}"
    assert wire.digest(version).endswith(
        hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    )


def test_a_damaged_snapshot_is_built_anew(cache):
    version = manifest(put(cache, "a.json", b"{}"))
    folder = cache.snapshot(version, wire.canonical(version))
    (folder / "a.json").unlink()

    again = cache.snapshot(version, wire.canonical(version))

    assert again == folder
    assert (folder / "a.json").read_bytes() == b"{}"


def test_a_snapshot_without_its_manifest_is_built_anew(cache):
    version = manifest(put(cache, "a.json", b"{}"))
    folder = cache.snapshot(version, wire.canonical(version))
    (folder / "manifest.json").write_bytes(b"changed")

    cache.snapshot(version, wire.canonical(version))

    assert (folder / "manifest.json").read_bytes() == wire.canonical(version)


def test_a_whole_snapshot_is_never_taken_away_from_who_reads_it(cache):
    version = manifest(put(cache, "a.json", b"{}"))
    seen = []

    def pull(_):
        folder = cache.snapshot(version, wire.canonical(version))
        seen.extend((folder / "a.json").exists() for _ in range(200))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pull, range(8)))

    assert len(seen) == 1600
    assert all(seen)


def test_what_a_pull_holds_is_not_pruned(cache):
    file = put(cache, "a.json", b"{}")

    with cache.locked(file.sha256):
        _, freed = cache.prune(older_than_seconds=0, now=time.time() + 1)

    assert freed == 0
    assert cache.has(file)


def test_a_build_that_was_killed_is_never_seen(cache):
    version = manifest(put(cache, "a.json", b"{}"))
    half = cache.root / "snapshots" / ".half"
    half.mkdir(parents=True)
    (half / "manifest.json").write_bytes(wire.canonical(version))

    assert cache.entries() == []


def test_pruning_frees_what_no_version_uses(cache):
    old = manifest(put(cache, "a.json", b"old"))
    new = manifest(put(cache, "a.json", b"new"))
    old_folder = cache.snapshot(old, wire.canonical(old))
    cache.snapshot(new, wire.canonical(new))
    long_ago = time.time() - 100 * 86400
    os.utime(old_folder, (long_ago, long_ago))
    os.utime(cache.blob(old.files[0].sha256), (long_ago, long_ago))

    gone, freed = cache.prune(older_than_seconds=30 * 86400, now=time.time())

    assert [entry.digest for entry in gone] == [wire.digest(old)]
    assert freed == len(b"old")
    assert not cache.blob(old.files[0].sha256).exists()
    assert cache.has(new.files[0])


def test_verify_removes_damaged_versions_and_says_which(cache):
    version = manifest(put(cache, "a.json", b"{}"))
    cache.snapshot(version, wire.canonical(version))
    blob = cache.blob(version.files[0].sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"[]")

    lost = cache.damaged()

    assert lost == [f"nli/cb@me:{wire.digest(version)}"]
    assert cache.entries() == []


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "a/../../x", "a\\b", "C:x", "", "a\0b"],
    ids=repr,
)
def test_a_hostile_path_is_refused(path):
    with pytest.raises(Corrupt, match="outside its folder"):
        admission.path(path)


def test_a_manifest_in_the_cache_is_json_a_person_can_read(cache):
    version = manifest(put(cache, "a.json", b"{}"))
    folder = cache.snapshot(version, wire.canonical(version))

    assert json.loads((folder / "manifest.json").read_text())["reference"]["task"] == "nli"
