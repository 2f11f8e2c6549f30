"""Unpack the zip of an adapter: only what an adapter is made of, and nothing outside the folder."""

import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

CONFIG = "adapter_config.json"
WANTED = frozenset(
    [
        CONFIG,
        "head_config.json",
        "adapter.safetensors",
        "model_head.safetensors",
        "pytorch_adapter.bin",
        "pytorch_model_head.bin",
        "README.md",
        "LICENSE",
        "LICENSE.txt",
    ]
)
"""what is kept; the rest of a zip is left out and said"""

MOST_ENTRIES = 1000
_CHUNK_BYTES = 1024 * 1024
_MOST_RATIO = 1000
_ENCRYPTED = 0x1
_KINDS = {0, stat.S_IFREG, stat.S_IFDIR}
"""a zip that was not made on Unix knows no kind"""


class ArchiveRefused(Exception):
    """A zip is not unpacked; says why."""


def unpack(source: Path, folder: Path, limit_bytes: int) -> list[str]:
    """Write the files of the adapter in a zip to a folder; the names of all that was left out.

    Raises:
        ArchiveRefused: It is no zip, leads outside, has links, or is larger than it may be; nothing counts then.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _require_harmless(archive.infolist(), limit_bytes)
            parent = _adapter_folder(entries)
            left_out = []
            for entry in entries:
                path = PurePosixPath(entry.filename)
                if path.parent == parent and path.name in WANTED:
                    _write(archive, entry, folder / path.name)
                else:
                    left_out.append(entry.filename)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise ArchiveRefused(f"it is no zip that can be read: {error}") from error
    return left_out


def _require_harmless(entries: Sequence[zipfile.ZipInfo], limit_bytes: int) -> None:
    fault = next(_faults(entries, limit_bytes), None)
    if fault is not None:
        raise ArchiveRefused(fault)


def _faults(entries: Sequence[zipfile.ZipInfo], limit_bytes: int) -> Iterator[str]:
    if len(entries) > MOST_ENTRIES:
        yield f"it has {len(entries)} entries, more than {MOST_ENTRIES}"
    size_bytes = sum(entry.file_size for entry in entries)
    if size_bytes > limit_bytes:
        yield f"it unpacks to {size_bytes} bytes, more than {limit_bytes}"
    for entry in entries:
        # `filename` is already cut at a NUL; what was written is what counts
        path = PurePosixPath(entry.orig_filename)
        if path.is_absolute() or ".." in path.parts or set("\\:\0") & set(entry.orig_filename):
            yield f"its entry {entry.orig_filename!r} leads outside"
        if stat.S_IFMT(entry.external_attr >> 16) not in _KINDS:
            yield f"its entry {entry.filename!r} is a link or a device"
        if entry.flag_bits & _ENCRYPTED:
            yield f"its entry {entry.filename!r} is encrypted"
        if entry.file_size > _MOST_RATIO * max(entry.compress_size, _CHUNK_BYTES // _MOST_RATIO):
            yield f"its entry {entry.filename!r} unpacks to {entry.file_size} bytes from {entry.compress_size}"
    twice = [name for name, count in Counter(e.filename for e in entries).items() if count > 1]
    if twice:
        yield f"its entry {twice[0]!r} is there twice"


def _adapter_folder(entries: Sequence[zipfile.ZipInfo]) -> PurePosixPath:
    """Where its config lies: at the top, or in the one folder that has one."""
    found = [
        path.parent
        for path in (PurePosixPath(entry.filename) for entry in entries)
        if path.name == CONFIG and "__MACOSX" not in path.parts
    ]
    if not found:
        raise ArchiveRefused(f"it has no {CONFIG}")
    top = min(len(path.parts) for path in found)
    nearest = [path for path in found if len(path.parts) == top]
    if len(nearest) > 1:
        raise ArchiveRefused(f"it has {len(nearest)} adapters, in {nearest[0]} and {nearest[1]}")
    return nearest[0]


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    written = 0
    with archive.open(entry) as incoming, target.open("xb") as outgoing:
        while chunk := incoming.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > entry.file_size:
                raise ArchiveRefused(f"its entry {entry.filename!r} is larger than it says")
            outgoing.write(chunk)
