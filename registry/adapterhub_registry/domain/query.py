r"""The language of the search box, for the API and the pages alike.

    query      = { item }                          every item has to hold; spaces separate them
    item       = [ "-" ] ( field | comparison | metric | phrase | word )       "-" turns it round
    field      = NAME ":" text                     task:nli   base:bert-base-uncased   -language:en
    comparison = [ "metric:" ] METRIC [ "@" DATASET ] OPERATOR NUMBER           acc>0.85   metric:acc@multinli>=0.8
    metric     = "metric:" METRIC [ "@" DATASET ]  has a value for it at all
    phrase     = '"' characters '"'                these words, next to each other; \" and \\ for themselves
    word       = characters without a space        the beginning of a word: `multi` finds `multinli`
    text       = phrase | word
    OPERATOR   = ">=" | "<=" | ">" | "<" | "="

`NAME` is one of `FIELDS`. Words are compared without regard to case and accents, and in the name, the description, the
bases, methods and datasets; everything else has to be the same letter for letter.
"""

import re
import unicodedata
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, cast

import msgspec

from adapterhub_registry.errors import Unprocessable

if TYPE_CHECKING:
    from collections.abc import Callable

Operator = Literal[">=", "<=", ">", "<", "="]
FIELDS = (
    "task",
    "org",
    "base",
    "fingerprint",
    "architecture",
    "method",
    "config",
    "language",
    "license",
    "head",
    "dataset",
    "composition",
    "status",
)
LIMIT = 16
"""the most items of one query"""
_ALIASES = {"lang": "language", "licence": "license", "arch": "architecture", "organization": "org"}
_CLOSED = {"composition": ("yes", "no"), "status": ("active", "deprecated", "yanked")}
_NAME = re.compile(r"([A-Za-z_]+):")
_COMPARISON = re.compile(
    r"(?:metric:)?([A-Za-z][\w.\-/]*)(?:@([^\s<>=\"]+))?(>=|<=|>|<|=)(\S*)", re.IGNORECASE
)
_METRIC = re.compile(r"metric:([A-Za-z][\w.\-/]*)(?:@([^\s<>=\"]+))?(?=\s|$)", re.IGNORECASE)
_WORD = re.compile(r"\S+")
_PHRASE = re.compile(r'"((?:[^"\\]|\\.)*)"(?=\s|$)')
_WORD_LETTERS = 64


class Words(msgspec.Struct, frozen=True):
    """Words next to each other, as `tokens` gives them; the last may go on unless it was quoted."""

    tokens: tuple[str, ...]
    quoted: bool = False
    negated: bool = False


class Filter(msgspec.Struct, frozen=True):
    """A field that has, or has not, a value."""

    field: str
    value: str
    negated: bool = False


class Score(msgspec.Struct, frozen=True):
    """A metric's best value compared with a number; without an operator it only has to be there."""

    metric: str
    dataset: str | None = None
    operator: Operator | None = None
    value: float = 0.0
    negated: bool = False


Item = Words | Filter | Score


class Query(msgspec.Struct, frozen=True):
    """A query, taken apart."""

    items: tuple[Item, ...] = ()

    @property
    def words(self) -> tuple[Words, ...]:
        """The words that have to be there."""
        return tuple(each for each in self.items if isinstance(each, Words) and not each.negated)

    @property
    def said(self) -> tuple[Words, ...]:
        """The words, and those that must not be there; full text cannot be asked for these alone."""
        if not self.words:
            return ()
        return tuple(each for each in self.items if isinstance(each, Words))

    @property
    def told(self) -> tuple["Words | Filter", ...]:
        """What the index of words is asked at once: words and answers, and those that must not be there."""
        found = tuple(each for each in self.items if isinstance(each, Words | Filter))
        return found if any(not each.negated for each in found) else ()


class MalformedQuery(Unprocessable):
    """A search is outside the grammar: it says where, and what was expected there."""

    code = "malformed_query"

    def __init__(self, position: int, found: str, expected: str, near: str | None = None) -> None:
        hint = f" Did you mean {near!r}?" if near else ""
        super().__init__(f"At character {position + 1}: {found}; expected {expected}.{hint}")
        self.position = position
        self.expected = expected
        self.nearest = () if near is None else (near,)


