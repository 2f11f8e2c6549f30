"""Elements of a drawing, and scales with round ends."""

from collections.abc import Iterable

import msgspec
from markupsafe import Markup, escape

_TICKS = 5
_LARGEST = 1e150
"""values beyond are drawn at the edge"""

Attribute = str | float | None


class Scale(msgspec.Struct, frozen=True):
    """What values a plot spans, from its start to its end, and where its ticks are."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where a value stands: 0 at the start, 1 at the end, never outside."""
        span = self.high - self.low
        return (min(max(value, self.low), self.high) - self.low) / span if span else 0.5

    def place(self, value: float) -> str:
        """The same in percent."""
        return percent(self.share(value))

    @property
    def labels(self) -> tuple[str, ...]:
        """The ticks as text, all with as many decimals as the finest needs."""
        plain = [f"{tick:g}" for tick in self.ticks]
        decimals = max(len(text.partition(".")[2]) for text in plain)
        form = "g" if any("e" in text for text in plain) else f".{decimals}f"
        return tuple(f"{tick:{form}}" for tick in self.ticks)


def percent(share: float) -> str:
    """A part of one as an attribute has it, as short as it can be: `61.5%`."""
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def scale(values: Iterable[float], ticks: int = _TICKS) -> Scale:
    """A scale with round ends that holds every value, whatever its size."""
    reach = [value for value in values if abs(value) <= _LARGEST]
    low, high = min(reach, default=0.0), max(reach, default=1.0)
    step = _round_step((high - low) or abs(high) or 1.0, ticks)
    first = _floor(low / step)
    last = max(-_floor(-high / step), first + 1)
    digits = 2 - _floor_log10(step)
    found = tuple(round(at * step, digits) for at in range(first, last + 1))
    return Scale(found[0], found[-1], found)


def element(name: str, *children: str | Markup, **attributes: Attribute) -> Markup:
    """An element; text is escaped, `_` in a name becomes `-`, and None leaves the attribute out.

    A page has a thousand of them, so that they are put together as plain text, whose parts are escaped one by one.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(map(_escaped, children))
    return Markup(f"<{name}{written}>{inside}</{name}>")  # noqa: S704  # names are ours, the rest is escaped


def _escaped(value: str | float) -> str:
    return str(escape(value))


def drawing(*children: Markup, title: Attribute = None, **attributes: Attribute) -> Markup:
    """A whole drawing: an image with a title where it says something, else hidden from who only hears."""
    if title is None:
        return element("svg", *children, aria_hidden="true", **attributes)
    return element("svg", element("title", str(title)), *children, role="img", **attributes)


def shortened(text: str, letters: int) -> str:
    """Text that fits where there is room for so many letters."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _round_step(span: float, ticks: int) -> float:
    """The roundest step that divides a span into about so many."""
    rough = span / ticks
    power = 10.0 ** _floor_log10(rough)
    return next((power * factor for factor in (1, 2, 5) if power * factor >= rough), power * 10)


def _floor_log10(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


def _floor(value: float) -> int:
    return int(value // 1) if abs(value - round(value)) > 1e-9 else round(value)  # noqa: PLR2004  # 0.3 / 0.1
