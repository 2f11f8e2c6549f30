"""Blobs in memory: for tests and for trying things out."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from adapterhub_registry.storage.store import (
    CHUNK_BYTES,
    BlobCorrupt,
    BlobMissing,
    Stored,
    Target,
    checked,
    verify,
)


class MemoryStore:
    """A BlobStore that is gone with its process."""

    def __init__(self) -> None:
        self._staged: dict[str, dict[str, tuple[bytes, datetime]]] = {}
        self._blobs: dict[str, tuple[bytes, datetime]] = {}

    def stage(self, upload: str, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        """Keep bytes for an upload."""
        content = b"".join(checked(sha256, chunks, size_bytes))
        self._staged.setdefault(upload, {})[sha256] = (content, datetime.now(UTC))

    def staged_bytes(self, upload: str, sha256: str) -> int | None:
        """How many bytes are staged."""
        staged = self._staged.get(upload, {}).get(sha256)
        return None if staged is None else len(staged[0])

    def read_staged(self, upload: str, sha256: str) -> Iterator[bytes]:
        """The staged bytes."""
        try:
            content, _ = self._staged[upload][sha256]
        except KeyError:
            raise BlobMissing(sha256) from None
        return _chunks(content)

    def promote(self, upload: str, sha256: str, size_bytes: int) -> None:
        """Hash staged bytes and make them a blob."""
        content = b"".join(self.read_staged(upload, sha256))
        try:
            verify(sha256, _chunks(content), size_bytes)
        except BlobCorrupt:
            self._staged[upload].pop(sha256, None)
            raise
        self._blobs[sha256] = (content, datetime.now(UTC))

    def discard(self, upload: str) -> None:
        """Forget all that is staged for an upload."""
        self._staged.pop(upload, None)

    def stale_uploads(self, before: datetime) -> Iterator[str]:
        """The uploads whose staged bytes are all older."""
        for upload, staged in list(self._staged.items()):
            if all(moment < before for _, moment in staged.values()):
                yield upload

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
