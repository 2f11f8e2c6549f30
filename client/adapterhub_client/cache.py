"""A content-addressed folder of what was pulled: atomic, safe for many processes, and after a kill.

blobs/sha256/<aa>/<digest>              complete and verified bytes, read-only
partial/<digest>                        a download under way; it resumes
manifests/<digest>.json                 canonical manifests
snapshots/<org>/<task>.<name>/<digest>  a version's folder, its files linked to the blobs
locks/, fingerprints/
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import filelock
import msgspec

from adapterhub_client.errors import Corrupt
from adapterhub_client.transport import sha256_of
from adapterhub_client.wire import MANIFEST_FILE, File, Manifest, digest


class Entry(msgspec.Struct, frozen=True):
    """A cached version."""

    reference: str
    digest: str
    size_bytes: int
    used_at: float
    path: str


class Cache:
    """The folder of pulled versions."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fingerprints = root / "fingerprints"

    def blob(self, sha256: str) -> Path:
        """Where the complete bytes of a blob are, or will be."""
        return self.root / "blobs" / "sha256" / sha256[:2] / sha256

    def partial(self, sha256: str) -> Path:
        """Where a download of a blob collects its bytes."""
        return self.root / "partial" / sha256

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a lock that other processes on this machine respect; the system frees it when its holder dies."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f"{name}.lock"):
            yield

    def has(self, file: File) -> bool:
        """Whether a blob is here and whole; a damaged one is removed.

        Its bytes are hashed: an adapter is small, and a damaged file must never be used.
        """
        path = self.blob(file.sha256)
        if not path.is_file():
            return False
        if path.stat().st_size == file.size_bytes and sha256_of(path) == file.sha256:
            return True
        path.unlink(missing_ok=True)
        return False

    def adopt(self, file: File, found_sha256: str) -> Path:
        """Turn a finished download into a blob.

        Raises:
            Corrupt: The bytes are not those the manifest names; nothing is left of them.
        """
        part, target = self.partial(file.sha256), self.blob(file.sha256)
        if found_sha256 != file.sha256 or part.stat().st_size != file.size_bytes:
            size = part.stat().st_size
            part.unlink()
            raise Corrupt(
                f"'{file.path}' came with other bytes than its manifest names: {size} bytes with sha256 "
                f"{found_sha256[:12]}..., not {file.size_bytes} bytes with {file.sha256[:12]}....",
                hint="nothing was kept; if it happens again, tell the hub's operator to run `adapterhub-registry fsck`",
            )
        part.chmod(0o444)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
        return target

    def snapshot(self, manifest: Manifest, canonical: bytes) -> Path:
        """A version's folder; built aside and renamed, so that it is whole or not there.

        All its blobs must be in the cache. The folder also holds ``manifest.json``, the canonical manifest.
        """
        target = self.snapshot_path(manifest)
        if target.is_dir() and self._is_whole(target, manifest):
            os.utime(target)
            return target
        building = self.root / "snapshots" / f".{uuid.uuid4().hex}"
        for file in manifest.files:
            path = building / checked_path(file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            _link(self.blob(file.sha256), path)
        building.mkdir(parents=True, exist_ok=True)
        (building / MANIFEST_FILE).write_bytes(canonical)
        with self.locked("snapshots"):
            if target.is_dir():
                shutil.rmtree(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            building.rename(target)
        return target

    def snapshot_path(self, manifest: Manifest) -> Path:
        """Where a version's folder is, or will be."""
        name = manifest.reference
        folder = self.root / "snapshots" / name.org / f"{name.task}.{name.name}"
        return folder / digest(manifest).removeprefix("sha256:")

    def manifest(self, digest: str) -> bytes | None:
        """A manifest that was pulled before."""
        path = self._manifest_path(digest)
        return path.read_bytes() if path.is_file() else None

    def keep_manifest(self, digest: str, canonical: bytes) -> None:
        """Keep a manifest for calls without a network."""
        path = self._manifest_path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{uuid.uuid4().hex}")
        unfinished.write_bytes(canonical)
        unfinished.replace(path)

    def entries(self) -> list[Entry]:
        """All cached versions, the most recently used first."""
        found = []
        for path in self.root.glob(f"snapshots/*/*/*/{MANIFEST_FILE}"):
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
            found.append(
                Entry(
                    manifest.reference.reference.adapter,
                    digest(manifest),
                    manifest.size_bytes,
                    path.parent.stat().st_mtime,
                    str(path.parent),
                )
            )
        return sorted(found, key=lambda entry: -entry.used_at)

    def damaged(self) -> list[str]:
        """Remove every blob whose bytes differ from its name, and every version that needs it; says which."""
        bad = [path for path in self.root.glob("blobs/sha256/*/*") if sha256_of(path) != path.name]
        for path in bad:
            path.unlink()
        lost = []
        for entry in self.entries():
            manifest = msgspec.json.decode(
                (Path(entry.path) / MANIFEST_FILE).read_bytes(), type=Manifest
            )
            if not self._is_whole(Path(entry.path), manifest):
                shutil.rmtree(entry.path)
                lost.append(f"{entry.reference}:{entry.digest}")
        return lost

    def prune(self, *, older_than_seconds: float, now: float) -> tuple[list[Entry], int]:
        """Remove the versions not used for so long, then every blob no version uses: which, and the bytes freed."""
        with self.locked("snapshots"):
            gone = [entry for entry in self.entries() if now - entry.used_at >= older_than_seconds]
            for entry in gone:
                shutil.rmtree(entry.path)
            used: set[str] = set()
            for entry in self.entries():
                manifest = msgspec.json.decode(
                    (Path(entry.path) / MANIFEST_FILE).read_bytes(), type=Manifest
                )
                used |= {file.sha256 for file in manifest.files}
            freed = 0
            for path in [*self.root.glob("blobs/sha256/*/*"), *self.root.glob("partial/*")]:
                # a blob this young may belong to a pull that has not built its folder yet
                if path.name not in used and now - path.stat().st_mtime >= min(
                    older_than_seconds, 3600.0
                ):
                    freed += path.stat().st_size
                    path.unlink(missing_ok=True)
        return gone, freed

    def _manifest_path(self, digest: str) -> Path:
        return self.root / "manifests" / f"{digest.removeprefix('sha256:')}.json"

    def _is_whole(self, folder: Path, manifest: Manifest) -> bool:
        paths = [(folder / checked_path(file.path), file) for file in manifest.files]
        return all(
            path.is_file()
            and path.stat().st_size == file.size_bytes
            and sha256_of(path) == file.sha256
            for path, file in paths
        )


def checked_path(path: str) -> PurePosixPath:
    """A manifest's path, if it stays inside the folder it belongs to.

    Raises:
        Corrupt: It would not; a hub that sends such a manifest is not to be trusted.
    """
    pure = PurePosixPath(path)
    if (
        not path
        or pure.is_absolute()
        or "\\" in path
        or ":" in path
        or "\0" in path
        or ".." in pure.parts
    ):
        raise Corrupt(f"The manifest names a file outside its folder: {path!r}.")
    return pure


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        target.chmod(0o444)
