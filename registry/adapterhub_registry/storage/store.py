"""The protocol of every blob store, and what it promises."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

MIB = 1024 * 1024
CHUNK_BYTES = MIB // 4
"""that pass at once: every transfer holds a few of them"""
PART_BYTES = 16 * MIB
_LARGEST_PART_BYTES = 64 * MIB
_MANY_PARTS = 1000
_WHOLE_BYTES = 2 * PART_BYTES

Watch = Callable[[bytes], None]
"""is shown every chunk of bytes that are hashed"""


def part_sizes(size_bytes: int) -> list[int]:
    """The bytes of each part in which a blob of this size travels; none where it travels whole.

    Sizes follow from the blob alone, so every process and every later release cuts an upload alike.
    """
    if size_bytes <= _WHOLE_BYTES:
        return []
    each = PART_BYTES
    while each < _LARGEST_PART_BYTES and size_bytes > each * _MANY_PARTS:
        each *= 2
    return [min(each, size_bytes - start) for start in range(0, size_bytes, each)]


class BlobMissing(Exception):
    """There are no such bytes."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"There is no blob {sha256!r}.")
        self.sha256 = sha256


class BlobCorrupt(Exception):
    """Bytes are not those that their name says."""

    def __init__(self, sha256: str, fault: str) -> None:
        super().__init__(f"The bytes of {sha256!r} are not those: {fault}.")
        self.sha256, self.fault = sha256, fault


class StoreUnreachable(Exception):
    """The store does not answer, or answers with a fault of its own."""


class Stored(msgspec.Struct, frozen=True):
    """A blob as a listing shows it."""

    sha256: str
    size_bytes: int
    modified_at: datetime


class Target(msgspec.Struct, frozen=True):
    """Where a client puts bytes without passing through the registry."""

    url: str
    headers: dict[str, str]


class BlobStore(Protocol):
    """Bytes under their SHA-256, and a staging area for each upload.

    Guarantees, all held by one conformance suite:
    - A blob is readable only once it is whole, and whole it stays: no crash and no race shows a part of it.
    - Only `promote` and `put` make a blob, and only from bytes which they have hashed themselves.
    - Of staged parts, each is whole or not there; those of an upload count as one blob in the order of their numbers.
    - What `stage` and `promote` have returned from survives a crash of the process.
    - Everything may be called again: twice is as once.
    - Nothing is ever held in memory as a whole (MemoryStore excepted).
    """

    def stage(self, upload: str, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        """Keep bytes for an upload. BlobCorrupt where hash or size differ; nothing is kept then."""

    def stage_part(
        self, upload: str, sha256: str, number: int, chunks: Iterable[bytes], size_bytes: int
    ) -> None:
        """Keep part `number`, from 1, of bytes for an upload. BlobCorrupt where the size differs; not kept then."""

    def staged_parts(self, upload: str, sha256: str) -> dict[int, int]:
        """How many bytes of which parts are staged."""

    def staged(self, upload: str) -> Mapping[str, int]:
        """All that is staged for an upload: how many bytes under which name, in parts or whole."""

    def staged_bytes(self, upload: str, sha256: str) -> int | None:
        """How many bytes are staged under this name, or None. They need not be the right ones."""

    def read_staged(self, upload: str, sha256: str) -> Iterator[bytes]:
        """The staged bytes. BlobMissing where there are none."""

    def promote(
        self, upload: str, sha256: str, size_bytes: int, watch: Watch | None = None
    ) -> None:
        """Hash staged bytes and make them a blob; they stay staged. BlobMissing; BlobCorrupt, then unstaged."""

    def put(self, sha256: str, chunks: Iterable[bytes], size_bytes: int) -> None:
        """Hash bytes that pass through the registry and make them a blob at once. BlobCorrupt; not kept then."""

    def discard(self, upload: str) -> None:
        """Forget all that is staged for an upload."""

    def stale_uploads(self, before: datetime) -> Iterator[str]:
        """The uploads whose staged bytes are all older."""

    def size_bytes(self, sha256: str) -> int:
        """The size of a blob. BlobMissing."""

    def read(self, sha256: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a blob from `start` on. BlobMissing at once, not at the first chunk."""

    def remove(self, sha256: str) -> None:
        """Forget a blob."""

    def blobs(self) -> Iterator[Stored]:
        """Every blob there is."""

    def upload_target(
        self, upload: str, sha256: str, size_bytes: int, lifetime: timedelta
    ) -> Target | None:
        """Where a client may put staged bytes by itself, or None: it sends them to the registry."""

    def part_target(
        self, upload: str, sha256: str, number: int, size_bytes: int, lifetime: timedelta
    ) -> Target | None:
        """Where a client may put one part by itself, or None."""

    def sweep(self, before: datetime) -> int:
        """Remove what processes that were killed left half made before a moment; says how many."""

    def download_url(self, sha256: str, lifetime: timedelta) -> str | None:
        """Where a client may read a blob by itself, or None: the registry sends it."""


def checked(sha256: str, chunks: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Pass bytes on while they are hashed.

    Raises:
        BlobCorrupt: At the end where they differ; earlier where there are too many.
    """
    digest, passed = hashlib.sha256(), 0
    for chunk in chunks:
        passed += len(chunk)
        if passed > size_bytes:
            raise BlobCorrupt(sha256, f"there are more than {size_bytes} bytes")
        digest.update(chunk)
        yield chunk
    if passed != size_bytes:
        raise BlobCorrupt(sha256, f"there are {passed} bytes, not {size_bytes}")
    if digest.hexdigest() != sha256:
        raise BlobCorrupt(sha256, f"they hash to {digest.hexdigest()!r}")


def measured(sha256: str, chunks: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Pass bytes on while they are counted: a part's hash is not known.

    Raises:
        BlobCorrupt: There are more or fewer.
    """
    passed = 0
    for chunk in chunks:
        passed += len(chunk)
        if passed > size_bytes:
            raise BlobCorrupt(sha256, f"a part has more than {size_bytes} bytes")
        yield chunk
    if passed != size_bytes:
        raise BlobCorrupt(sha256, f"a part has {passed} bytes, not {size_bytes}")


def verify(
    sha256: str, chunks: Iterable[bytes], size_bytes: int, watch: Watch | None = None
) -> None:
    """Hash bytes; BlobCorrupt where they differ."""
    for chunk in checked(sha256, chunks, size_bytes):
        if watch is not None:
            watch(chunk)
