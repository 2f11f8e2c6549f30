"""Try a version on a text: its files and those of its members are brought to a folder, and run elsewhere."""

import os
import shutil
import tempfile
from pathlib import Path

from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import Conflict, InvalidRequest
from adapterhub_registry.models import Version
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import catalogue, download, representation

_MOST_BYTES = 256 * 1024 * 1024
"""of the files of one trial, those of members among them"""
_KEPT = 24
"""versions whose folders are kept for the next trial"""
_HEADS = frozenset(
    ["classification", "multilabel_classification", "multilabel", "regression", "tagging"]
)


class CannotBeTried(Conflict):
    """This version cannot be run here."""

    code = "cannot_be_tried"


def is_offered(runtime: Runtime, manifest: wire.Manifest) -> bool:
    """Whether a version can be tried: its base is at hand, and it has a head that says what a text is."""
    fits = any(head.type in _HEADS for head in manifest.heads)
    return fits and runtime.trier.base(manifest.base.fingerprint) is not None


def attempt(
    runtime: Runtime, session: Session, viewer: Viewer, digest: str, texts: tuple[str, str | None]
) -> wire.Tried:
    """Try a version on a text, or on a pair of texts.

    Raises:
        InvalidRequest: A text is empty, or too long.
        CannotBeTried: Its base is not at hand, it is too large, or it says itself why not.
        TooManyRequests, TrialFailed: As `Trier.run`.
    """
    text, pair = texts[0].strip(), (texts[1] or "").strip() or None
    if not 0 < len(text) <= wire.LONGEST_TEXT or len(pair or "") > wire.LONGEST_TEXT:
        raise InvalidRequest(f"A text to try has 1 to {wire.LONGEST_TEXT} characters.")
    row = catalogue.version_by_digest(session, viewer, digest)
    manifest = representation.manifest(row)
    base = runtime.trier.base(manifest.base.fingerprint)
    if base is None:
        raise CannotBeTried("The base model of this version is not at hand here.")
    members = manifest.composition.members if manifest.composition else []
    rows = [catalogue.version_by_digest(session, viewer, each.digest) for each in members]
    if not all(download.are_open(session, viewer, each.id) for each in (row, *rows)):
        raise CannotBeTried("The files of this version are for members of its organization.")
    if sum(each.size_bytes for each in (row, *rows)) > _MOST_BYTES:
        raise CannotBeTried("This version is too large to be tried here.")
    trial = wire.Trial(
        base=str(base),
        folder=str(_folder(runtime, row)),
        members={each.digest: str(_folder(runtime, each)) for each in rows},
        text=text,
        pair=pair,
    )
    found = runtime.trier.run(trial)
    if found.fault is not None:
        raise CannotBeTried(found.fault)
    return found


def _folder(runtime: Runtime, row: Version) -> Path:
    """The files of a version in a folder; made whole before it has its name, kept for the next time."""
    kept = runtime.settings.home / "trials"
    folder = kept / row.digest.removeprefix("sha256:")
    if folder.is_dir():
        os.utime(folder)
        return folder
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept, prefix=".") as scratch:
        half = Path(scratch) / "files"
        for file in representation.manifest(row).files:
            target = half / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as opened:
                opened.writelines(runtime.store.read(file.sha256))
        (half / wire.MANIFEST_FILE).write_bytes(row.manifest)
        try:
            half.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(half, ignore_errors=True)
    _forget(kept)
    return folder


def _forget(kept: Path) -> None:
    """Remove the folders that nobody tried for longest."""
    folders = [each for each in kept.iterdir() if not each.name.startswith(".")]
    for folder in sorted(folders, key=lambda each: each.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(folder, ignore_errors=True)
