"""A reliability diagram: how often predictions of some confidence are right."""

from collections.abc import Sequence
from math import sqrt

from markupsafe import Markup

from adapterhub_client import wire
from adapterhub_client.charts.svg import drawing, element

_SIDE, _LEFT, _TOP = 180.0, 34.0, 8.0
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def reliability(found: wire.Calibration) -> Markup:
    """A dot for each bin, larger where there are more examples; on the diagonal confidence is what it says."""
    total = sum(each.count for each in found.bins) or 1
    dots = [
        element(
            "circle",
            cx=_x(each.confidence),
            cy=_y(each.accuracy),
            r=round(2 + 7 * sqrt(max(each.count, 0) / total), 1),
            class_="this",
        )
        for each in found.bins
    ]
    diagonal = element("line", x1=_x(0), y1=_y(0), x2=_x(1), y2=_y(1), class_="diagonal")
    width, height = _LEFT + _SIDE + 12, _TOP + _SIDE + 34
    return drawing(
        *_grid(),
        diagonal,
        element("path", d=_path(found.bins), class_="best"),
        *dots,
        element("text", "confidence", x=_x(0.5), y=height - 3, class_="tick"),
        title=f"Calibration error {found.error:.3f}",
        class_="plot reliability",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
    )


def _grid() -> list[Markup]:
    found = []
    for tick in _TICKS:
        found.append(element("line", x1=_x(0), x2=_x(1), y1=_y(tick), y2=_y(tick), class_="grid"))
        label = f"{tick:g}"
        found.append(element("text", label, x=_LEFT - 6, y=_y(tick) + 4, class_="tick end"))
        found.append(element("text", label, x=_x(tick), y=_TOP + _SIDE + 15, class_="tick"))
    return found


def _path(bins: Sequence[wire.CalibrationBin]) -> str | None:
    ordered = sorted(bins, key=lambda each: each.confidence)
    places = [f"{_x(each.confidence):g} {_y(each.accuracy):g}" for each in ordered]
    return "M" + "L".join(places) if places else None


def _x(value: float) -> float:
    return round(_LEFT + min(max(value, 0.0), 1.0) * _SIDE, 1)


def _y(value: float) -> float:
    return round(_TOP + (1 - min(max(value, 0.0), 1.0)) * _SIDE, 1)
