"""Fingerprints as bars, and the picture of the start page that is drawn from one."""

import hashlib

from markupsafe import Markup

from adapterhub_client.charts.svg import Attribute, drawing, element

_BARS = 16
_HEX = frozenset("0123456789abcdef")
_WIDTH, _STEP, _HEIGHT = 3, 5, 18
_LAYERS, _LAYER_BARS = 6, 34
_LAYER_HEIGHT, _LAYER_STEP = 30, 52


def strip(fingerprint: str | None) -> Markup:
    """A fingerprint as a row of bars: two bases of one name look different at a glance.

    Each bar is two hex digits, the height from one and the tone from the other. Without a fingerprint it is a blank.
    """
    width = _BARS * _STEP - (_STEP - _WIDTH)
    size: dict[str, Attribute] = {"viewBox": f"0 0 {width} {_HEIGHT}"}
    size |= {"width": width, "height": _HEIGHT}
    if fingerprint is None:
        middle = _HEIGHT / 2
        blank = element("line", x1=0, x2=width, y1=middle, y2=middle)
        return drawing(blank, class_="strip blank", **size)
    digits = fingerprint.removeprefix("sha256:")
    bars = ["", "", ""]
    for at in range(_BARS):
        pair = f"{digits[2 * at : 2 * at + 2]:0<2}"
        tall, tone = (int(digit, 16) if digit in _HEX else 0 for digit in pair)
        height = 3 + tall
        top = (_HEIGHT - height) / 2
        bars[tone % 3] += f"M{at * _STEP} {top:g}h{_WIDTH}v{height}h-{_WIDTH}z"
    tones = [element("path", d=bar, class_=f"t{at}") for at, bar in enumerate(bars) if bar]
    return drawing(*tones, class_="strip", **size)


def frozen_stack(fingerprint: str | None) -> Markup:
    """A frozen transformer, drawn from a fingerprint, with small trained parts in it."""
    seed = hashlib.shake_256((fingerprint or "").encode()).digest(_LAYERS * _LAYER_BARS)
    parts: list[Markup] = []
    for layer in range(_LAYERS):
        top = layer * _LAYER_STEP + 1
        of_layer = seed[layer * _LAYER_BARS : (layer + 1) * _LAYER_BARS]
        parts += _layer(top, of_layer)
        if layer < _LAYERS - 1:
            parts += _between(top + _LAYER_HEIGHT)
    height = (_LAYERS - 1) * _LAYER_STEP + _LAYER_HEIGHT + 2
    return drawing(*parts, class_="frozen-stack", viewBox=f"0 0 304 {height}")


def _layer(top: float, seed: bytes) -> list[Markup]:
    bars = ["", "", ""]
    for at, drawn in enumerate(seed):
        tall = 3 + drawn % 16
        y = top + (_LAYER_HEIGHT - tall) / 2
        bars[drawn // 19 % 3] += f"M{17 + 8 * at} {y:g}h4v{tall}h-4z"
    tones = [element("path", d=bar, class_=f"t{at}") for at, bar in enumerate(bars)]
    box = element("rect", x=1, y=top, width=302, height=_LAYER_HEIGHT, rx=3, class_="layer")
    return [box, *tones]


def _between(low: float) -> list[Markup]:
    """The way from one layer to the next, through a bottleneck."""
    gap = _LAYER_STEP - _LAYER_HEIGHT
    way = element("line", x1=152, x2=152, y1=low, y2=low + gap, class_="path")
    shape = f"M138 {low + 3}h28l-10 8 10 8h-28l10-8z"
    return [way, element("path", d=shape, class_="trained")]
