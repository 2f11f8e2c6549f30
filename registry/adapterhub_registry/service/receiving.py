"""Take the bytes of an upload that pass through the registry: a blob, a part of one, or many small ones at once."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.database import ensure_all
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import BadRequest, ContentRefused, UploadNotFound
from adapterhub_registry.models import UploadBlob
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import publishing
from adapterhub_registry.service.visibility import require_scope
from adapterhub_registry.service.weights import Inspection
from adapterhub_registry.storage import BlobCorrupt
from adapterhub_registry.storage.store import MIB, part_sizes, verify

SMALL_BYTES = MIB
"""blobs of at most so many bytes may come many in one request"""
BATCH_BYTES = 4 * MIB
"""small blobs that come together, with their digests"""

_DIGEST_BYTES = 32
_PUT_AT_ONCE = 6
_ADDRESSES_AT_ONCE = 100
_ADDRESS_LIFETIME = timedelta(hours=1)


class _Wanted(msgspec.Struct, frozen=True):
    """What an upload's manifest asks for."""

    sizes: dict[str, int]
    weights: frozenset[str]

    def inspection(self, sha256: str) -> Inspection | None:
        """What looks into a blob as it goes by, where it is weights."""
        return Inspection(self.sizes[sha256]) if sha256 in self.weights else None


Read = Callable[[int], bytes]
"""gives at most so many bytes of the body, none at its end"""


def blob(runtime: Runtime, viewer: Viewer, place: tuple[str, str], chunks: Iterable[bytes]) -> None:
    """Keep the bytes of one blob; `place` is the upload's id and the blob's SHA-256.

    It is hashed, looked into and put at its final place in one go, and the receipt says so; one that is larger than
    `direct_bytes` is staged, and hashed by the commit.

    Raises:
        UploadNotFound: There is no such upload, or its manifest has no such blob.
        ContentRefused: Size or hash differ; nothing was kept.
    """
    upload_id, sha256 = place
    wanted = _wanted(runtime, viewer, upload_id)
    size_bytes = _size(wanted.sizes, place)
    inspection = wanted.inspection(sha256)
    try:
        if size_bytes > runtime.settings.direct_bytes:
            runtime.store.stage(upload_id, sha256, chunks, size_bytes)
            return
        runtime.store.put(sha256, _watched(chunks, inspection), size_bytes)
    except BlobCorrupt as error:
        raise ContentRefused([f"{sha256}: {error.fault}"]) from error
    _receipt(runtime, upload_id, {sha256: inspection})


def there(runtime: Runtime, viewer: Viewer, place: tuple[str, str]) -> None:
    """Take a blob for an upload that the store has already: it is hashed and looked into where it is.

    Raises:
        UploadNotFound: There is no such upload, or its manifest has no such blob.
        ContentRefused: Size or hash differ.
    """
    upload_id, sha256 = place
    wanted = _wanted(runtime, viewer, upload_id)
    size_bytes, inspection = _size(wanted.sizes, place), wanted.inspection(sha256)
    try:
        verify(sha256, _watched(runtime.store.read(sha256), inspection), size_bytes)
    except BlobCorrupt as error:
        raise ContentRefused([f"{sha256}: {error.fault}"]) from error
    _receipt(runtime, upload_id, {sha256: inspection})


def batch(runtime: Runtime, viewer: Viewer, upload_id: str, read: Read) -> None:
    """Keep many small blobs: for each its SHA-256 as 32 bytes, then its bytes.

    Those before a refused one are kept: they need not be sent again.

    Raises:
        UploadNotFound: There is no such upload, or its manifest has no such blob.
        ContentRefused: Bytes that are not those their digest says.
        BadRequest: The body ends within a blob, or brings one that is not small.
    """
    wanted = _wanted(runtime, viewer, upload_id)
    kept: dict[str, Inspection | None] = {}
    puts: list[tuple[str, Inspection | None, Future[None]]] = []
    try:
        with ThreadPoolExecutor(_PUT_AT_ONCE) as pool:
            for sha256, content in _unpacked(wanted.sizes, upload_id, read):
                inspection = wanted.inspection(sha256)
                chunks = _watched([content], inspection)
                put = pool.submit(runtime.store.put, sha256, chunks, len(content))
                puts.append((sha256, inspection, put))
        for sha256, inspection, put in puts:
            _settled(sha256, put)
            kept[sha256] = inspection
    finally:
        if kept:
            _receipt(runtime, upload_id, kept)


