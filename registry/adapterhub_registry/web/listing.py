"""The list of adapters: its address is its whole state, and every filter is a link."""

from urllib.parse import urlencode

import msgspec
from sqlalchemy.orm import Session
from werkzeug.datastructures import MultiDict

from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.service import catalogue
from adapterhub_registry.service.catalogue import Search, Sort

PATH = "/adapters"
PAGE = 25
_TEXT_LIMIT = 200

FILTERS = {
    "q": "search",
    "task": "task",
    "base": "base model",
    "method": "method",
    "org": "organization",
    "language": "language",
}
SORTS: dict[Sort, str] = {
    "updated": "recently updated",
    "downloads": "most downloaded",
    "name": "by name",
}


class Choice(msgspec.Struct, frozen=True):
    """A filter as a link: what it is called, where it leads, and how many adapters wait there."""

    label: str
    url: str
    value: str = ""
    adapters: int | None = None
    chosen: bool = False


class Facet(msgspec.Struct, frozen=True):
    """One question to narrow the list by, and its answers."""

    name: str
    title: str
    choices: list[Choice]

    @property
    def answered(self) -> bool:
        """Whether there is nothing left to choose."""
        return len(self.choices) < 2 or any(choice.chosen for choice in self.choices)  # noqa: PLR2004


def asked(query: MultiDict[str, str]) -> Search:
    """Read the address; what makes no sense there is as if it were not there."""
    texts = {name: query.get(name, "").strip()[:_TEXT_LIMIT] for name in FILTERS}
    sort: Sort = next((each for each in SORTS if each == query.get("sort")), "updated")
    return Search(
        q=texts.pop("q"),
        **{name: text or None for name, text in texts.items()},
        sort=sort,
        limit=PAGE,
        after=query.get("after") or None,
    )


def url(search: Search, **changes: str | None) -> str:
    """The address of a search with something changed; any change starts at the first page."""
    state = {name: getattr(search, name) for name in (*FILTERS, "sort")}
    state |= {"after": None} | changes
    if state["sort"] == "updated":
        state["sort"] = None
    query = urlencode({name: value for name, value in state.items() if value})
    return f"{PATH}?{query}" if query else PATH


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
        total = catalogue.search(session, viewer, without).total
        if total:
            found.append(msgspec.structs.replace(choice, adapters=total))
    return sorted(found, key=lambda choice: -(choice.adapters or 0))


def sorts(search: Search) -> list[Choice]:
    """The orders that a list can have."""
    return [
        Choice(label, url(search, sort=sort), chosen=sort == search.sort)
        for sort, label in SORTS.items()
    ]
