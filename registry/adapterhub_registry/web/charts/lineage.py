"""Where a version comes from and what came of it, as a drawing: boxes in three columns and the ways between them."""

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from adapterhub_client.charts.svg import drawing, element, shortened

_WIDTH, _HEIGHT, _STEP = 210, 42, 54
_GAP = 64
"""the stylesheet draws boxes of this size"""
_LETTERS = 27
_PAD = 12


class Box(msgspec.Struct, frozen=True):
    """A version, or a base: a name, what it is to the others, where it leads, and a class."""

    name: str
    role: str
    path: str | None = None
    kind: str = "other"


def lineage(before: Sequence[Box], own: Box, after: Sequence[Box]) -> Markup:
    """What it comes from at the left, itself in the middle, what depends on it at the right."""
    rows = max(len(before), len(after), 1)
    height = rows * _STEP - (_STEP - _HEIGHT) + 2
    middle = (height - _HEIGHT) / 2
    columns = [before, [own], after] if after else [before, [own]]
    if not before:
        columns = columns[1:]
    at_own = 1 if before else 0
    parts: list[Markup] = []
    for column, boxes in enumerate(columns):
        left = column * (_WIDTH + _GAP) + 1
        for box, top in zip(boxes, _tops(len(boxes), height), strict=True):
            if column != at_own:
                parts.append(_way(column, at_own, top, middle))
            parts.append(_box(box, left, top))
    width = len(columns) * (_WIDTH + _GAP) - _GAP + 2
    return drawing(
        *parts, class_="lineage", viewBox=f"0 0 {width} {height:g}", width=width, height=height
    )


def _tops(count: int, height: float) -> list[float]:
    taken = count * _STEP - (_STEP - _HEIGHT)
    first = (height - taken) / 2
    return [round(first + at * _STEP, 1) for at in range(count)]


def _way(column: int, at_own: int, top: float, middle: float) -> Markup:
    """A curve from a box to the one in the middle, or from that to a box."""
    first, second = (top, middle) if column < at_own else (middle, top)
    left = min(column, at_own) * (_WIDTH + _GAP) + _WIDTH + 1
    half, right = left + _GAP / 2, left + _GAP
    start, end = first + _HEIGHT / 2, second + _HEIGHT / 2
    return element(
        "path",
        d=f"M{left} {start:g}C{half:g} {start:g} {half:g} {end:g} {right} {end:g}",
        class_="way",
    )


def _box(box: Box, left: float, top: float) -> Markup:
    parts = [
        element("rect", x=left, y=f"{top:g}"),
        element("text", box.role, x=left + _PAD, y=f"{top + 16:g}", class_="role"),
        element(
            "text", shortened(box.name, _LETTERS), x=left + _PAD, y=f"{top + 32:g}", class_="name"
        ),
    ]
    if box.path is None:
        return element("g", *parts, class_=box.kind)
    return element("a", *parts, href=box.path, class_=box.kind, tabindex="-1")
