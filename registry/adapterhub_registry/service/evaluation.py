"""What a run measured beyond its metrics: a version's report, read from the store and never trusted."""

from collections.abc import Iterator
from math import isfinite

import msgspec

from adapterhub_client import wire
from adapterhub_registry.service.kept import Kept
from adapterhub_registry.storage import BlobMissing, BlobStore

_KEPT: Kept[wire.Report | None] = Kept(64)
_MOST = {
    "labels": 512,
    "curves": 32,
    "classes": 512,
    "confusion": 512,
    "pruning": 64,
    "baselines": 32,
    "examples": 32,
}
_POINTS, _BINS, _MEMBERS, _LAYERS = 512, 100, 64, 256
_LETTERS = 4000


def report(store: BlobStore, manifest: wire.Manifest) -> wire.Report | None:
    """The report of a version; None where it has none, or one that is not to be read."""
    file = next((each for each in manifest.files if each.path == wire.REPORT_FILE), None)
    if file is None or file.size_bytes > wire.LARGEST_REPORT_BYTES:
        return None
    try:
        return _KEPT.get(file.sha256, lambda: _read(store, file))
    except BlobMissing:  # the store may have it again
        return None


def _read(store: BlobStore, file: wire.File) -> wire.Report | None:
    content = b"".join(store.read(file.sha256, 0, file.size_bytes))
    try:
        found = msgspec.json.decode(content, type=wire.Report)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if _is_sound(found) else None


def _is_sound(found: wire.Report) -> bool:
    """Whether everything is as large as it may be, fits together, and every number is one."""
    small = all(len(getattr(found, field)) <= most for field, most in _MOST.items())
    return small and all(_parts(found)) and all(map(isfinite, _numbers(msgspec.to_builtins(found))))


def _parts(found: wire.Report) -> Iterator[bool]:
    yield all(0 < len(curve.points) <= _POINTS for curve in found.curves)
    yield all(len(row) == len(found.confusion) for row in found.confusion)
    yield all(count >= 0 for row in found.confusion for count in row)
    yield not found.confusion or len(found.labels) == len(found.confusion)
    if found.calibration is not None:
        yield len(found.calibration.bins) <= _BINS
    members = len(found.attention.members) if found.attention else 0
    if found.attention is not None:
        yield 0 < members <= _MEMBERS
        yield _is_even(found.attention.layers, members)
    for example in found.examples:
        yield len(example.text) + len(example.pair or "") <= _LETTERS
        yield _is_even(example.attention, members)


def _is_even(layers: list[wire.AttentionLayer], members: int) -> bool:
    """Whether every layer has a weight for every member."""
    return len(layers) <= _LAYERS and all(len(layer.weights) == members for layer in layers)


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield value if abs(value) < 1e300 else float("inf")  # noqa: PLR2004  # no figure is so large
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)
