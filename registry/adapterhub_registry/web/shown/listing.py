"""The list of adapters: its address is its whole state, and every filter is a link."""

import re
from urllib.parse import urlencode

import msgspec
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.domain.query import MalformedQuery, Query, Score, literal
from adapterhub_registry.service import search as searching
from adapterhub_registry.service.ordering import SORT
from adapterhub_registry.service.search import Search

PATH = "/adapters"
FEED = "/adapters.atom"
PAGE = 25
_TEXT_LIMIT = 200
_BY_METRIC = "metric:"

FILTERS = {
    "q": "search",
    "task": "task",
    "base": "base model",
    "method": "method",
    "org": "organization",
    "dataset": "dataset",
    "language": "language",
    "license": "licence",
    "head": "head",
    "architecture": "architecture",
    "composition": "composition",
    "status": "status",
}
SORTS = {
    "relevance": "best fit",
    "updated": "updated",
    "created": "created",
    "downloads": "pulls",
    "name": "name",
}


class Choice(msgspec.Struct, frozen=True):
    """A filter as a link: what it is called, where it leads, and how many adapters wait there."""

    label: str
    url: str
    value: str = ""
    adapters: int | None = None
    exact: bool = True
    """whether there are no more than so many"""
    chosen: bool = False
    aside: str = ""
    """what is said beside the label"""


class Facet(msgspec.Struct, frozen=True):
    """One question to narrow the list by, and its answers."""

    name: str
    title: str
    choices: list[Choice]

    @property
    def is_answered(self) -> bool:
        """Whether there is nothing left to choose."""
        return len(self.choices) < 2 or any(choice.chosen for choice in self.choices)  # noqa: PLR2004


def asked(query: MultiDict[str, str]) -> Search:
    """Read the address; what makes no sense there is as if it were not there."""
    texts = {name: query.get(name, "").strip()[:_TEXT_LIMIT] for name in FILTERS}
    q = texts.pop("q")
    sort = query.get("sort", "")[:_TEXT_LIMIT]
    return Search(
        q=q,
        **{name: text or None for name, text in texts.items()},
        sort=sort if re.match(SORT, sort) and sort != _usual(q) else None,
        limit=PAGE,
        after=query.get("after") or None,
    )


def understood(search: Search) -> tuple[Query, str | None]:
    """What a search asks for; where its text is no query, its mere words, and why.

    In the order of a metric only those have a place that report it.
    """
    mistake = None
    try:
        query = search.query
    except MalformedQuery as error:
        query, mistake = searching.with_fields(literal(search.q), search), error.detail
    board = measured(search)
    if board is not None:
        query = Query((*query.items, Score(*board)))
    return query, mistake


def measured(search: Search) -> tuple[str, str] | None:
    """The metric and the dataset that the list is ordered by."""
    if search.sort is None or not search.sort.startswith(_BY_METRIC):
        return None
    metric, _, dataset = search.sort.removeprefix(_BY_METRIC).partition("@")
    return metric, dataset


def by_metric(metric: str, dataset: str) -> str:
    """The order of a list by a metric."""
    return f"{_BY_METRIC}{metric}@{dataset}"


def url(search: Search, path: str | None = PATH, **changes: str | None) -> str:
    """The address of a search with something changed; any change starts at the first page."""
    state = {name: getattr(search, name) for name in (*FILTERS, "sort")}
    state |= {"after": None} | changes
    if state["sort"] == _usual(state["q"]):
        state["sort"] = None
    query = urlencode({name: value for name, value in state.items() if value})
    return f"{path or PATH}?{query}" if query else path or PATH


def active(search: Search, facets: list[Facet]) -> list[Choice]:
    """The filters that are set; each link takes one away."""
    chosen = []
    called = {choice.value: choice.label for facet in facets for choice in facet.choices}
    for name, title in FILTERS.items():
        value = getattr(search, name)
        if value:
            label = f"“{value}”" if name == "q" else f"{title} {called.get(value, value)}"
            chosen.append(Choice(label, url(search, **{name: None})))
    return chosen


def relaxed(session: Session, viewer: Viewer, search: Search, chosen: list[Choice]) -> list[Choice]:
    """For a search that found nothing: each filter whose removal finds something, most first."""
    names = [name for name in FILTERS if getattr(search, name)]
    found = []
    for name, choice in zip(names, chosen, strict=True):
        without = msgspec.structs.replace(
            search, **{name: "" if name == "q" else None}, after=None, limit=1
        )
        total = searching.search(session, viewer, without, understood(without)[0]).total
        if total:
            found.append(msgspec.structs.replace(choice, adapters=total))
    return sorted(found, key=lambda choice: -(choice.adapters or 0))


def sorts(search: Search) -> list[Choice]:
    """The orders that a list can have; that of a metric only where it is the one."""
    now = search.sort or _usual(search.q)
    found = [
        Choice(label, url(search, sort=sort), chosen=sort == now)
        for sort, label in SORTS.items()
        if search.q or sort != "relevance"
    ]
    board = measured(search)
    if board is not None:
        found.append(Choice(f"{board[0]}, {board[1]}", url(search), chosen=True))
    return found


def metric_of(metrics: list[wire.Metric], board: tuple[str, str]) -> wire.Metric | None:
    """Which metric of an adapter a list shows: the one it is ordered by, else the first."""
    same = [each for each in metrics if (each.name, each.dataset) == board]
    return next(iter(same), None)


def _usual(q: str | None) -> str:
    """The order of a list that asks for none."""
    return "relevance" if q else "updated"
