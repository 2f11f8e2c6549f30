"""Blobs in memory: for tests and for trying things out."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from adapterhub_registry.storage.store import (
    CHUNK_BYTES,
    BlobCorrupt,
    BlobMissing,
    Stored,
    Target,
    Watch,
    checked,
    measured,
    verify,
)


class MemoryStore:
    """A BlobStore that is gone with its process."""

    def __init__(self) -> None:
        self._staged: dict[str, dict[str, tuple[bytes, datetime]]] = {}
        self._parts: dict[tuple[str, str], dict[int, tuple[bytes, datetime]]] = {}
        self._blobs: dict[str, tuple[bytes, datetime]] = {}

    def stage(self, upload: str, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        """Keep bytes for an upload."""
        content = b"".join(checked(sha256, chunks, size_bytes))
        self._staged.setdefault(upload, {})[sha256] = (content, datetime.now(UTC))

    def stage_part(
        self, upload: str, sha256: str, number: int, chunks: Iterable[bytes], size_bytes: int
    ) -> None:
        """Keep a part of bytes for an upload."""
        content = b"".join(measured(sha256, chunks, size_bytes))
        parts = self._parts.setdefault((upload, sha256), {})
        parts[number] = (content, datetime.now(UTC))

    def staged_parts(self, upload: str, sha256: str) -> dict[int, int]:
        """How many bytes of which parts are staged."""
        parts = self._parts.get((upload, sha256), {})
        return {number: len(parts[number][0]) for number in sorted(parts)}

    def staged(self, upload: str) -> Mapping[str, int]:
        """All that is staged for an upload."""
        found = {
            sha256: sum(len(content) for content, _ in parts.values())
            for (owner, sha256), parts in list(self._parts.items())
            if owner == upload
        }
        whole = self._staged.get(upload, {})
        return found | {sha256: len(content) for sha256, (content, _) in whole.items()}

    def staged_bytes(self, upload: str, sha256: str) -> int | None:
        """How many bytes are staged."""
        return self.staged(upload).get(sha256)

    def read_staged(self, upload: str, sha256: str) -> Iterator[bytes]:
        """The staged bytes."""
        whole = self._staged.get(upload, {}).get(sha256)
        if whole is not None:
            return _chunks(whole[0])
        parts = self._parts.get((upload, sha256))
        if not parts:
            raise BlobMissing(sha256)
        return _chunks(b"".join(parts[number][0] for number in sorted(parts)))

    def promote(
        self, upload: str, sha256: str, size_bytes: int, watch: Watch | None = None
    ) -> None:
        """Hash staged bytes and make them a blob."""
        content = b"".join(self.read_staged(upload, sha256))
        try:
            verify(sha256, _chunks(content), size_bytes, watch)
        except BlobCorrupt:
            self._staged.get(upload, {}).pop(sha256, None)
            self._parts.pop((upload, sha256), None)
            raise
        self._blobs[sha256] = (content, datetime.now(UTC))

    def put(self, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        """Hash bytes and make them a blob."""
        content = b"".join(checked(sha256, chunks, size_bytes))
        self._blobs[sha256] = (content, datetime.now(UTC))

    def discard(self, upload: str) -> None:
        """Forget all that is staged for an upload."""
        self._staged.pop(upload, None)
        for place in [place for place in list(self._parts) if place[0] == upload]:
            self._parts.pop(place, None)

    def stale_uploads(self, before: datetime) -> Iterator[str]:
        """The uploads whose staged bytes are all older."""
        newest: dict[str, datetime] = {}
        groups = [
            *((upload, staged.values()) for upload, staged in list(self._staged.items())),
            *((upload, parts.values()) for (upload, _), parts in list(self._parts.items())),
        ]
        for upload, group in groups:
            for _, moment in list(group):
                newest[upload] = max(moment, newest.get(upload, moment))
        yield from (upload for upload, moment in newest.items() if moment < before)

    def size_bytes(self, sha256: str) -> int:
        """The size of a blob."""
        return len(self._content(sha256))

    def read(self, sha256: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a blob."""
        content = self._content(sha256)
        return _chunks(content[start : len(content) if length is None else start + length])

    def remove(self, sha256: str) -> None:
        """Forget a blob."""
        self._blobs.pop(sha256, None)

    def blobs(self) -> Iterator[Stored]:
        """Every blob there is."""
        for sha256, (content, moment) in list(self._blobs.items()):
            yield Stored(sha256, len(content), moment)

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
        """Nothing is ever half made here."""
        del before
        return 0

    def download_url(self, sha256: str, lifetime: timedelta) -> str | None:
        """None: bytes leave through the registry."""
        del sha256, lifetime
        return None  # the answer, not the end

    def _content(self, sha256: str) -> bytes:
        try:
            return self._blobs[sha256][0]
        except KeyError:
            raise BlobMissing(sha256) from None


def _chunks(content: bytes) -> Iterator[bytes]:
    return (content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES))
