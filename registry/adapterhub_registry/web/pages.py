"""The pages: each reads what the services know and renders one template."""

from difflib import get_close_matches

from flask import Blueprint, Response, make_response, render_template, request

from adapterhub_client import names
from adapterhub_registry.errors import NotFound, VersionNotFound
from adapterhub_registry.request import public_url, runtime, session, viewer
from adapterhub_registry.service import browsing, organization
from adapterhub_registry.service import search as searching
from adapterhub_registry.service.places import Page
from adapterhub_registry.service.resolution import parsed
from adapterhub_registry.service.search import Search
from adapterhub_registry.web import adapter as adapters
from adapterhub_registry.web import assets, facets, listing, recorded, snippets

blueprint = Blueprint("web", __name__, template_folder="templates")

_NEWEST = 8
_BROWSED = 12
_NEAREST = 5
_LISTED = 200


class TaskNotFound(NotFound):
    """No adapter that the viewer may read has this task."""

    code = "task_not_found"

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"There is no task named {name!r}.")
        self.nearest = tuple(get_close_matches(name, known, n=_NEAREST, cutoff=0.5))


@blueprint.get("/")
def start() -> Response:
    """What is here, and what is new."""
    newest = searching.search(session(), viewer(), Search(limit=_NEWEST))
    return _page(
        "start.html",
        stats=browsing.stats(session(), viewer()),
        newest=newest.items,
        tasks=browsing.tasks(session(), viewer(), Page(limit=_BROWSED)).items,
        bases=browsing.bases(session(), viewer(), Page(limit=_BROWSED)).items,
        hub=public_url(),
    )


@blueprint.get("/adapters")
def adapter_list() -> Response:
    """Adapters that fit a search; the address is the whole state."""
    search = listing.asked(request.args)
    query, mistake = listing.understood(search)
    looked = searching.look(session(), viewer(), query)
    page = searching.page(session(), looked, search)
    counted = facets.facets(session(), search, looked)
    chosen = listing.active(search, counted)
    return _page(
        "adapters.html",
        search=search,
        page=page,
        mistake=mistake,
        chosen=chosen,
        relaxed=[] if page.total else listing.relaxed(session(), viewer(), search, chosen),
        facets=counted,
        sorts=listing.sorts(search),
        following=listing.url(search, after=page.next) if page.next else None,
        first=listing.url(search) if search.after else None,
    )


@blueprint.get("/adapters/<task>/<name_at_org>")
def adapter_page(task: str, name_at_org: str) -> Response:
    """One adapter: the path is a reference, so a version may follow, as in `nli/multinli@ukp:3`."""
    reference = parsed(f"{task}/{name_at_org}")
    among = adapters.Among(request.args.get("variant", ""), request.args.get("base", ""))
    try:
        view = adapters.view(runtime(), session(), viewer(), reference, among)
    except VersionNotFound:
        without_weights = recorded.view(session(), viewer(), reference)
        if without_weights is None or without_weights.summary.versions:
            raise
        return _page("recorded.html", view=without_weights)
    return _page(
        "adapter.html",
        view=view,
        pinned=reference.version,
        snippets=snippets.snippets(snippets.subject(public_url(), view)),
        tools=snippets.TOOLS,
        pins=snippets.PINS,
        hub=public_url(),
    )


@blueprint.get("/tasks")
def task_list() -> Response:
    """Every task."""
    page = browsing.tasks(session(), viewer(), _asked())
    count = browsing.stats(session(), viewer()).tasks
    return _page("tasks.html", tasks=page.items, count=count, following=page.next)


@blueprint.get("/tasks/<name>")
def task_page(name: str) -> Response:
    """The adapters of one task."""
    if not browsing.has_task(session(), viewer(), name):
        known = browsing.tasks(session(), viewer(), Page(limit=_LISTED)).items
        raise TaskNotFound(name, [task.name for task in known])
    return _collection("task.html", Search(task=name), name=name)


@blueprint.get("/bases")
def base_list() -> Response:
    """Every base model."""
    page = browsing.bases(session(), viewer(), _asked())
    return _page("bases.html", bases=page.items, following=page.next)


@blueprint.get("/bases/<fingerprint>")
def base_page(fingerprint: str) -> Response:
    """A base model and all that fits it."""
    found = browsing.base(session(), viewer(), fingerprint)
    return _collection("base.html", Search(base=fingerprint), base=found.base)


@blueprint.get("/orgs/<name>")
def organization_page(name: str) -> Response:
    """An organization and its adapters."""
    found = organization.show(session(), viewer(), name)
    return _collection("organization.html", Search(org=name), organization=found)


@blueprint.get("/about")
def about() -> Response:
    """What this is."""
    return _page("about.html", stats=browsing.stats(session(), viewer()), hub=public_url())


@blueprint.get("/favicon.ico")
def icon() -> Response:
    """Where browsers look for a page that names no icon."""
    return assets.asset("mark.svg")


def _asked() -> Page:
    return Page(limit=_LISTED, after=request.args.get("after") or None)


def _collection(template: str, search: Search, **shown: object) -> Response:
    """A page about what a list of adapters has in common."""
    looked = searching.look(session(), viewer(), search.query)
    page = searching.page(session(), looked, search)
    everything = listing.url(search)
    counted = facets.facets(session(), search, looked)
    return _page(template, page=page, search=search, everything=everything, facets=counted, **shown)


def _page(template: str, **shown: object) -> Response:
    """A rendered page that a browser may keep, and has to ask whether it is still the same."""
    response = make_response(render_template(template, **shown))
    response.headers["Cache-Control"] = "private, no-cache"
    response.vary.update(["Accept", "Authorization", "Cookie"])
    response.add_etag()
    response.make_conditional(request)
    return response


def reference_path(reference: str, version: object = None) -> str:
    """The page of an adapter, or of one version of it."""
    parts = names.parse(reference).at(None if version is None else str(version))
    return f"/adapters/{parts}"
