"""The answers that would narrow a search, each with how many adapters it would leave.

The counts of a question are those of the search without the answers to it that are chosen now, so that another one can
be chosen. What is kept counted is exact however much there is; else the newest `COUNTED` that fit are counted, and
where there are more, each count is "at least".
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.query import Filter, Query
from adapterhub_registry.models import Dataset, SearchFacet, SearchScore
from adapterhub_registry.service.matching import Scopes
from adapterhub_registry.service.search import Found, Looked, find
from adapterhub_registry.service.sets import Counted, among, details, top

QUESTIONS = (
    "task",
    "base",
    "method",
    "org",
    "dataset",
    "architecture",
    "head",
    "language",
    "license",
    "composition",
    "status",
)
_CHOICES = 24
_UNNAMED = "name:"


def facets(session: Session, looked: Looked) -> list[wire.Facet]:
    """Every question with its most frequent answers."""
    counted = _counted(session, looked.found) if looked.found.query.items else {}
    return [_facet(session, looked, counted, question) for question in QUESTIONS]


def ranges(session: Session, looked: Looked) -> list[wire.MetricRange]:
    """The metrics that the most adapters report, from the lowest to the highest of their best values."""
    whole = looked.found
    adapters = func.count(SearchScore.adapter_id.distinct())
    rows = session.execute(
        select(
            Dataset.name.label("dataset"),
            SearchScore.name,
            adapters.label("adapters"),
            func.min(SearchScore.value).label("lowest"),
            func.max(SearchScore.value).label("highest"),
        )
        .join(Dataset, Dataset.id == SearchScore.dataset_id)
        .where(among(session, SearchScore.adapter_id, whole.ids))
        .group_by(Dataset.name, SearchScore.name)
    ).all()
    rows = sorted(rows, key=lambda row: (-row.adapters, row.dataset, row.name))
    return [
        wire.MetricRange(
            dataset=row.dataset,
            metric=row.name,
            adapters=row.adapters,
            lowest=row.lowest,
            highest=row.highest,
            exact=whole.whole,
        )
        for row in rows[:_CHOICES]
    ]


def _facet(
    session: Session, looked: Looked, counted: dict[str, list[Counted]], field: str
) -> wire.Facet:
    scoped, whole = looked.scoped, looked.found
    query = _without(whole.query, field)
    if not query.items:
        values, exact = top(session, scoped, field, _CHOICES), True
    elif query == whole.query:
        values, exact = counted.get(field, []), whole.whole
    else:
        open_search = find(session, scoped, query)
        values, exact = _counted(session, open_search, field).get(field, []), open_search.whole
    chosen = {
        item.value
        for item in whole.query.items
        if isinstance(item, Filter) and item.field == field and not item.negated
    }
    return wire.Facet(
        field=field,
        exact=exact,
        values=_named(session, scoped, field, values, chosen),
    )


def _without(query: Query, field: str) -> Query:
    """The query without the answers to a question."""
    return Query(
        tuple(
            item
            for item in query.items
            if not (isinstance(item, Filter) and item.field == field and not item.negated)
        )
    )


def _counted(session: Session, whole: Found, field: str | None = None) -> dict[str, list[Counted]]:
    """How many of these adapters give each answer, the most frequent first."""
    adapters = func.count()
    fields = QUESTIONS if field is None else (field,)
    rows = session.execute(
        select(SearchFacet.field, SearchFacet.value, adapters.label("adapters"))
        .where(among(session, SearchFacet.adapter_id, whole.ids), SearchFacet.field.in_(fields))
        .group_by(SearchFacet.field, SearchFacet.value)
    ).all()
    answers: dict[str, list[Counted]] = {}
    for row in sorted(rows, key=lambda row: (row.adapters, row.value), reverse=True):
        answers.setdefault(row.field, []).append(Counted(row.value, row.adapters))
    return answers


def _named(
    session: Session, scoped: Scopes, field: str, values: Sequence[Counted], chosen: set[str]
) -> list[wire.FacetValue]:
    """Answers as people read them; one that is chosen stays to be undone, however rare it is."""
    shown = [
        each for at, each in enumerate(values) if at < _CHOICES or _plain(each.value) in chosen
    ]
    if field != "base":
        return [wire.FacetValue(value=each.value, adapters=each.adapters) for each in shown]
    described = details(session, scoped, field, [each.value for each in shown])
    return [
        wire.FacetValue(
            value=_plain(each.value),
            adapters=each.adapters,
            label=msgspec.json.decode(described[each.value], type=wire.Base).name
            if each.value in described
            else _plain(each.value),
        )
        for each in shown
    ]


def _plain(value: str) -> str:
    """A base without a fingerprint goes by its name."""
    return value.removeprefix(_UNNAMED)