def parse(text: str) -> Query:
    """Take a query apart.

    Raises:
        MalformedQuery: Says at which character, and what was expected there.
    """
    items: list[Item] = []
    at = _skip_spaces(text, 0)
    while at < len(text):
        if len(items) == LIMIT:
            raise MalformedQuery(at, f"there are more than {LIMIT} items", "fewer")
        negated = text[at] == "-" and at + 1 < len(text) and not text[at + 1].isspace()
        item, end = _item(text, at + negated)
        if negated:
            item = msgspec.structs.replace(item, negated=True)
        if not isinstance(item, Words) or item.tokens:
            items.append(item)
        at = _skip_spaces(text, end)
    return Query(tuple(items))


def literal(text: str) -> Query:
    """Read any text as mere words, as one does where it is no query."""
    found = [Words(tokens(word)) for word in text.split()]
    return Query(tuple(each for each in found if each.tokens)[:LIMIT])


def tokens(text: str) -> tuple[str, ...]:
    """Letters and digits of a text in lower case and without accents: what search compares."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = (
        letter if letter.isalnum() else "" if unicodedata.combining(letter) else " "
        for letter in plain
    )
    return tuple(word[:_WORD_LETTERS] for word in "".join(kept).split())


def quoted(value: str) -> str:
    """A value as a query spells it."""
    if value and not re.search(r'[\s"]', value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _item(text: str, at: int) -> tuple[Item, int]:
    readers: tuple[Callable[[str, int], tuple[Item, int] | None], ...] = (
        _comparison,
        _metric,
        _field,
    )
    for reader in readers:
        found = reader(text, at)
        if found is not None:
            return found
    value, end = _text(text, at)
    return Words(tokens(value), quoted=text[at] == '"'), end


def _comparison(text: str, at: int) -> tuple[Item, int] | None:
    match = _COMPARISON.match(text, at)
    if match is None:
        return None
    metric, dataset, operator, number = match.groups()
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124  # not a number
        found = f"{number!r} is no number" if number else "the number is missing"
        raise MalformedQuery(match.start(4), found, f"a number after `{metric}{operator}`")
    return Score(metric, dataset, cast("Operator", operator), value), match.end()


def _metric(text: str, at: int) -> tuple[Item, int] | None:
    match = _METRIC.match(text, at)
    return match and (Score(match.group(1), match.group(2)), match.end())


def _field(text: str, at: int) -> tuple[Item, int] | None:
    match = _NAME.match(text, at)
    if match is None:
        return None
    spelled = match.group(1).lower()
    field = _ALIASES.get(spelled, spelled)
    if field not in FIELDS:
        known = [*FIELDS, *_ALIASES, "metric"]
        near = get_close_matches(spelled, known, n=1, cutoff=0.5)
        raise MalformedQuery(
            at, f"there is no field {spelled!r}", "one of " + ", ".join(FIELDS), *near
        )
    if match.end() == len(text) or text[match.end()].isspace():
        raise MalformedQuery(match.end(), f"`{spelled}:` has no value", "a word or a phrase")
    value, end = _text(text, match.end())
    allowed = _CLOSED.get(field)
    if allowed is not None and value not in allowed:
        near = get_close_matches(value, allowed, n=1, cutoff=0.5)
        raise MalformedQuery(
            match.end(), f"{field} cannot be {value!r}", "one of " + ", ".join(allowed), *near
        )
    return Filter(field, value), end


def _text(text: str, at: int) -> tuple[str, int]:
    if text[at] != '"':
        match = _WORD.match(text, at)
        end = match.end() if match else at
        return text[at:end], end
    match = _PHRASE.match(text, at)
    if match is None:
        closing = re.compile(r'"(?:[^"\\]|\\.)*"').match(text, at)
        where = closing.end() if closing else len(text)
        raise MalformedQuery(where, "the phrase does not end here", '`"` and then a space')
    return re.sub(r"\\(.)", r"\1", match.group(1)), match.end()


def _skip_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
