"""What the README of an adapter says of it: YAML between two lines of dashes, then text."""

import re
from typing import Any

import msgspec
import yaml

CARD = "README.md"
CARD_BYTES = 1024 * 1024
"""a longer one is shown, but not read"""

_FRONT = re.compile(
    r"\A\ufeff?---[ \t]*\r?\n(.*?)(?:\r?\n)?^---[ \t]*\r?$", re.DOTALL | re.MULTILINE
)
_LINE = 200
_LANGUAGE = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*")


class CardRefused(Exception):
    """The front matter cannot be read; says why."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What of a card a manifest takes over."""

    license: str | None = None
    languages: list[str] = []
    description: str = ""


def front_matter(text: str) -> dict[str, Any]:
    """The front matter as plain values that JSON has, empty where there is none.

    Raises:
        CardRefused: It is no YAML mapping.
    """
    match = _FRONT.match(text)
    if match is None:
        return {}
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(match.group(1))):
            raise CardRefused("The front matter uses YAML aliases, which a card does not need.")
        found = yaml.safe_load(match.group(1))
        plain = msgspec.json.decode(msgspec.json.encode(_plain(found)))
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, msgspec.MsgspecError) as error:
        fault = " ".join(str(error).split())
        raise CardRefused(f"The front matter is no YAML: {fault[:_LINE]}.") from error
    if plain is None:
        return {}
    if not isinstance(plain, dict):
        raise CardRefused("The front matter is no YAML mapping.")
    return plain


def facts(text: str) -> Facts:
    """What the card says of licence, languages and purpose; what cannot be read says nothing."""
    try:
        found = front_matter(text)
    except CardRefused:
        found = {}
    named = found.get("language")
    languages = named if isinstance(named, list) else [named]
    return Facts(
        license=_line(found.get("license")),
        languages=[each for each in map(_line, languages) if each and _LANGUAGE.fullmatch(each)],
        description=_first_paragraph(_FRONT.sub("", text, count=1)),
    )


def _plain(value: Any) -> Any:  # noqa: ANN401  # whatever YAML holds
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _line(value: object) -> str | None:
    is_line = isinstance(value, str) and 0 < len(value.strip()) <= _LINE and value.isprintable()
    return str(value) if is_line else None


def _first_paragraph(text: str) -> str:
    """The first paragraph that is prose: no heading, table, picture or comment."""
    for block in re.split(r"\r?\n[ \t]*\r?\n", text):
        words = " ".join(block.split())
        if words and words[0] not in "#<|!-*`>[{" and "[More Information Needed]" not in words:
            return words.replace("\x00", "")[:1000]
    return ""
