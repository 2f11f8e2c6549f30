"""The answers that narrow a list, each with how many adapters it leaves; those that are chosen stay to be undone."""

from collections import Counter

from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_client.charts.text import number, short
from adapterhub_registry.service import faceting
from adapterhub_registry.service.search import Looked, Search
from adapterhub_registry.web.shown import listing
from adapterhub_registry.web.shown.listing import Choice, Facet, url

_TITLES = {
    "task": "Task",
    "base": "Base model",
    "method": "Method",
    "dataset": "Measured on",
    "org": "Organization",
    "language": "Language",
    "head": "Head",
    "composition": "Composition",
    "license": "Licence",
    "status": "Status",
}
_SHOWN = 14
_SCORES = 10


def facets(session: Session, search: Search, looked: Looked) -> list[Facet]:
    """Every question; its counts are those of the search without the answer to it that is chosen now."""
    found = {each.field: each for each in faceting.facets(session, looked)}
    asked = [_facet(search, found[field]) for field in _TITLES if field in found]
    return [each for each in asked if _says_something(each)]


def scores(session: Session, search: Search, looked: Looked) -> list[Choice]:
    """What the found adapters report most: each leads to the list in the order of that metric."""
    now = listing.measured(search)
    found = []
    for each in faceting.ranges(session, looked)[:_SCORES]:
        sort = listing.by_metric(each.metric, each.dataset)
        is_chosen = now == (each.metric, each.dataset)
        found.append(
            Choice(
                label=f"{each.metric}, {each.dataset}",
                url=url(search, sort=None if is_chosen else sort),
                adapters=each.adapters,
                exact=each.exact,
                chosen=is_chosen,
                aside=_span(each),
            )
        )
    return sorted(found, key=lambda choice: not choice.chosen)


def _span(found: wire.MetricRange) -> str:
    low, high = number(found.lowest), number(found.highest)
    return low if low == high else f"{low} to {high}"


def _facet(search: Search, counted: wire.Facet) -> Facet:
    now = getattr(search, counted.field)
    named = Counter(each.label for each in counted.values)
    choices = [
        Choice(
            label=each.label or each.value,
            aside=_fingerprint(each) if each.label and named[each.label] > 1 else "",
            url=url(search, **{counted.field: None if each.value == now else each.value}),
            value=each.value,
            adapters=each.adapters,
            exact=counted.exact,
            chosen=each.value == now,
        )
        for each in counted.values
    ]
    choices.sort(key=lambda choice: not choice.chosen)
    return Facet(counted.field, _TITLES[counted.field], choices[:_SHOWN])


def _fingerprint(base: wire.FacetValue) -> str:
    """What tells one base from another of its name."""
    return short(base.value) if base.value != base.label else "no fingerprint"


def _says_something(facet: Facet) -> bool:
    """Whether an answer would change the list, or one is chosen."""
    return len(facet.choices) > 1 or any(choice.chosen for choice in facet.choices)
