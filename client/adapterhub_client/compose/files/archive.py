"""Zip files of adapters, unpacked for as long as they are read; nothing of them lands outside, or grows without end."""

import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory

from adapterhub_client.errors import Corrupt

MOST_FILES = 10_000
# Weights hardly shrink; what grows by more is made to fill a disk.
MOST_GROWTH = 20
ALWAYS_ALLOWED_BYTES = 256 * 2**20
_CHUNK_BYTES = 2**20
_ENCRYPTED = 1


def is_archive(path: Path) -> bool:
    """Whether it is a zip file."""
    return path.is_file() and zipfile.is_zipfile(path)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The content of a zip file as a folder, which goes at the end; the only folder in it stands for the whole.

    Raises:
        Corrupt: It is damaged, leads outside of its folder, or unpacks to far more than it is.
    """
    with TemporaryDirectory(prefix="adapterhub-") as name:
        root = Path(name)
        try:
            with zipfile.ZipFile(path) as file:
                _unpack(path, file, root)
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise Corrupt(f"'{path}' cannot be unpacked: {error}.") from error
        inside = [entry for entry in root.iterdir() if entry.name != "__MACOSX"]
        yield inside[0] if len(inside) == 1 and inside[0].is_dir() else root


def _unpack(path: Path, file: zipfile.ZipFile, root: Path) -> None:
    entries = file.infolist()
    if len(entries) > MOST_FILES:
        raise Corrupt(f"'{path}' holds {len(entries)} files, more than {MOST_FILES}.")
    for entry in entries:
        _require_harmless(path, entry)
    left = max(ALWAYS_ALLOWED_BYTES, MOST_GROWTH * path.stat().st_size)
    for entry in entries:
        target = root / entry.filename
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open(entry) as source, target.open("xb") as written:
            while chunk := source.read(_CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise Corrupt(
                        f"'{path}' has {path.stat().st_size} bytes and unpacks to far more.",
                        hint="unpack it by other means, and load the folder",
                    )
                written.write(chunk)


def _require_harmless(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse what is no plain file inside of the folder."""
    name = entry.filename
    inside, windows = PurePosixPath(name), PureWindowsPath(name)
    if inside.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise Corrupt(f"'{path}' holds {name!r}, which leads out of its folder.")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Corrupt(f"'{path}' holds {name!r}, which is no plain file.")
    if entry.flag_bits & _ENCRYPTED:
        raise Corrupt(f"'{path}' holds {name!r}, which is encrypted.")
