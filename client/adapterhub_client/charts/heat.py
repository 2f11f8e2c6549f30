"""Tones for the cells of a table, and a table of tones as a drawing."""

from collections.abc import Sequence

from markupsafe import Markup

from adapterhub_client.charts.svg import drawing, element

TONES = 8
_FAINT = 0.02


def tone(value: float, highest: float = 1.0) -> int:
    """How dark a cell is, from 0 to `TONES`."""
    if not highest > 0 or not value > 0:
        return 0
    return min(TONES, max(1, round(TONES * min(value / highest, 1.0))))


def tiles(rows: Sequence[Sequence[float]], title: str, *, size: int = 12) -> Markup:
    """Cells without numbers, one path for each tone: where there are too many to read. The faintest are left out."""
    highest = max((value for row in rows for value in row), default=0.0)
    paths = [""] * (TONES + 1)
    for down, row in enumerate(rows):
        for across, value in enumerate(row):
            if value > _FAINT * highest:
                side = size - 1
                place = f"M{across * size} {down * size}"
                paths[tone(value, highest)] += f"{place}h{side}v{side}h-{side}z"
    width = size * max((len(row) for row in rows), default=1)
    height = size * max(len(rows), 1)
    ground = element("rect", width=width, height=height)
    cells = [element("path", d=path, class_=f"h{at}") for at, path in enumerate(paths) if path]
    return drawing(
        ground,
        *cells,
        title=title,
        class_="tiles",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )
