"""Lines over the steps of a training, as wide as there is room."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
from markupsafe import Markup

from adapterhub_client.charts.svg import Scale, drawing, element, scale

_TOP, _HEIGHT, _FOOT = 8, 150, 20
_LEFT = 34
"""left of the lines, for the numbers"""
_UNITS = 1000
"""of the lines' own drawing, which is stretched to the width there is"""
_TICKS = 4


class Line(msgspec.Struct, frozen=True):
    """Points from left to right; `kind` is a class, `mark` the x of a point to draw a disc at."""

    points: Sequence[tuple[float, float]]
    kind: str
    mark: float | None = None


def chart(lines: Sequence[Line], spoken: str, ends: tuple[str, str]) -> Markup:
    """Lines on one scale; `ends` is what stands below the left and the right end."""
    shown = [line for line in lines if line.points]
    spanned = scale([y for line in shown for _, y in line.points], ticks=_TICKS)
    starts = [line.points[0][0] for line in shown]
    across = Scale(
        min(starts, default=0.0),
        max((x for line in shown for x, _ in line.points), default=1.0),
        (),
    )
    paths = [element("path", d=_path(line, across, spanned), class_=line.kind) for line in shown]
    marks = [mark for line in shown for mark in _marks(line, across, spanned)]
    height = _TOP + _HEIGHT + _FOOT
    foot = height - 5
    numbers = drawing(*_numbers(spanned), class_="plot numbers", width=_LEFT, height=height)
    plot = drawing(
        *_grid(spanned),
        _stretched(paths),
        *marks,
        element("text", ends[0], x="0", y=foot, class_="tick start"),
        element("text", ends[1], x="100%", y=foot, class_="tick end"),
        title=spoken,
        class_="plot curve",
        height=height,
    )
    return element("div", numbers, plot, class_="curves")


def steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same points as stairs: each value holds until the next."""
    found = list(points[:1])
    for (_, before), (x, after) in pairwise(points):
        found += [(x, before), (x, after)]
    return found


def _numbers(spanned: Scale) -> list[Markup]:
    return [
        element("text", label, x=_LEFT - 6, y=_y(spanned, tick) + 4, class_="tick end")
        for tick, label in zip(spanned.ticks, spanned.labels, strict=True)
    ]


def _grid(spanned: Scale) -> list[Markup]:
    places = [_y(spanned, tick) for tick in spanned.ticks]
    return [element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid") for y in places]


def _stretched(children: Sequence[Markup]) -> Markup:
    return element(
        "svg",
        *children,
        y=_TOP,
        width="100%",
        height=_HEIGHT,
        viewBox=f"0 0 {_UNITS} {_UNITS}",
        preserveAspectRatio="none",
    )


def _path(line: Line, across: Scale, spanned: Scale) -> str:
    """A line through the points; of the kind `points` a dot at each, where a thousand take few bytes."""
    places = (
        f"{across.share(x) * _UNITS:.0f} {(1 - spanned.share(y)) * _UNITS:.0f}"
        for x, y in line.points
    )
    if line.kind == "points":
        return "".join(f"M{place}h0" for place in dict.fromkeys(places))
    return "M" + "L".join(places)


def _marks(line: Line, across: Scale, spanned: Scale) -> list[Markup]:
    """A disc at the point that is marked."""
    kind = line.kind.partition(" ")[0]
    return [
        element("circle", cx=across.place(x), cy=_y(spanned, y), r=4, class_=f"mark {kind}")
        for x, y in line.points
        if x == line.mark
    ]


def _y(spanned: Scale, value: float) -> float:
    return round(_TOP + (1 - spanned.share(value)) * _HEIGHT, 1)
