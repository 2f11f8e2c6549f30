"""The zip of a version as clients of old load it: made anew each time, with the same bytes, so its checksums hold."""

import hashlib
import tempfile
from collections.abc import Iterable
from functools import partial
from typing import IO

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import undefer

from adapterhub_client import wire
from adapterhub_registry.database import ensure_with
from adapterhub_registry.legacy import checkpoint
from adapterhub_registry.legacy.zipping import add, deterministic
from adapterhub_registry.models import LegacyArchive, Version
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.storage import BlobStore

OF_OLD = {
    "adapter.safetensors": "pytorch_adapter.bin",
    "model_head.safetensors": "pytorch_model_head.bin",
}
"""what clients of old call these files; they read only files of torch"""

_CHUNK_BYTES = 1024 * 1024


class Sums(msgspec.Struct, frozen=True):
    """What the zip of a version hashes to."""

    sha1: str
    sha256: str
    size_bytes: int


def sums(runtime: Runtime, digest: str) -> Sums:
    """The checksums of a version's zip; the first time they cost making it."""
    with runtime.database.reading() as session:
        row = session.scalar(
            select(LegacyArchive)
            .join(Version, LegacyArchive.version_id == Version.id)
            .where(Version.digest == digest)
        )
        if row is not None:
            return Sums(row.sha1, row.sha256, row.size_bytes)
    with tempfile.TemporaryFile() as target:
        write(runtime, digest, target)
        found = _summed(target)
    with runtime.database.writing() as session:
        version_id = session.scalars(select(Version.id).filter_by(digest=digest)).one()
        ensure_with(session, LegacyArchive, {"version_id": version_id}, msgspec.to_builtins(found))
    return found


def write(runtime: Runtime, digest: str, target: IO[bytes]) -> None:
    """Write the zip of a version."""
    with runtime.database.reading() as session:
        row = session.scalars(
            select(Version).filter_by(digest=digest).options(undefer(Version.manifest))
        ).one()
    manifest = msgspec.json.decode(row.manifest, type=wire.Manifest)
    with deterministic(target) as archive:
        for file in sorted(manifest.files, key=lambda file: file.path):
            source = partial(_read, runtime.store, file.sha256)
            is_known = file.path in OF_OLD
            if is_known and checkpoint.is_expressible(checkpoint.tensors(source)):
                with tempfile.TemporaryFile() as converted:
                    checkpoint.write(source, converted)
                    size_bytes = converted.tell()
                    converted.seek(0)
                    chunks: Iterable[bytes] = iter(partial(converted.read, _CHUNK_BYTES), b"")
                    add(archive, OF_OLD[file.path], chunks, size_bytes)
            else:
                add(archive, file.path, runtime.store.read(file.sha256), file.size_bytes)


def _read(store: BlobStore, sha256: str, start: int, length: int) -> Iterable[bytes]:
    return store.read(sha256, start, length)


def _summed(file: IO[bytes]) -> Sums:
    file.seek(0)
    sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    for chunk in iter(partial(file.read, _CHUNK_BYTES), b""):
        sha1.update(chunk)
        sha256.update(chunk)
    return Sums(sha1.hexdigest(), sha256.hexdigest(), file.tell())
