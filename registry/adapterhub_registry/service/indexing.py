"""Keep what search reads in step with the catalogue, in the transaction that changes it.

Whatever changes an adapter, a version or a metric calls `refresh` last; whatever removes an adapter calls `forget`
first. `rebuild` makes everything anew.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Executable, bindparam, delete, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from adapterhub_registry.domain.query import tokens
from adapterhub_registry.models import (
    Adapter,
    Model,
    SearchCount,
    SearchDocument,
    SearchFacet,
    SearchScore,
    SearchTrigram,
)
from adapterhub_registry.models.search import EVERYTHING
from adapterhub_registry.service.gathering import Found, gather
from adapterhub_registry.service.matching import ANSWER, TITLE, mark

_AT_ONCE = 500
_ROWS_AT_ONCE = 5000

Row = TypeVar("Row")
Count = tuple[str, str, int]
"""field, value and scope"""


class _Change(msgspec.Struct, frozen=True):
    """What becomes of the counts."""

    counts: Counter[Count]
    details: dict[Count, str]


def refresh(session: Session, adapter_ids: Iterable[int]) -> None:
    """Bring what search knows of these adapters up to date. Call it last: it locks rows that all publishes change."""
    session.flush()
    ids = sorted(set(adapter_ids))
    # Two changes of one adapter must not each overlook the other.
    session.execute(
        select(Adapter.id)
        .where(Adapter.id.in_(ids))
        .order_by(Adapter.id)
        .with_for_update(key_share=True)
    )
    found = gather(session, ids)
    change = _Change(Counter(), {})
    _take_out(session, ids, change)
    _put_in(session, found.values(), change)
    _count(session, change)


def forget(session: Session, adapter_ids: Iterable[int]) -> None:
    """Take adapters out of search, before they are deleted."""
    session.flush()
    change = _Change(Counter(), {})
    _take_out(session, sorted(set(adapter_ids)), change)
    _count(session, change)


def rebuild(session: Session, told: Callable[[int], None] | None = None) -> int:
    """Make all of it anew and say of how many adapters; `told` hears how many are done."""
    for model in (SearchScore, SearchFacet, SearchDocument, SearchCount, SearchTrigram):
        session.execute(delete(model))
    if _is_sqlite(session):
        session.execute(text("DELETE FROM search_text"))
    change = _Change(Counter(), {})
    done = 0
    # The ids alone, and all at once: the rows that are written meanwhile would disturb an open cursor.
    for ids in _batches(session.scalars(select(Adapter.id).order_by(Adapter.id)).all(), _AT_ONCE):
        found = gather(session, ids)
        _put_in(session, [found[each] for each in ids if each in found], change)
        done += len(ids)
        if told is not None:
            told(done)
    _count(session, change)
    return done


def is_missing(session: Session) -> bool:
    """Whether there are adapters and search knows of none, as after the upgrade that brought it."""
    indexed = session.scalar(select(SearchDocument.adapter_id).limit(1))
    return indexed is None and session.scalar(select(Adapter.id).limit(1)) is not None


def _take_out(session: Session, ids: Sequence[int], change: _Change) -> None:
    scopes: dict[int, int] = {}
    columns = SearchDocument.__table__.c
    rows = session.execute(
        select(
            columns.adapter_id,
            columns.scope_id,
            columns.full_name,
            columns.versions,
            columns.size_bytes,
        ).where(SearchDocument.adapter_id.in_(ids))
    )
    for row in rows:
        scopes[row.adapter_id] = row.scope_id
        _add(change, row.scope_id, {("word", word) for word in tokens(row.full_name)}, -1)
        _total(change, row.scope_id, -1, -row.versions, -row.size_bytes)
    if not scopes:
        return
    facets = select(SearchFacet).where(SearchFacet.adapter_id.in_(scopes))
    for facet in session.execute(facets.with_only_columns(*SearchFacet.__table__.columns)):
        _add(change, scopes[facet.adapter_id], {(facet.field, facet.value)}, -1)
    for model in (SearchScore, SearchFacet, SearchDocument):
        session.execute(delete(model).where(model.adapter_id.in_(scopes)))
    if _is_sqlite(session):
        session.execute(
            text("DELETE FROM search_text WHERE rowid = :id"), [{"id": each} for each in scopes]
        )


def _put_in(session: Session, found: Collection[Found], change: _Change) -> None:
    if not found:
        return
    sqlite_here = _is_sqlite(session)
    _insert(session, SearchDocument, [_document(each, words=not sqlite_here) for each in found])
    if sqlite_here:
        session.execute(
            text(
                "INSERT INTO search_text (rowid, title, body, answers) VALUES (:id, :title, :body, :answers)"
            ),
            [
                {
                    "id": each.adapter_id,
                    "title": " ".join(each.title),
                    "body": " ".join(each.body),
                    "answers": " ".join(_marks(each)),
                }
                for each in found
            ],
        )
    facets = [
        {"field": field, "value": value, "adapter_id": each.adapter_id}
        for each in found
        for field, value in each.answers
    ]
    _insert(session, SearchFacet, facets)
    _insert(session, SearchScore, [row for each in found for row in _scores(each)])
    for each in found:
        words = {("word", word) for word in each.title}
        _add(change, each.scope_id, each.answers | words, 1)
        _total(change, each.scope_id, 1, each.versions, each.size_bytes)
        for key, described in each.bases.items():
            for scope_id in (each.scope_id, EVERYTHING):
                change.details.setdefault(("base", key, scope_id), described)


def _document(found: Found, *, words: bool) -> dict[str, Any]:
    return {
        "adapter_id": found.adapter_id,
        "scope_id": found.scope_id,
        "full_name": found.full_name,
        "name": found.name,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
        "downloads": found.downloads,
        "versions": found.versions,
        "size_bytes": found.size_bytes,
        "summary": found.summary,
        "words": _vector(found) if words else None,
    }


def _vector(found: Found) -> str:
    """Spell a tsvector: no parser of PostgreSQL cuts the words again. No phrase goes from the name into the rest.

    A word of the name is there once more, and an answer is a word, each with a sign before it that no word of a text
    has: the index knows words, but not where in a text they are.
    """
    said = [*enumerate(found.title, 1), *enumerate(found.body, len(found.title) + 2)]
    named = [f"'{TITLE}{word}':{at}" for at, word in enumerate(found.title, 1)]
    marked = [f"'{ANSWER}{each}'" for each in _marks(found)]
    return " ".join([*(f"'{word}':{at}" for at, word in said), *named, *marked])


def _marks(found: Found) -> list[str]:
    return sorted(mark(field, value) for field, value in found.answers)


def _scores(found: Found) -> list[dict[str, Any]]:
    return [
        {
            "adapter_id": found.adapter_id,
            "dataset_id": key.dataset_id,
            "name": key.name,
            "split": key.split,
            "version_id": best.version_id,
            "position": best.position,
            "value": best.value,
            "higher_is_better": best.higher_is_better,
            "rank": best.rank,
        }
        for key, best in found.scores.items()
    ]


def _add(change: _Change, scope_id: int, answers: Iterable[tuple[str, str]], adapters: int) -> None:
    for field, value in answers:
        change.counts[field, value, scope_id] += adapters
        change.counts[field, value, EVERYTHING] += adapters


def _total(change: _Change, scope_id: int, adapters: int, versions: int, size_bytes: int) -> None:
    totals = {"adapters": adapters, "versions": versions, "size_bytes": size_bytes}
    for name, more in totals.items():
        _add(change, scope_id, [("total", name)], more)


def _count(session: Session, change: _Change) -> None:
    """Add up the counts, in one order for all transactions, so that none waits for another in a circle."""
    changed = sorted(key for key, adapters in change.counts.items() if adapters)
    dialect = sqlite if _is_sqlite(session) else postgresql
    added = dialect.insert(SearchCount)
    statement = added.on_conflict_do_update(
        index_elements=["field", "value", "scope_id"],
        set_={"adapters": SearchCount.adapters + added.excluded.adapters},
    )
    rows: list[dict[str, Any]] = [
        {
            "field": field,
            "value": value,
            "scope_id": scope_id,
            "adapters": change.counts[field, value, scope_id],
            "detail": change.details.get((field, value, scope_id)),
        }
        for field, value, scope_id in changed
    ]
    _execute_many(session, statement, rows)
    emptied = [row for row, key in zip(rows, changed, strict=True) if change.counts[key] < 0]
    gone = delete(SearchCount).where(
        SearchCount.field == bindparam("field"),
        SearchCount.value == bindparam("value"),
        SearchCount.scope_id == bindparam("scope_id"),
        SearchCount.adapters <= 0,
    )
    _execute_many(session, gone, emptied)
    words = sorted({value for field, value, _ in changed if field == "word"})
    _learn(session, [word for word in words if change.counts["word", word, EVERYTHING] > 0])


def _learn(session: Session, words: Sequence[str]) -> None:
    """Take words apart. They are never forgotten; which of them somebody may see, the counts say."""
    dialect = sqlite if _is_sqlite(session) else postgresql
    statement = dialect.insert(SearchTrigram).on_conflict_do_nothing()
    rows = [{"trigram": part, "word": word} for word in words for part in sorted(trigrams(word))]
    _execute_many(session, statement, rows)


def trigrams(word: str) -> set[str]:
    """Every three letters that follow each other, the edges counted as blanks."""
    padded = f"  {word} "
    return {padded[at : at + 3] for at in range(len(padded) - 2)}


def _insert(session: Session, model: type[Model], rows: list[dict[str, Any]]) -> None:
    _execute_many(session, insert(model), rows)


def _execute_many(session: Session, statement: Executable, rows: list[dict[str, Any]]) -> None:
    """Over the connection itself: the unit of work has nothing to learn from these rows."""
    connection = session.connection()
    for some in _batches(rows, _ROWS_AT_ONCE):
        connection.execute(statement, some)


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    rest = iter(rows)
    while some := list(islice(rest, size)):
        yield some


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
