"""A part of a catalogue as one signed file: what it holds, and reading it without trusting it.

A bundle is a tar of regular files in a fixed order: `index.json`, `signature.json`, the blobs by SHA-256, the
manifests by digest. The signature is over the index, and the index has the digest and the size of everything after
it. Headers and padding are the ones that these names and sizes give, byte for byte. So there is nothing in the file
that is not signed, and the same catalogue gives the same file.
"""

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from adapterhub_client.wire import Status
from adapterhub_registry.errors import BundleRefused
from adapterhub_registry.service import signing
from adapterhub_registry.storage.store import CHUNK_BYTES

FORMAT = "adapterhub-bundle"
SCHEMA_VERSION = 1
INDEX, SIGNATURE = "index.json", "signature.json"
_CONTEXT = b"adapterhub-bundle 1\n"
_INDEX_BYTES = 1 << 30
_SIGNATURE_BYTES = 1 << 16
_PREFIX = "sha256:"

Told = Callable[[int, int], None]
"""hears how many bytes are done, and of how many"""
Content = Callable[[], Iterator[bytes]]


class Alias(msgspec.Struct, frozen=True):
    """An alias and the digest it points at."""

    name: str
    digest: str


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter, and the names it had before."""

    reference: str
    private: bool
    formerly: list[str] = []
    aliases: list[Alias] = []


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A version; its manifest is an entry of its own."""

    digest: str
    manifest_bytes: int
    reference: str
    published_as: str | None
    number: int
    status: Status
    reason: str | None
    created_at: str
    created_by: str


class Blob(msgspec.Struct, frozen=True):
    """Bytes of files."""

    sha256: str
    size_bytes: int


