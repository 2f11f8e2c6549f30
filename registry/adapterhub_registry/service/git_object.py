"""What git would call the files of a tree, and which of them it would keep apart as large.

Clients compare these with what they have, and send nothing that is here already. Large files are known by their
SHA-256, the others by the SHA-1 that git takes over them.
"""

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

from adapterhub_registry.storage import BlobStore

LARGE_SUFFIXES = (
    *(".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gz", ".h5", ".joblib", ".mlmodel"),
    *(".model", ".msgpack", ".npy", ".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl"),
    *(".pt", ".pth", ".rar", ".safetensors", ".tar", ".tflite", ".tgz", ".wasm", ".xz", ".zip"),
    ".zst",
)
CODE_SUFFIXES = frozenset([".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth", ".npy"])
"""pickles and their kin: reading one may run what is in it"""
ATTRIBUTES_FILE = ".gitattributes"
ATTRIBUTES = "".join(
    f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_SUFFIXES
).encode()
_LARGE_BYTES = 10 * 1024 * 1024
_MOST_REMEMBERED = 65536
_REMEMBERED: dict[str, str] = {}


def is_large(path: str, size_bytes: int) -> bool:
    """Whether a file counts as large: by its kind, or by its size. Empty files never do."""
    kind = PurePosixPath(path).suffix.lower()
    return size_bytes > 0 and (kind in LARGE_SUFFIXES or size_bytes > _LARGE_BYTES)


def may_run_code(path: str) -> bool:
    """Whether reading such a file as its libraries do may run code that is in it."""
    return PurePosixPath(path).suffix.lower() in CODE_SUFFIXES


def blob_oid(size_bytes: int, chunks: Iterable[bytes]) -> str:
    """Git's own name of a file's content."""
    digest = hashlib.sha1(f"blob {size_bytes}\0".encode(), usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def pointer(sha256: str, size_bytes: int) -> bytes:
    """What git keeps in place of a large file."""
    head = "version https://git-lfs.github.com/spec/v1"
    return f"{head}\noid sha256:{sha256}\nsize {size_bytes}\n".encode()


def folder_oid(names: Iterable[str]) -> str:
    """A name for a folder that changes when what is in it changes."""
    return hashlib.sha1("\0".join(names).encode(), usedforsecurity=False).hexdigest()


def stored_oid(store: BlobStore, sha256: str, size_bytes: int) -> str:
    """Git's name of a blob of the store. It is read once: what bytes are called never changes."""
    known = _REMEMBERED.get(sha256)
    if known is None:
        if len(_REMEMBERED) >= _MOST_REMEMBERED:
            _REMEMBERED.clear()
        known = _REMEMBERED[sha256] = blob_oid(size_bytes, store.read(sha256))
    return known
