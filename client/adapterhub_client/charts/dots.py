"""Dot plots: a value, how far it spreads, and what others reach, row below row on one scale."""

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from adapterhub_client.charts.svg import Scale, drawing, element, percent
from adapterhub_client.charts.svg import scale as rounded
from adapterhub_client.charts.text import number

_ROOM = 3
"""deviations that a scale leaves on both sides of a value, so that a lone one does not fill it"""
_MANY_TICKS = 5
_MOST_TICKS = 10
_RINGS = 60


class Dot(msgspec.Struct, frozen=True):
    """A measured value, how far it spreads, what others have on the same data, and what it is held against."""

    value: float
    std: float | None = None
    others: Sequence[float] = ()
    baselines: Sequence[float] = ()
    """ways without an adapter, such as full fine-tuning"""


def scale(dots: Sequence[Dot]) -> Scale:
    """A scale that holds every dot, its spread, the others and the baselines."""
    return rounded([value for dot in dots for value in _reach(dot)])


def axis(spanned: Scale) -> Markup:
    """The numbers over a column of dots."""
    last = len(spanned.ticks) - 1
    texts = [
        element("text", label, x=spanned.place(tick), y=11, class_="tick")
        for at, (tick, label) in enumerate(zip(spanned.ticks, spanned.labels, strict=True))
        if at % 2 == 0 or last < _MANY_TICKS
    ]
    return drawing(*texts, class_="plot axis", height=14)


def dot_plot(dot: Dot, spanned: Scale, *, is_other: bool = False, rings: int = _RINGS) -> Markup:
    """One row: the others as rings, the spread as a line, the value as a disc.

    Of more others than `rings`, every so many are drawn, from the first of them to the last.

    Places are in percent, so that it fits any column and discs stay round. The stylesheet says how large they are, and
    draws the grid: ticks are as far from each other everywhere, so the class says only how many there are.
    """
    others = [_disc(spanned, value, "other") for value in _thinned(dot.others, rings)]
    kind = "that" if is_other else "this"
    own = [*_spread(dot, spanned, kind), _disc(spanned, dot.value, kind)]
    grid = f"plot dots g{min(len(spanned.ticks) - 1, _MOST_TICKS)}"
    # a lone value stands beside its plot as text; to hear it twice would be too much
    return drawing(*others, *own, title=_spoken(dot) if dot.others else None, class_=grid)


def _thinned(values: Sequence[float], most: int) -> list[float]:
    ordered = sorted(values)
    if len(ordered) <= most:
        return ordered
    last = len(ordered) - 1
    return [ordered[round(at * last / (most - 1))] for at in range(most)]


def _disc(spanned: Scale, value: float, kind: str) -> Markup:
    return element("circle", cx=spanned.place(value), class_=kind)


def _spread(dot: Dot, spanned: Scale, kind: str) -> list[Markup]:
    """The deviation on both sides, as far as it is within the scale."""
    if not dot.std:
        return []
    low, high = (spanned.share(dot.value + sign * dot.std) for sign in (-1, 1))
    return [element("rect", x=percent(low), width=percent(high - low), class_=f"spread {kind}")]


def _spoken(dot: Dot) -> str:
    own = number(dot.value) + (f" ± {number(dot.std, dot.value)}" if dot.std else "")
    if not dot.others:
        return own
    low, high = number(min(dot.others)), number(max(dot.others))
    if len(dot.others) == 1:
        return f"{own}; one other: {low}"
    return f"{own}; {len(dot.others)} others: {low} to {high}"


def _reach(dot: Dot) -> list[float]:
    spread = _ROOM * (dot.std or 0.0)
    return [dot.value - spread, dot.value + spread, *dot.others, *dot.baselines]
