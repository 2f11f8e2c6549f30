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
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import msgspec

from adapterhub_client import admission
from adapterhub_client.errors import Corrupt
from adapterhub_client.transport import sha256_of
from adapterhub_client.wire import MANIFEST_FILE, File, Manifest, digest

ABANDONED_SECONDS = 3600.0


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
        path = self._lock(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path):
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
            path = building / admission.path(file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            _link(self.blob(file.sha256), path)
        building.mkdir(parents=True, exist_ok=True)
        (building / MANIFEST_FILE).write_bytes(canonical)
        with self.locked("snapshots"):
            if target.is_dir() and self._is_whole(target, manifest):  # another process was faster
                shutil.rmtree(building)
                return target
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
        """All cached versions, the most recently used first; a damaged one is none."""
        found = [
            Entry(
                manifest.reference.reference.adapter,
                digest(manifest),
                manifest.size_bytes,
                folder.stat().st_mtime,
                str(folder),
            )
            for folder, manifest in self._versions()
            if manifest is not None
        ]
        return sorted(found, key=lambda entry: -entry.used_at)

    def damaged(self) -> list[str]:
        """Remove every blob whose bytes differ from its name, and every version that needs it; says which."""
        for path in self.root.glob("blobs/sha256/*/*"):
            if sha256_of(path) != path.name:
                path.unlink(missing_ok=True)
        lost = []
        with self.locked("snapshots"):
            for folder, manifest in self._versions():
                if manifest is None or not self._is_whole(folder, manifest):
                    shutil.rmtree(folder)
                    name = manifest.reference.reference.adapter if manifest else folder.parent.name
                    lost.append(f"{name}:sha256:{folder.name}")
        return lost

    def prune(self, *, older_than_seconds: float, now: float) -> tuple[list[Entry], int]:
        """Remove the versions not used for so long, then every blob no version uses: which, and the bytes freed."""
        with self.locked("snapshots"):
            gone = [entry for entry in self.entries() if now - entry.used_at >= older_than_seconds]
            for entry in gone:
                shutil.rmtree(entry.path)
            for left in self.root.glob(
                "snapshots/.*"
            ):  # of a process that was killed while it built
                if now - left.stat().st_mtime >= ABANDONED_SECONDS:
                    shutil.rmtree(left)
            used = {
                file.sha256
                for _, manifest in self._versions()
                if manifest is not None
                for file in manifest.files
            }
            freed = 0
            for path in [*self.root.glob("blobs/sha256/*/*"), *self.root.glob("partial/*")]:
                if path.name not in used and now - path.stat().st_mtime >= older_than_seconds:
                    freed += self._drop(path)
        return gone, freed

    def _drop(self, path: Path) -> int:
        """Remove a blob or a part of one, unless a pull holds it at this moment; the bytes freed."""
        with suppress(filelock.Timeout), filelock.FileLock(self._lock(path.name), timeout=0):
            size = path.stat().st_size
            path.unlink(missing_ok=True)
            return size
        return 0

    def _versions(self) -> Iterator[tuple[Path, Manifest | None]]:
        """Every version's folder with its manifest, None where that is damaged."""
        for folder in sorted(self.root.glob("snapshots/[!.]*/*/*")):
            try:
                yield folder, admission.manifest((folder / MANIFEST_FILE).read_bytes())
            except (OSError, Corrupt):
                yield folder, None

    def _lock(self, name: str) -> Path:
        return self.root / "locks" / f"{name}.lock"

    def _manifest_path(self, digest: str) -> Path:
        return self.root / "manifests" / f"{digest.removeprefix('sha256:')}.json"

    def _is_whole(self, folder: Path, manifest: Manifest) -> bool:
        paths = [(folder / admission.path(file.path), file) for file in manifest.files]
        return _has_manifest(folder, manifest) and all(
            path.is_file()
            and path.stat().st_size == file.size_bytes
            and sha256_of(path) == file.sha256
            for path, file in paths
        )


def _has_manifest(folder: Path, manifest: Manifest) -> bool:
    path = folder / MANIFEST_FILE
    return path.is_file() and admission.is_canonical(path.read_bytes(), digest(manifest))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        target.chmod(0o444)
