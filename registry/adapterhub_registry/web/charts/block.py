"""One block of a transformer, frozen, with what a method trains drawn where it acts."""

from collections.abc import Callable, Collection

from markupsafe import Markup

from adapterhub_client.charts.svg import drawing, element

_WIDTH, _HEIGHT = 264, 332
_MIDDLE = 132.0
_PARTS = {"query": 92.0, "key": 132.0, "value": 172.0}
_ATTENTION, _FEED_FORWARD = 226.0, 102.0
"""where each box begins, from above"""
_BOX = 44.0
_TOKENS = 6


def block(places: Collection[str], title: str) -> Markup:
    """A block whose trained parts are at these places; what no place is called is not drawn."""
    trained = [part for place in places if place in _TRAINED for part in _TRAINED[place]()]
    return drawing(
        *_frozen(),
        *trained,
        title=title,
        class_="block",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        width=_WIDTH,
        height=_HEIGHT,
    )


def _frozen() -> list[Markup]:
    """Tokens, attention, feed-forward, the sums and norms between them, and the ways past both."""
    ways = "M132 302V14M132 288H36V186H124M132 160H36V62H124"
    return [
        element("path", d=ways, class_="way"),
        *_tokens(308.0),
        *_tokens(2.0),
        _box(_ATTENTION, "attention"),
        *(part for name, x in _PARTS.items() for part in _projection(name[0].upper(), x)),
        _sum(186.0),
        _norm(166.0),
        _box(_FEED_FORWARD, "feed-forward"),
        element("text", "feed-forward", x=_MIDDLE, y=_FEED_FORWARD + 27, class_="word"),
        _sum(62.0),
        _norm(40.0),
    ]


def _box(top: float, kind: str) -> Markup:
    return element("rect", x=68, y=top, width=128, height=_BOX, rx=3, class_=f"frozen {kind}")


def _projection(letter: str, x: float) -> list[Markup]:
    top = _ATTENTION + 10
    return [
        element("rect", x=x - 12, y=top, width=24, height=24, rx=2, class_="inside"),
        element("text", letter, x=x, y=top + 16.5, class_="word"),
    ]


def _sum(y: float) -> Markup:
    plus = f"M{_MIDDLE - 4} {y}h8M{_MIDDLE} {y - 4}v8"
    circle = element("circle", cx=_MIDDLE, cy=y, r=8, class_="frozen")
    return element("g", circle, element("path", d=plus, class_="way"))


def _norm(top: float) -> Markup:
    return element("rect", x=88, y=top - 5, width=88, height=9, rx=2, class_="inside")


def _tokens(top: float) -> list[Markup]:
    first = _MIDDLE - _TOKENS * 9 + 1
    return [
        element("rect", x=first + 18 * at, y=top, width=16, height=12, rx=2, class_="inside")
        for at in range(_TOKENS)
    ]


def _bottleneck(
    x: float, y: float, width: float = 46, height: float = 20, kind: str = "trained"
) -> Markup:
    """Down to a few features and up again."""
    side, waist = width / 2, width / 7
    path = (
        f"M{x - side:g} {y - height / 2:g}h{width:g}L{x + waist:g} {y:g}L{x + side:g} {y + height / 2:g}"
        f"h-{width:g}L{x - waist:g} {y:g}z"
    )
    return element("path", d=path, class_=kind)


def _cell(x: float, y: float, width: float = 16, height: float = 12) -> Markup:
    return element("rect", x=x, y=y, width=width, height=height, rx=2, class_="trained")


def _beside() -> list[Markup]:
    way = element("path", d="M132 156H226V78H132", class_="way trained-way")
    return [way, _bottleneck(226, 124)]


def _low_rank() -> list[Markup]:
    return [_bottleneck(_PARTS[part], _ATTENTION - 3, 26, 15) for part in ("query", "value")]


def _directions() -> list[Markup]:
    """Low-rank pairs, and a length for each row."""
    lengths = [_cell(_PARTS[part] + 13, _ATTENTION + 10, 4, 24) for part in ("query", "value")]
    return [*_low_rank(), *lengths]


def _shared_pairs() -> list[Markup]:
    """Low-rank pairs that are random and frozen, and the trained vectors that scale them."""
    found = []
    for part in ("query", "value"):
        x = _PARTS[part]
        found.append(_bottleneck(x, _ATTENTION - 3, 26, 15, "trained outlined"))
        found.append(_cell(x - 13, _ATTENTION - 15, 26, 3))
    return found


def _vectors() -> list[Markup]:
    scales = [_cell(_PARTS[part] - 13, _ATTENTION + 5, 26, 5) for part in ("key", "value")]
    return [*scales, _cell(72, _FEED_FORWARD + 4, 120, 5)]


def _prefix() -> list[Markup]:
    found = []
    for part in ("key", "value"):
        x = _PARTS[part]
        found += [_cell(x - 11 + 8 * at, _ATTENTION + 37, 6, 12) for at in range(3)]
    return found


def _prompt() -> list[Markup]:
    first = _MIDDLE - _TOKENS * 9 + 1
    return [_cell(first - 18 * (at + 1), 308) for at in range(2)]


def _representations() -> list[Markup]:
    first = _MIDDLE - _TOKENS * 9 + 1
    ends = (first, first + 18 * (_TOKENS - 1))
    return [part for x in ends for part in (_cell(x, 2), _bottleneck(x + 8, 24, 18, 12))]


def _biases() -> list[Markup]:
    found = [_cell(x + 13, _ATTENTION + 10, 3, 24) for x in _PARTS.values()]
    found += [_cell(197, top, 3, _BOX) for top in (_ATTENTION, _FEED_FORWARD)]
    return [*found, _cell(177, 161, 3, 9), _cell(177, 35, 3, 9)]


def _invertible() -> list[Markup]:
    path = "M112 282h40v14h-40zM112 282l40 14"
    return [element("path", d=path, class_="trained outlined")]


def _gates() -> list[Markup]:
    return [
        element("circle", cx=x, cy=y, r=5, class_="trained gate")
        for x, y in ((162, 84), (_PARTS["key"], _ATTENTION - 3), (200, 246))
    ]


def _fusion() -> list[Markup]:
    """Several adapters, and an attention over what they say."""
    members = [_bottleneck(_MIDDLE + shift, 87, 34, 14) for shift in (-44, 0, 44)]
    ways = element(
        "path", d="M88 80C88 72 124 76 130 70M176 80C176 72 140 76 134 70", class_="way trained-way"
    )
    return [ways, *members, element("circle", cx=_MIDDLE, cy=62, r=8, class_="trained mix")]


_TRAINED: dict[str, Callable[[], list[Markup]]] = {
    "after attention": lambda: [_bottleneck(_MIDDLE, 209)],
    "after feed-forward": lambda: [_bottleneck(_MIDDLE, 85)],
    "beside feed-forward": _beside,
    "low rank": _low_rank,
    "shared pairs": _shared_pairs,
    "directions": _directions,
    "vectors": _vectors,
    "prefix": _prefix,
    "prompt": _prompt,
    "representations": _representations,
    "biases": _biases,
    "invertible": _invertible,
    "gates": _gates,
    "fusion": _fusion,
}
