"""Compare the catalogue with the store in both directions, and every byte with its digest."""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Literal

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import undefer

from adapterhub_client import wire
from adapterhub_registry.models import Blob, Version
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.storage import BlobCorrupt, BlobMissing, Stored
from adapterhub_registry.storage.store import verify

_AT_ONCE = 500
Kind = Literal["missing", "corrupt", "manifest", "unknown"]


class Fault(msgspec.Struct, frozen=True):
    """Something that is not as it was published; `unknown` is a blob that the catalogue does not know."""

    subject: str
    fault: str
    kind: Kind = "corrupt"


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What `examine` found: faults, and blobs that the catalogue does not know, which garbage collection removes."""

    blobs: int
    hashed: int
    size_bytes: int
    """that were hashed"""
    versions: int
    faults: list[Fault]
    unknown: list[Fault]


class Progress(msgspec.Struct, frozen=True):
    """How far it is."""

    done: int
    total: int
    size_bytes: int


Told = Callable[[Progress], None]


def check(runtime: Runtime) -> Iterator[Fault]:
    """Hash every blob and every manifest that the catalogue knows; blobs it does not know are garbage, not faults."""
    yield from examine(runtime).faults


def examine(runtime: Runtime, *, sample: float = 1.0, told: Told | None = None) -> Checked:
    """Look for all that is lost, changed or unknown.

    Every blob is looked up and its size compared; a random share of them, `sample`, is hashed. `told` hears how far
    it is.
    """
    with runtime.database.reading() as session:
        total = session.scalar(select(func.count()).select_from(Blob)) or 0
    faults: list[Fault] = []
    blobs = hashed = size_bytes = 0
    for sha256, expected in _known(runtime):
        chosen = sample >= 1 or random.random() < sample  # noqa: S311  # a sample, no secret
        fault = _look(runtime, sha256, expected, hashed=chosen)
        if fault is not None:
            faults.append(fault)
        blobs, hashed = blobs + 1, hashed + chosen
        size_bytes += expected if chosen else 0
        if told is not None:
            told(Progress(blobs, total, size_bytes))
    versions, wrong = _manifests(runtime)
    return Checked(
        blobs=blobs,
        hashed=hashed,
        size_bytes=size_bytes,
        versions=versions,
        faults=faults + wrong,
        unknown=list(_unknown(runtime)),
    )


def _known(runtime: Runtime) -> Iterator[tuple[str, int]]:
    """Every blob of the catalogue, page by page: a check of terabytes holds no transaction open."""
    after = ""
    while True:
        with runtime.database.reading() as session:
            query = select(Blob.sha256, Blob.size_bytes).where(Blob.sha256 > after)
            rows = session.execute(query.order_by(Blob.sha256).limit(_AT_ONCE)).all()
        if not rows:
            return
        yield from ((sha256, size_bytes) for sha256, size_bytes in rows)
        after = rows[-1][0]


def _look(runtime: Runtime, sha256: str, size_bytes: int, *, hashed: bool) -> Fault | None:
    try:
        if hashed:
            verify(sha256, runtime.store.read(sha256), size_bytes)
            return None
        held = runtime.store.size_bytes(sha256)
    except BlobMissing:
        return _unless_gone(runtime, Fault(sha256, "is not in the store", "missing"))
    except BlobCorrupt as error:
        return _unless_gone(runtime, Fault(sha256, error.fault, "corrupt"))
    if held == size_bytes:
        return None
    fault = f"there are {held} bytes, not {size_bytes}"
    return _unless_gone(runtime, Fault(sha256, fault, "corrupt"))


def _unless_gone(runtime: Runtime, fault: Fault) -> Fault | None:
    """Garbage collection may have taken it since the page of the catalogue was read: that is no fault."""
    with runtime.database.reading() as session:
        return None if session.get(Blob, fault.subject) is None else fault


def _manifests(runtime: Runtime) -> tuple[int, list[Fault]]:
    """Hash every manifest as it is kept; a newer program may write the same content in other bytes."""
    faults: list[Fault] = []
    seen = last = 0
    while True:
        with runtime.database.reading() as session:
            query = select(Version).where(Version.id > last).order_by(Version.id).limit(_AT_ONCE)
            rows = session.scalars(query.options(undefer(Version.manifest))).all()
        if not rows:
            return seen, faults
        for row in rows:
            reason = _wrong(row)
            if reason is not None:
                faults.append(Fault(row.digest, reason, "manifest"))
        seen, last = seen + len(rows), rows[-1].id


def _wrong(row: Version) -> str | None:
    if f"sha256:{hashlib.sha256(row.manifest).hexdigest()}" != row.digest:
        return "the manifest does not hash to its digest"
    try:
        msgspec.json.decode(row.manifest, type=wire.Manifest)
    except msgspec.DecodeError as error:
        return f"the manifest cannot be read: {error}"
    return None


def _unknown(runtime: Runtime) -> Iterator[Fault]:
    """Blobs that the catalogue does not know and that are too old to be on their way into it."""
    before = runtime.clock() - runtime.upload_lifetime - timedelta(hours=1)
    blobs = runtime.store.blobs()
    while batch := list(islice(blobs, _AT_ONCE)):
        yield from _not_in_catalogue(runtime, [each for each in batch if each.modified_at < before])


def _not_in_catalogue(runtime: Runtime, stored: Sequence[Stored]) -> Iterator[Fault]:
    with runtime.database.reading() as session:
        held = select(Blob.sha256).where(Blob.sha256.in_([each.sha256 for each in stored]))
        known = set(session.scalars(held))
    for each in stored:
        if each.sha256 not in known:
            told = f"is not in the catalogue ({each.size_bytes} bytes)"
            yield Fault(each.sha256, told, "unknown")