def part(
    runtime: Runtime, viewer: Viewer, place: tuple[str, str, int], chunks: Iterable[bytes]
) -> None:
    """Keep part `place[2]`, from 1, of the blob `place[1]` of the upload `place[0]`.

    Raises:
        UploadNotFound: There is no such upload, blob or part.
        ContentRefused: The part has another size; it was not kept.
    """
    upload_id, sha256, number = place
    parts = part_sizes(_size(_wanted(runtime, viewer, upload_id).sizes, (upload_id, sha256)))
    if not 1 <= number <= len(parts):
        raise UploadNotFound(f"{upload_id}/{sha256}/{number}")
    try:
        runtime.store.stage_part(upload_id, sha256, number, chunks, parts[number - 1])
    except BlobCorrupt as error:
        raise ContentRefused([f"{sha256}: {error.fault}"]) from error


def parts(runtime: Runtime, viewer: Viewer, place: tuple[str, str]) -> wire.Parts:
    """Which parts of a blob are there, and where the next of the missing ones go.

    Raises:
        UploadNotFound: There is no such upload, or its manifest has no such blob.
    """
    upload_id, sha256 = place
    expected = part_sizes(_size(_wanted(runtime, viewer, upload_id).sizes, place))
    staged = runtime.store.staged_parts(upload_id, sha256)
    missing: list[wire.Part] = []
    received: list[int] = []
    start = 0
    for number, size_bytes in enumerate(expected, 1):
        if staged.get(number) == size_bytes:
            received.append(number)
        elif len(missing) < _ADDRESSES_AT_ONCE:
            missing.append(_address(runtime, place, number, start, size_bytes))
        start += size_bytes
    received_bytes = sum(staged[number] for number in received)
    return wire.Parts(
        count=len(expected), received=received, received_bytes=received_bytes, missing=missing
    )


def _address(
    runtime: Runtime, place: tuple[str, str], number: int, start: int, size_bytes: int
) -> wire.Part:
    target = runtime.store.part_target(*place, number, size_bytes, _ADDRESS_LIFETIME)
    url = f"/api/v1/uploads/{place[0]}/blobs/{place[1]}/parts/{number}"
    return wire.Part(
        number=number,
        start=start,
        size_bytes=size_bytes,
        url=url if target is None else target.url,
        headers={} if target is None else target.headers,
    )


def _wanted(runtime: Runtime, viewer: Viewer, upload_id: str) -> _Wanted:
    require_scope(viewer, "write")
    with runtime.database.reading() as session:
        upload = publishing.open_upload(session, runtime, viewer, upload_id)
    manifest = msgspec.json.decode(upload.manifest, type=wire.Manifest)
    return _Wanted(publishing.blob_sizes(manifest), frozenset(publishing.weights(manifest)))


def _watched(chunks: Iterable[bytes], inspection: Inspection | None) -> Iterator[bytes]:
    for chunk in chunks:
        if inspection is not None:
            inspection.watch(chunk)
        yield chunk


def _size(sizes: dict[str, int], place: tuple[str, str]) -> int:
    if place[1] not in sizes:
        raise UploadNotFound("/".join(place))
    return sizes[place[1]]


def _unpacked(sizes: dict[str, int], upload_id: str, read: Read) -> Iterator[tuple[str, bytes]]:
    while digest := _exactly(read, _DIGEST_BYTES, or_nothing=True):
        sha256 = digest.hex()
        size_bytes = _size(sizes, (upload_id, sha256))
        if size_bytes > SMALL_BYTES:
            raise BadRequest(f"The blob {sha256!r} is larger than {SMALL_BYTES} bytes.")
        yield sha256, _exactly(read, size_bytes)


def _exactly(read: Read, length: int, *, or_nothing: bool = False) -> bytes:
    taken, left = [], length
    while left and (chunk := read(left)):
        taken.append(chunk)
        left -= len(chunk)
    if left and (taken or not or_nothing):
        raise BadRequest("The body ends within a blob.")
    return b"".join(taken)


def _settled(sha256: str, put: Future[None]) -> None:
    try:
        put.result()
    except BlobCorrupt as error:
        raise ContentRefused([f"{sha256}: {error.fault}"]) from error


def _receipt(runtime: Runtime, upload_id: str, brought: dict[str, Inspection | None]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "upload_id": upload_id,
            "sha256": sha256,
            "findings": None if seen is None else msgspec.to_builtins(seen.findings()),
        }
        for sha256, seen in sorted(brought.items())
    ]

    def write(session: Session) -> None:
        ensure_all(session, UploadBlob, rows)

    runtime.database.transact(write)
