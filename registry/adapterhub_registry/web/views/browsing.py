"""What the catalogue is sorted by: tasks, base models, organizations, compositions."""

from difflib import get_close_matches

from flask import Response

from adapterhub_registry.errors import NotFound
from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import browsing, organization
from adapterhub_registry.service import search as searching
from adapterhub_registry.service.places import Page
from adapterhub_registry.service.search import Search
from adapterhub_registry.web.page import DESCRIBED, LISTED, asked, blueprint, rendered
from adapterhub_registry.web.shown import compositions, listing
from adapterhub_registry.web.shown.collection import collection

_NEAREST = 5
_COMPOSITIONS = 24


class TaskNotFound(NotFound):
    """No adapter that the viewer may read has this task."""

    code = "task_not_found"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"There is no task named {name!r}.")
        self.nearest = tuple(get_close_matches(name, known, n=_NEAREST, cutoff=0.5))


@blueprint.get("/tasks")
def task_list() -> Response:
    """Every task."""
    page = browsing.tasks(session(), viewer(), asked())
    count = browsing.stats(session(), viewer()).tasks
    called = browsing.called(session(), [task.name for task in page.items])
    return rendered("tasks.html", tasks=page.items, called=called, count=count, following=page.next)


@blueprint.get("/tasks/<name>")
def task_page(name: str) -> Response:
    """The adapters of one task."""
    if not browsing.has_task(session(), viewer(), name):
        known = browsing.tasks(session(), viewer(), Page(limit=LISTED)).items
        raise TaskNotFound(name, [task.name for task in known])
    profile, subtasks = browsing.profile(session(), name)
    return collection("task.html", Search(task=name), name=name, profile=profile, subtasks=subtasks)


@blueprint.get("/bases")
def base_list() -> Response:
    """Every base model."""
    page = browsing.bases(session(), viewer(), asked(DESCRIBED))
    return rendered("bases.html", bases=page.items, following=page.next)


@blueprint.get("/bases/<fingerprint>")
def base_page(fingerprint: str) -> Response:
    """A base model and all that fits it."""
    found = browsing.base(session(), viewer(), fingerprint)
    same_name = browsing.named(session(), viewer(), found.base.name)
    others = [each for each in same_name if each.fingerprint not in {None, fingerprint}]
    return collection("base.html", Search(base=fingerprint), base=found.base, others=others)


@blueprint.get("/orgs")
def organization_list() -> Response:
    """Every organization that has adapters here."""
    page = browsing.organizations(session(), viewer(), asked())
    return rendered("organizations.html", organizations=page.items, following=page.next)


@blueprint.get("/compositions")
def composition_list() -> Response:
    """Adapters that are made of others, each as a tree."""
    found = searching.search(session(), viewer(), Search(composition="yes", limit=_COMPOSITIONS))
    return rendered(
        "compositions.html",
        page=found,
        trees=compositions.trees(session(), viewer(), [each.reference for each in found.items]),
        everything=listing.url(Search(composition="yes")),
    )


@blueprint.get("/orgs/<name>")
def organization_page(name: str) -> Response:
    """An organization and its adapters."""
    found = organization.show(session(), viewer(), name)
    return collection("organization.html", Search(org=name), organization=found)
