"""Values as people read them: sizes, numbers, dates, durations, digests."""

import re
from datetime import datetime

import msgspec
from markupsafe import Markup

_SPACES = re.compile(r"(\s+)")
_DIGEST_DIGITS = 12
_MINUTE, _HOUR = 60, 3600
_LARGE = 10


def size(size_bytes: float) -> str:
    """A number of bytes: `3.4 MB`."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:  # noqa: PLR2004  # the unit's own step
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def count(number: int) -> str:
    """A count with its thousands apart: `12,345`."""
    return f"{number:,}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A count and what is counted: `1 adapter`, `12 adapters`."""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def number(value: float, beside: float | None = None) -> str:
    """A measured value with three decimals up to ten, two above, so that a column lines up.

    `beside` is the value that this one (a deviation) stands next to and shares its decimals with.
    """
    scale = abs(value if beside is None else beside)
    if 0 < scale < 0.001 or scale >= 1_000_000:  # noqa: PLR2004  # fixed decimals say nothing here
        return f"{value:.3g}"
    return f"{value:.3f}" if scale < _LARGE else f"{value:.2f}"


def day(moment: str) -> str:
    """The day of an RFC 3339 moment: `20 Nov 2026`."""
    when = datetime.fromisoformat(moment)
    return f"{when.day} {when:%b %Y}"


def duration(seconds: float) -> str:
    """How long something took: `38 s`, `4 min 12 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{seconds:.1f} s" if seconds < _LARGE else f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def short(digest: str) -> str:
    """The first digits of a digest, enough to tell two apart by eye."""
    return digest.removeprefix("sha256:")[:_DIGEST_DIGITS]


def compact(value: object) -> str:
    """A value of a configuration: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def unbroken(text: str) -> Markup:
    """A command whose lines break only between its words; what is copied stays the same."""
    tokens = (
        Markup("<span>{}</span>").format(token) if token.strip() else Markup(token)  # noqa: S704  # spaces
        for token in _SPACES.split(text)
    )
    return Markup().join(tokens)


def parts(reference: str) -> tuple[str, str, str]:
    """Task, name and organization of a reference without a version."""
    task, _, rest = reference.partition("/")
    name, _, org = rest.rpartition("@")
    return task, name, org


FILTERS = {
    "size": size,
    "number": number,
    "thousands": count,
    "counted": counted,
    "day": day,
    "duration": duration,
    "short": short,
    "compact": compact,
    "unbroken": unbroken,
    "parts": parts,
}
