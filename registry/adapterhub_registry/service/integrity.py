"""Compare the catalogue with the store, byte by byte."""

from collections.abc import Iterator

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import undefer

from adapterhub_client import wire
from adapterhub_registry.models import Blob, Version
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.storage import BlobCorrupt, BlobMissing
from adapterhub_registry.storage.store import verify


class Fault(msgspec.Struct, frozen=True):
    """Something that is not as it was published."""

    subject: str
    fault: str


def check(runtime: Runtime) -> Iterator[Fault]:
    """Hash every blob and every manifest that the catalogue knows; blobs it does not know are garbage, not faults."""
    with runtime.database.reading() as session:
        blobs = [(row.sha256, row.size_bytes) for row in session.scalars(select(Blob))]
    for sha256, size_bytes in blobs:
        try:
            verify(sha256, runtime.store.read(sha256), size_bytes)
        except BlobMissing:
            yield Fault(sha256, "is not in the store")
        except BlobCorrupt as error:
            yield Fault(sha256, error.fault)
    with runtime.database.reading() as session:
        for row in session.scalars(select(Version).options(undefer(Version.manifest))):
            manifest = msgspec.json.decode(row.manifest, type=wire.Manifest)
            if wire.canonical(manifest) != row.manifest or wire.digest(manifest) != row.digest:
                yield Fault(row.digest, "the manifest does not hash to its digest")
