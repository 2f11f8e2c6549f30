"""Zips whose bytes depend on nothing but what is in them."""

import zipfile
from collections.abc import Iterable
from typing import IO

_UNIX = 3
_MODE = 0o644 << 16


def deterministic(target: IO[bytes]) -> zipfile.ZipFile:
    """Open a zip to be written; `target` can be sought in."""
    return zipfile.ZipFile(target, "w", zipfile.ZIP_STORED)


def add(archive: zipfile.ZipFile, name: str, chunks: Iterable[bytes], size_bytes: int) -> None:
    """Add a file without compression, without a time and with fixed rights."""
    entry = zipfile.ZipInfo(name)
    entry.create_system = _UNIX
    entry.external_attr = _MODE
    entry.file_size = size_bytes  # decides whether a large file's fields are needed
    with archive.open(entry, "w") as file:
        for chunk in chunks:
            file.write(chunk)
