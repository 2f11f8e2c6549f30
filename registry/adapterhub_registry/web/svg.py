"""Small drawings as text: pure functions, no style attribute (the security policy forbids it), classes only."""

import hashlib
from collections.abc import Sequence

import msgspec
from markupsafe import Markup, escape

from adapterhub_registry.web.text import number

_STRIP_BARS = 16
_HEX = frozenset("0123456789abcdef")
_BAR_WIDTH, _BAR_STEP, _STRIP_HEIGHT = 3, 5, 18
_LAYERS, _LAYER_BARS = 5, 32
_LAYER_HEIGHT, _LAYER_STEP = 34, 57
_TICKS = 5
_LARGEST = 1e150
"""values beyond are drawn at the edge"""
_ROOM = 3
"""deviations that a scale leaves on both sides of a value, so that a lone one does not fill it"""
_MARGIN = 4.0
"""percent left free on both sides of a plot, so that a dot on the edge is whole"""


class Scale(msgspec.Struct, frozen=True):
    """What values a plot spans, from left to right, and where its ticks are."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> str:
        """Where a value stands, in percent of the width."""
        span = self.high - self.low
        share = (min(max(value, self.low), self.high) - self.low) / span if span else 0.5
        return f"{_MARGIN + share * (100 - 2 * _MARGIN):.2f}%"


class Dot(msgspec.Struct, frozen=True):
    """A measured value, how far it spreads, and what others have on the same data."""

    value: float
    std: float | None = None
    others: Sequence[float] = ()


def element(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """An element; text is escaped, `_` in a name becomes `-`, and None leaves the attribute out."""
    written = Markup().join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup().join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inside)  # noqa: S704  # a constant of ours


def strip(fingerprint: str | None) -> Markup:
    """A fingerprint as a row of bars: two bases of one name look different at a glance.

    Each bar is two hex digits, the height from one and the tone from the other. Without a fingerprint it is a blank.
    """
    width = _STRIP_BARS * _BAR_STEP - (_BAR_STEP - _BAR_WIDTH)
    size: dict[str, str | float | None] = {
        "viewBox": f"0 0 {width} {_STRIP_HEIGHT}",
        "width": width,
        "height": _STRIP_HEIGHT,
        "aria_hidden": "true",
    }
    if fingerprint is None:
        middle = _STRIP_HEIGHT / 2
        blank = element("line", x1=0, x2=width, y1=middle, y2=middle)
        return element("svg", blank, class_="strip blank", **size)
    digits = fingerprint.removeprefix("sha256:")
    bars = ["", "", ""]
    for at in range(_STRIP_BARS):
        pair = f"{digits[2 * at : 2 * at + 2]:0<2}"
        tall, tone = (int(digit, 16) if digit in _HEX else 0 for digit in pair)
        height = 3 + tall
        top = (_STRIP_HEIGHT - height) / 2
        bars[tone % 3] += f"M{at * _BAR_STEP} {top:g}h{_BAR_WIDTH}v{height}h-{_BAR_WIDTH}z"
    tones = [element("path", d=bar, class_=f"t{at}") for at, bar in enumerate(bars) if bar]
    return element("svg", *tones, class_="strip", **size)


def frozen_stack(fingerprint: str | None) -> Markup:
    """The picture of the start page: a frozen transformer, drawn from a fingerprint, and small trained parts in it."""
    seed = hashlib.shake_256((fingerprint or "").encode()).digest(_LAYERS * _LAYER_BARS)
    parts = []
    for layer in range(_LAYERS):
        top = layer * _LAYER_STEP + 1
        parts.append(
            element("rect", x=1, y=top, width=286, height=_LAYER_HEIGHT, rx=4, class_="layer")
        )
        for at in range(_LAYER_BARS):
            tall = 4 + seed[layer * _LAYER_BARS + at] % 19
            y = top + (_LAYER_HEIGHT - tall) / 2
            tone = f"t{seed[layer * _LAYER_BARS + at] // 19 % 3}"
            parts.append(element("rect", x=17 + 8 * at, y=y, width=4, height=tall, class_=tone))
        if layer < _LAYERS - 1:
            low = top + _LAYER_HEIGHT
            parts.append(
                element("line", x1=144, x2=144, y1=low, y2=top + _LAYER_STEP, class_="path")
            )
            shape = f"M131 {low + 4}h26l-9 7.5 9 7.5h-26l9-7.5z"
            parts.append(element("path", d=shape, class_="trained"))
    height = (_LAYERS - 1) * _LAYER_STEP + _LAYER_HEIGHT + 2
    box = {"viewBox": f"0 0 288 {height}"}
    return element("svg", *parts, class_="frozen-stack", aria_hidden="true", **box)


def scale(dots: Sequence[Dot]) -> Scale:
    """A scale with round ends that holds every dot, its spread and the others, whatever their size."""
    reach = [value for dot in dots for value in _reach(dot) if abs(value) <= _LARGEST]
    low, high = min(reach, default=0.0), max(reach, default=1.0)
    step = _round_step((high - low) or abs(high) or 1.0)
    first = _floor(low / step)
    last = max(-_floor(-high / step), first + 1)
    digits = 2 - _floor_log10(step)
    ticks = tuple(round(at * step, digits) for at in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def axis(spanned: Scale) -> Markup:
    """The numbers over a column of dots."""
    last = len(spanned.ticks) - 1
    plain = [f"{tick:g}" for tick in spanned.ticks]
    decimals = max(len(text.partition(".")[2]) for text in plain)
    form = "g" if any("e" in text for text in plain) else f".{decimals}f"
    texts = [
        element("text", f"{tick:{form}}", x=spanned.place(tick), y=11, class_="tick")
        for at, tick in enumerate(spanned.ticks)
        if at % 2 == 0 or last < _TICKS
    ]
    return element("svg", *texts, class_="plot axis", height=14, aria_hidden="true")


def dot_plot(dot: Dot, spanned: Scale) -> Markup:
    """One row of a dot plot: grid, the others as rings, the spread as a line, the value as a disc.

    Widths are in percent, so that it fits any column and discs stay round.
    """
    middle = 13
    grid = [
        element("line", x1=spanned.place(tick), x2=spanned.place(tick), y1=0, y2=26, class_="grid")
        for tick in spanned.ticks
    ]
    others = [
        element("circle", cx=spanned.place(value), cy=middle, r=3.5, class_="other")
        for value in dot.others
    ]
    spread = []
    if dot.std:
        ends = spanned.place(dot.value - dot.std), spanned.place(dot.value + dot.std)
        spread.append(
            element("line", x1=ends[0], x2=ends[1], y1=middle, y2=middle, class_="spread")
        )
    disc = element("circle", cx=spanned.place(dot.value), cy=middle, r=5, class_="this")
    return element(
        "svg",
        element("title", _spoken(dot)),
        *grid,
        *others,
        *spread,
        disc,
        class_="plot",
        height=26,
        role="img",
    )


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
    return [dot.value - spread, dot.value + spread, *dot.others]


def _round_step(span: float) -> float:
    """The roundest step that divides a span into about five."""
    rough = span / _TICKS
    power = 10.0 ** _floor_log10(rough)
    return next((power * factor for factor in (1, 2, 5) if power * factor >= rough), power * 10)


def _floor_log10(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


def _floor(value: float) -> int:
    return int(value // 1) if abs(value - round(value)) > 1e-9 else round(value)  # noqa: PLR2004  # 0.3 / 0.1
