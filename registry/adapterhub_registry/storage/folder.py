"""Blobs as files of a folder: the embedded default.

A file gets its final name only when it is whole, hashed and on the disk: it is written beside, synced, and renamed.
Promotion is a second name for the staged file, so it costs a hash and no copy; parts are copied into one file while
they are hashed.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapterhub_registry.storage.store import (
    CHUNK_BYTES,
    BlobCorrupt,
    BlobMissing,
    Stored,
    StoreUnreachable,
    Target,
    Watch,
    checked,
    measured,
    verify,
)

_HEX_DIGITS = 64


class FolderStore:
    """A BlobStore in a folder; several processes may use it at once."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._blobs = self.folder / "blobs" / "sha256"
        self._staging = self.folder / "staging"

    def stage(self, upload: str, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        """Keep bytes for an upload."""
        target = self._staged_path(upload, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, checked(sha256, chunks, size_bytes))

    def stage_part(
        self, upload: str, sha256: str, number: int, chunks: Iterable[bytes], size_bytes: int
    ) -> None:
        """Keep a part of bytes for an upload."""
        target = self._staged_path(upload, _part_name(sha256, number))
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, measured(sha256, chunks, size_bytes))

    def staged_parts(self, upload: str, sha256: str) -> dict[int, int]:
        """How many bytes of which parts are staged."""
        found = {}
        for path in _listed(self._staging / upload):
            name, _, number = path.name.partition(".")
            if name == sha256 and number.isdigit():
                with suppress(FileNotFoundError):
                    found[int(number)] = path.stat().st_size
        return dict(sorted(found.items()))

    def staged(self, upload: str) -> Mapping[str, int]:
        """All that is staged for an upload."""
        whole: dict[str, int] = {}
        parts: dict[str, int] = {}
        for path in _listed(self._staging / upload):
            sha256, _, number = path.name.partition(".")
            with suppress(FileNotFoundError):
                if number.isdigit():
                    parts[sha256] = parts.get(sha256, 0) + path.stat().st_size
                elif len(path.name) == _HEX_DIGITS:
                    whole[sha256] = path.stat().st_size
        return parts | whole

    def staged_bytes(self, upload: str, sha256: str) -> int | None:
        """How many bytes are staged."""
        return self.staged(upload).get(sha256)

    def read_staged(self, upload: str, sha256: str) -> Iterator[bytes]:
        """The staged bytes."""
        whole = self._staged_path(upload, sha256)
        if whole.is_file():
            return _read(whole, sha256)
        parts = self.staged_parts(upload, sha256)
        if not parts:
            raise BlobMissing(sha256)
        paths = [self._staged_path(upload, _part_name(sha256, number)) for number in parts]
        return (chunk for path in paths for chunk in _read(path, sha256))

    def promote(
        self, upload: str, sha256: str, size_bytes: int, watch: Watch | None = None
    ) -> None:
        """Hash staged bytes and make them a blob."""
        source = self._staged_path(upload, sha256)
        try:
            if source.is_file():
                self._adopt(source, sha256, size_bytes, watch)
            else:
                self.put(sha256, _shown(self.read_staged(upload, sha256), watch), size_bytes)
        except BlobCorrupt:
            source.unlink(missing_ok=True)
            for number in self.staged_parts(upload, sha256):
                name = _part_name(sha256, number)
                self._staged_path(upload, name).unlink(missing_ok=True)
            raise

    def put(self, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        """Hash bytes and make them a blob."""
        target = self._path(sha256)
        _make_folder(target.parent)
        _write(target, checked(sha256, chunks, size_bytes))

    def _adopt(self, source: Path, sha256: str, size_bytes: int, watch: Watch | None) -> None:
        target = self._path(sha256)
        verify(sha256, _read(source, sha256), size_bytes, watch)
        _make_folder(target.parent)
        beside = target.with_name(f".{sha256}.{secrets.token_hex(8)}.part")
        try:
            _link(source, beside, sha256)
            os.utime(beside)  # garbage collection goes by age
            beside.replace(target)
        finally:
            # a rename between two names of one file leaves both
            beside.unlink(missing_ok=True)
        _sync(target.parent)

    def discard(self, upload: str) -> None:
        """Forget all that is staged for an upload."""
        shutil.rmtree(self._staging / upload, ignore_errors=True)

    def stale_uploads(self, before: datetime) -> Iterator[str]:
        """The uploads whose staged bytes are all older."""
        for folder in _listed(self._staging):
            with suppress(FileNotFoundError):  # gone meanwhile
                moments = [path.stat().st_mtime for path in [folder, *folder.iterdir()]]
                if datetime.fromtimestamp(max(moments), UTC) < before:
                    yield folder.name

    def size_bytes(self, sha256: str) -> int:
        """The size of a blob."""
        try:
            return self._path(sha256).stat().st_size
        except FileNotFoundError:
            raise BlobMissing(sha256) from None

    def read(self, sha256: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a blob."""
        return _read(self._path(sha256), sha256, start, length)

    def remove(self, sha256: str) -> None:
        """Forget a blob."""
        self._path(sha256).unlink(missing_ok=True)

    def blobs(self) -> Iterator[Stored]:
        """Every blob there is."""
        for folder in _listed(self._blobs):
            for path in _listed(folder):
                if len(path.name) == _HEX_DIGITS:
                    with suppress(FileNotFoundError):
                        stat = path.stat()
                        moment = datetime.fromtimestamp(stat.st_mtime, UTC)
                        yield Stored(path.name, stat.st_size, moment)

    def upload_target(
        self, upload: str, sha256: str, size_bytes: int, lifetime: timedelta
    ) -> Target | None:
        """None: bytes come through the registry."""
        del upload, sha256, size_bytes, lifetime
        return None  # the answer, not the end

    def part_target(
        self, upload: str, sha256: str, number: int, size_bytes: int, lifetime: timedelta
    ) -> Target | None:
        """None: parts come through the registry too."""
        del upload, sha256, number, size_bytes, lifetime
        return None  # the answer, not the end

    def sweep(self, before: datetime) -> int:
        """Remove files that were never renamed to their final name."""
        removed = 0
        for folder in _listed(self._blobs):
            for path in folder.glob(".*.part"):
                with suppress(FileNotFoundError):
                    if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                        path.unlink()
                        removed += 1
        return removed

    def download_url(self, sha256: str, lifetime: timedelta) -> str | None:
        """None: bytes leave through the registry."""
        del sha256, lifetime
        return None  # the answer, not the end

    def _path(self, sha256: str) -> Path:
        return self._blobs / sha256[:2] / sha256

    def _staged_path(self, upload: str, sha256: str) -> Path:
        return self._staging / upload / sha256


def _part_name(sha256: str, number: int) -> str:
    return f"{sha256}.{number:05d}"


def _shown(chunks: Iterable[bytes], watch: Watch | None) -> Iterator[bytes]:
    for chunk in chunks:
        if watch is not None:
            watch(chunk)
        yield chunk


def _write(target: Path, chunks: Iterable[bytes]) -> None:
    beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        with _translated(), beside.open("xb") as file:
            for chunk in _from_sender(chunks):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            beside.replace(target)
            _sync(target.parent)
    except _OfSender as error:
        raise error.fault from None
    finally:
        with suppress(OSError):  # what cannot be removed now is swept later
            beside.unlink(missing_ok=True)


class _OfSender(Exception):  # carries a fault, is none
    """A fault of whoever sends the bytes, on its way past the translation of our own."""

    def __init__(self, fault: BaseException) -> None:
        super().__init__()
        self.fault = fault


def _from_sender(chunks: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except OSError as error:
        raise _OfSender(error) from error


@contextmanager
def _translated() -> Iterator[None]:
    """A full disk, one that only reads, or one that fails: the store does not answer."""
    try:
        yield
    except OSError as error:
        raise StoreUnreachable(f"The folder cannot be written: {error.strerror}.") from error


def _read(path: Path, sha256: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise BlobMissing(sha256) from None

    def chunks() -> Iterator[bytes]:
        with file:
            file.seek(start)
            left = length
            while left is None or left > 0:
                chunk = file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk

    return chunks()


def _link(source: Path, target: Path, sha256: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise BlobMissing(sha256) from None
    except OSError:  # a file system without hard links
        _write(target, _read(source, sha256))


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """A rename is on the disk only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
