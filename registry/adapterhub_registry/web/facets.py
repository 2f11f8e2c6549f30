"""The answers that narrow a list, each with how many adapters it leaves; those that are chosen stay to be undone."""

from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.service import faceting
from adapterhub_registry.service.search import Looked, Search
from adapterhub_registry.web.listing import Choice, Facet, url

_TITLES = {
    "task": "Task",
    "base": "Base model",
    "method": "Method",
    "org": "Organization",
    "language": "Language",
}


def facets(session: Session, search: Search, looked: Looked) -> list[Facet]:
    """Every question; its counts are those of the search without the answer to it that is chosen now."""
    found = faceting.facets(session, looked)
    return [_facet(search, each) for each in found if each.field in _TITLES]


def _facet(search: Search, counted: wire.Facet) -> Facet:
    now = getattr(search, counted.field)
    choices = [
        Choice(
            label=each.label or each.value,
            url=url(search, **{counted.field: None if each.value == now else each.value}),
            value=each.value,
            adapters=each.adapters,
            exact=counted.exact,
            chosen=each.value == now,
        )
        for each in counted.values
    ]
    choices.sort(key=lambda choice: not choice.chosen)
    return Facet(counted.field, _TITLES[counted.field], choices)
