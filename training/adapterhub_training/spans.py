"""Scores of pieces of text: entities among tags, and answers among words. Pure functions."""

import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence

from adapterhub_training.evaluation import ratio

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)

Entity = tuple[str, int, int]
"""its type, its first word and the one after its last"""


def entity_f1(gold: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> float:
    """F1 of whole entities, right where type and both ends are; 0 where tags are of no such scheme."""
    hits = predicted = present = 0
    for tags, guessed in zip(gold, said, strict=True):
        first, second = set(entities(tags)), set(entities(guessed))
        hits += len(first & second)
        present += len(first)
        predicted += len(second)
    return ratio(2 * hits, present + predicted)


def entities(tags: Sequence[str]) -> Iterator[Entity]:
    """The entities of a sentence's tags, `B-` and `I-` with a type; an `I-` without a beginning is one (CoNLL 2003)."""
    kind, start = "", 0
    for at, tag in enumerate([*tags, "O"]):
        sign, dash, own = tag.partition("-")
        inside = dash and sign in {"B", "I"}
        if kind and not (inside and sign == "I" and own == kind):
            yield kind, start, at
            kind = ""
        if inside and not kind:
            kind, start = own, at


def exact_match(gold: Sequence[str], said: str) -> float:
    """Whether an answer is one of the right ones, but for case, punctuation and articles (SQuAD)."""
    return max(float(_plain(answer) == _plain(said)) for answer in gold or [""])


def word_f1(gold: Sequence[str], said: str) -> float:
    """How many words an answer shares with the nearest right one, as F1 (SQuAD)."""
    return max(_shared(_plain(answer).split(), _plain(said).split()) for answer in gold or [""])


def _shared(gold: Sequence[str], said: Sequence[str]) -> float:
    if not gold or not said:
        return float(gold == said)
    common = sum((Counter(gold) & Counter(said)).values())
    return 2 * common / (len(gold) + len(said))


def _plain(text: str) -> str:
    letters = "".join(letter for letter in text.lower() if letter not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", letters).split())
