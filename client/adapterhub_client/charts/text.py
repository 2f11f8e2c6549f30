"""Values as people read them: sizes, numbers, dates, durations, digests."""

import re
from collections.abc import Sequence
from datetime import datetime

import msgspec
from markupsafe import Markup, escape

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPACES = re.compile(r"(\s+)")
_BREAKS = re.compile(r"[^\s\w.:=]")
"""where browsers may break a word"""
_JOINTS = re.compile(r"(?<=[._/])")
_DIGEST_DIGITS = 12
_MINUTE, _HOUR = 60, 3600
_LARGE = 10


def size(size_bytes: float) -> str:
    """A number of bytes: `3.4 MB`, with a space that does not break."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:  # noqa: PLR2004  # the unit's own step
            return f"{size_bytes:.{0 if unit == 'B' else 1}f}\N{NO-BREAK SPACE}{unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f}\N{NO-BREAK SPACE}GB"


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


def percent(value: float, decimals: int = 1) -> str:
    """A percentage with its sign; small ones keep two figures: `0.82 %`."""
    if 0 < abs(value) < 1 and decimals:
        return f"{value:.2g} %"
    return f"{value:.{decimals}f} %"


def overhead(relative: float) -> str:
    """How much longer than the bare base something takes: 1.041 is `+4.1 %`."""
    return f"{100 * (relative - 1):+.1f} %"


def signed(value: float) -> str:
    """A difference with its sign: `+0.004`; none where it is too small to show."""
    written = f"{value:+.3f}" if abs(value) < _LARGE else f"{value:+.1f}"
    return written if written.strip("+-0.") else written[1:]


def hundredths(value: float) -> str:
    """A part of one as whole hundredths."""
    return f"{100 * value:.0f}"


def ordinal(place: int) -> str:
    """A place: `1st`, `2nd`, `11th`."""
    teen = 11 <= place % 100 <= 13  # noqa: PLR2004  # eleventh, twelfth, thirteenth
    ending = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place:,}{ending}"


def shortened(text: str, letters: int = 300) -> str:
    """Text that is cut where it is longer than a page has room for."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def spans(numbers: Sequence[int]) -> str:
    """Whole numbers with those in a row joined by a dash, as of layers: 0 to 3, 6."""
    runs: list[list[int]] = []
    for number_ in numbers:
        if runs and number_ == runs[-1][-1] + 1:
            runs[-1].append(number_)
        else:
            runs.append([number_])
    return ", ".join(
        f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0])  # noqa: RUF001  # between numbers
        for run in runs
    )


def plain(text: str) -> str:
    """Text without the characters that XML cannot have."""
    return _NOT_XML.sub("", text)


def ticked(text: str) -> Markup:
    """A sentence whose parts in backticks are code; a backtick that is left open is one."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        parts[-2:] = ["`".join(parts[-2:])]
    return Markup().join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part)
        for at, part in enumerate(parts)
    )


def day(moment: str) -> str:
    """The day of an RFC 3339 moment: `20 Nov 2026`."""
    when = datetime.fromisoformat(moment)
    return f"{when.day} {when:%b %Y}"


def minute(moment: str) -> str:
    """The minute of a moment, in UTC: `20 Nov 2026, 12:00`."""
    when = datetime.fromisoformat(moment)
    return f"{when.day} {when:%b %Y, %H:%M}"


def is_past(moment: str, now: datetime) -> bool:
    """Whether a moment is over."""
    return datetime.fromisoformat(moment) <= now


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


def told(value: object) -> str:
    """A detail of an event: digests by their first digits, lists as words."""
    if isinstance(value, list):
        return " ".join(map(told, value))
    text = compact(value)
    return short(text) if text.startswith("sha256:") else text


def breaking(name: str) -> Markup:
    """A name of parts, such as a tensor's, that may break after each."""
    return Markup("<wbr>").join(part for part in _JOINTS.split(name) if part)


def unbroken(text: str) -> Markup:
    """A command whose lines break only between its words; what is copied stays the same."""
    tokens = (
        Markup("<span>{}</span>").format(token) if _BREAKS.search(token) else escape(token)
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
    "percent": percent,
    "overhead": overhead,
    "signed": signed,
    "hundredths": hundredths,
    "ordinal": ordinal,
    "shortened": shortened,
    "spans": spans,
    "plain": plain,
    "ticked": ticked,
    "day": day,
    "minute": minute,
    "is_past": is_past,
    "duration": duration,
    "short": short,
    "compact": compact,
    "told": told,
    "breaking": breaking,
    "unbroken": unbroken,
    "parts": parts,
}