class Grave(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was deleted where the bundle was made."""

    digest: str
    reference: str
    number: int
    private: bool
    base_key: str
    base_name: str
    method: str
    config_id: str
    size_bytes: int
    reason: str
    published_at: str
    deleted_at: str


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """The name of an adapter that was deleted where the bundle was made."""

    reference: str
    private: bool
    reason: str
    deleted_at: str


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """All that a bundle holds and says; members come before what pins them."""

    format: str = FORMAT
    schema_version: int = SCHEMA_VERSION
    source: str
    exported_at: str
    adapters: list[Adapter]
    versions: list[Version]
    blobs: list[Blob]
    tombstones: list[Grave]
    retired: list[Retired]

    @property
    def size_bytes(self) -> int:
        """The bytes of all entries after the signature."""
        manifests = sum(each.manifest_bytes for each in self.versions)
        return sum(each.size_bytes for each in self.blobs) + manifests


class Entry(msgspec.Struct, frozen=True):
    """A file of a bundle that the index names."""

    path: str
    sha256: str
    size_bytes: int
    version: Version | None = None


class Seal(msgspec.Struct, frozen=True):
    """The index of a bundle that a trusted key signed."""

    index: Index
    digest: str
    key_id: str


def entries(index: Index) -> Iterator[Entry]:
    """Every file after the signature, in order."""
    for blob in index.blobs:
        path = f"blobs/sha256/{blob.sha256[:2]}/{blob.sha256}"
        yield Entry(path, blob.sha256, blob.size_bytes)
    for version in index.versions:
        sha256 = version.digest.removeprefix(_PREFIX)
        yield Entry(f"manifests/{sha256}.json", sha256, version.manifest_bytes, version)


def message(index: bytes) -> bytes:
    """What is signed: an index, and that it is one, so that the signature serves for nothing else."""
    return _CONTEXT + index


def header(path: str, size_bytes: int) -> bytes:
    """The tar header of a file: names and sizes are all it says."""
    info = tarfile.TarInfo(path)
    info.size, info.mode = size_bytes, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def padding(size_bytes: int) -> bytes:
    """What fills the last block of a file."""
    return b"\0" * (-size_bytes % tarfile.BLOCKSIZE)


def end(written_bytes: int) -> bytes:
    """What ends a tar after so many bytes."""
    closing = 2 * tarfile.BLOCKSIZE
    return b"\0" * (closing + -(written_bytes + closing) % tarfile.RECORDSIZE)


def verify(
    path: Path, trusted: dict[str, Any], look: Callable[[Entry, bytes], None], told: Told
) -> Seal:
    """Read a whole bundle, hash all of it and write nothing; `look` sees every manifest.

    Raises:
        BundleRefused: No trusted key signed it, or an entry is not what was signed; it is named.
    """
    with path.open("rb") as file:
        seal = _sealed(file, trusted)
        done = 0
        for entry in entries(seal.index):
            kept = bytearray()
            for chunk in _checked(file, entry):
                done += len(chunk)
                told(done, seal.index.size_bytes)
                if entry.version is not None:
                    kept += chunk
            if entry.version is not None:
                look(entry, bytes(kept))
        rest = end(file.tell())
        if file.read(len(rest) + 1) != rest:
            raise BundleRefused("It does not end where its index says.")
    return seal


def read(path: Path, seal: Seal) -> Iterator[tuple[Entry, Content]]:
    """The entries of a bundle that was verified, hashed once more as they are read; each may be left unread."""
    with path.open("rb") as file:
        for name, limit in ((INDEX, _INDEX_BYTES), (SIGNATURE, _SIGNATURE_BYTES)):
            content = _document(file, name, limit)
            if name == INDEX and digest_of(content) != seal.digest:
                raise BundleRefused("It was replaced while it was read.")
        for entry in entries(seal.index):
            start = file.tell()

            def content_of(entry: Entry = entry, start: int = start) -> Iterator[bytes]:
                file.seek(start)
                return _checked(file, entry)

            yield entry, content_of
            size = entry.size_bytes
            file.seek(start + tarfile.BLOCKSIZE + size + len(padding(size)))


def _sealed(file: BinaryIO, trusted: dict[str, Any]) -> Seal:
    content = _document(file, INDEX, _INDEX_BYTES)
    signed = _document(file, SIGNATURE, _SIGNATURE_BYTES)
    try:
        signatures = msgspec.json.decode(signed, type=list[signing.Signature])
    except msgspec.DecodeError as error:
        raise BundleRefused(f"`{SIGNATURE}` cannot be read: {error}.") from error
    key_id = signing.verified_by(signatures, message(content), trusted)
    try:
        index = msgspec.json.decode(content, type=Index)
    except msgspec.DecodeError as error:
        raise BundleRefused(f"`{INDEX}` cannot be read: {error}.") from error
    if (index.format, index.schema_version) != (FORMAT, SCHEMA_VERSION):
        raise BundleRefused(f"It is a {index.format!r} of version {index.schema_version}.")
    return Seal(index, digest_of(content), key_id)


def _document(file: BinaryIO, path: str, limit: int) -> bytes:
    """A file whose size only the bundle itself knows."""
    block = file.read(tarfile.BLOCKSIZE)
    try:
        size = tarfile.TarInfo.frombuf(block, "ascii", "strict").size
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise BundleRefused(f"It is no bundle: `{path}` should be here.") from error
    if not 0 <= size <= limit or block != header(path, size):
        raise BundleRefused(f"It is no bundle: `{path}` should be here.")
    content = file.read(size)
    if len(content) != size or file.read(len(padding(size))) != padding(size):
        raise BundleRefused(f"It is cut off within `{path}`.")
    return content


def _checked(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    if file.read(tarfile.BLOCKSIZE) != header(entry.path, entry.size_bytes):
        raise BundleRefused(f"`{entry.path}` is not where its index says, or has another size.")
    hashed, left = hashlib.sha256(), entry.size_bytes
    while left:
        chunk = file.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise BundleRefused(f"It is cut off within `{entry.path}`.")
        hashed.update(chunk)
        left -= len(chunk)
        yield chunk
    if hashed.hexdigest() != entry.sha256:
        raise BundleRefused(f"`{entry.path}` was changed: it does not hash to its digest.")
    if file.read(len(padding(entry.size_bytes))) != padding(entry.size_bytes):
        raise BundleRefused(f"`{entry.path}` was changed: it is not padded with zeros.")


def digest_of(content: bytes) -> str:
    """The name of a bundle: the digest of its index."""
    return _PREFIX + hashlib.sha256(content).hexdigest()
