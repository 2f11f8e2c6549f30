"""Where bytes live: one protocol, three stores."""

from adapterhub_registry.storage.folder import FolderStore
from adapterhub_registry.storage.memory import MemoryStore
from adapterhub_registry.storage.store import (
    BlobCorrupt,
    BlobMissing,
    BlobStore,
    Stored,
    StoreUnreachable,
)

__all__ = [
    "BlobCorrupt",
    "BlobMissing",
    "BlobStore",
    "FolderStore",
    "MemoryStore",
    "StoreUnreachable",
    "Stored",
    "open_store",
]


def open_store(address: str, public_url: str | None = None) -> BlobStore:
    """Open the store that a setting names: `folder:PATH`, `s3://bucket/prefix` or `memory:`.

    `public_url` is where clients reach an S3 store, if that is another address than the registry's.

    Raises:
        ValueError: The address names no kind of store.
    """
    kind, _, rest = address.partition(":")
    if kind == "folder" and rest:
        return FolderStore(rest)
    if kind == "memory":
        return MemoryStore()
    if kind == "s3" and rest.startswith("//"):
        from adapterhub_registry.storage.s3 import S3Store  # noqa: PLC0415  # boto3 is slow to load

        bucket, _, prefix = rest[2:].partition("/")
        return S3Store(bucket, prefix, public_url=public_url)
    raise ValueError(f"{address!r} is not `folder:PATH`, `s3://bucket/prefix` or `memory:`.")
