"""Bars: pulls week by week, probabilities of labels."""

from collections.abc import Sequence

from markupsafe import Markup

from adapterhub_client.charts.svg import drawing, element, percent

_HEIGHT = 32


def sparkline(counts: Sequence[int], title: str) -> Markup:
    """A bar for each count, as wide as there is room; the last one is marked."""
    highest, step = max(counts, default=0) or 1, 1 / max(len(counts), 1)
    bars = []
    for at, count in enumerate(counts):
        tall = max(round(_HEIGHT * count / highest, 1), 1)
        bars.append(
            element(
                "rect",
                x=percent(at * step),
                y=_HEIGHT - tall,
                width=percent(0.72 * step),
                height=tall,
                class_="now" if at == len(counts) - 1 else None,
            )
        )
    return drawing(*bars, title=title, class_="spark", height=_HEIGHT)


def share(value: float) -> Markup:
    """A part of one as a bar in a track."""
    return drawing(element("rect", width=percent(min(max(value, 0.0), 1.0))), class_="share")
