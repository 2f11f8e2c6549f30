"""The nearest words and names, among those that the viewer may know of.

A misspelt word shares three letters in a row with the right one, here with its edges as blanks; the few words that
share the most are then compared letter by letter. The table of them is our own, so both databases suggest the same, and
no extension of PostgreSQL is needed.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub_registry.domain.query import Query, Words, tokens
from adapterhub_registry.models import SearchCount, SearchDocument, SearchTrigram
from adapterhub_registry.service import matching
from adapterhub_registry.service.indexing import trigrams
from adapterhub_registry.service.matching import Scopes

_COMPARED = 100
_ALIKE = 0.65
_NAMES = 200
_NAMES_ALIKE = 0.5
_NEAREST = 5


def nearest_words(session: Session, scoped: Scopes, word: str, limit: int = 1) -> list[str]:
    """The words of names that are most like this one, the best first."""
    shared = func.count()
    rows = session.execute(
        select(SearchTrigram.word, shared)
        .where(SearchTrigram.trigram.in_(sorted(trigrams(word))))
        .group_by(SearchTrigram.word)
        # Of two that share as much, the shorter is more alike; then any order will do that is the same everywhere.
        .order_by(shared.desc(), func.length(SearchTrigram.word), SearchTrigram.word)
        .limit(_COMPARED)
    )
    visible = dict(_visible(session, scoped, [row.word for row in rows]))
    alike = {
        each: round(SequenceMatcher(None, word, each).ratio(), 6)
        for each in visible
        if abs(len(each) - len(word)) <= max(2, len(word) // 3)
    }
    kept = [each for each, ratio in alike.items() if ratio >= _ALIKE]
    return sorted(kept, key=lambda each: (-alike[each], -visible[each], each))[:limit]


def corrected(session: Session, scoped: Scopes, words: Words) -> Words:
    """The same words, each that no name and no description has replaced by the nearest that a name has."""
    if words.quoted:
        return words
    found = [_known(session, scoped, token) for token in words.tokens]
    return Words(tuple(found), negated=words.negated)


def nearest_names(session: Session, scoped: Scopes, full_name: str) -> list[str]:
    """The adapters whose references are most like one that does not exist."""
    task, _, rest = full_name.partition("/")
    name, _, organization = rest.rpartition("@")
    near = [nearest_words(session, scoped, token) for token in tokens(name)]
    said = [_exactly(token) for found in near for token in found]
    beside = [_exactly(token) for token in tokens(f"{task} {organization}")]
    candidates: set[str] = set()
    for wanted in [said, *([each] for each in said), beside]:
        if wanted and len(candidates) < _NAMES:
            candidates |= set(_names(session, scoped, wanted))
    return get_close_matches(full_name, sorted(candidates), n=_NEAREST, cutoff=_NAMES_ALIKE)


def _exactly(token: str) -> Words:
    return Words((token,), quoted=True)


def _names(session: Session, scoped: Scopes, words: Sequence[Words]) -> Sequence[str]:
    query = Query(tuple(words))
    fits = matching.matching(session, scoped, query)
    found = matching.saying(session, query.words, title=True)
    return session.scalars(
        found.with_only_columns(SearchDocument.full_name).where(*fits.rest).limit(_NAMES)
    ).all()


def _known(session: Session, scoped: Scopes, token: str) -> str:
    query = Query((Words((token,)),))
    fits = matching.matching(session, scoped, query)
    if session.scalar(matching.saying(session, query.words).where(*fits.rest).limit(1)) is not None:
        return token
    return next(iter(nearest_words(session, scoped, token)), token)


def _visible(session: Session, scoped: Scopes, words: Sequence[str]) -> list[tuple[str, int]]:
    rows = session.execute(
        select(SearchCount.value, func.sum(SearchCount.adapters))
        .where(
            SearchCount.field == "word",
            SearchCount.value.in_(words),
            SearchCount.scope_id.in_(scoped.counted),
        )
        .group_by(SearchCount.value)
    )
    return [(value, int(adapters)) for value, adapters in rows]
