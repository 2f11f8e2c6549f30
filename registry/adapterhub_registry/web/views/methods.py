"""Methods, drawn and cited, with the adapters that use them."""

from difflib import get_close_matches

import msgspec
from flask import Response
from markupsafe import Markup

from adapterhub_registry.errors import NotFound
from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import browsing
from adapterhub_registry.service.search import Search
from adapterhub_registry.web import methods
from adapterhub_registry.web.charts.block import block
from adapterhub_registry.web.methods import Method
from adapterhub_registry.web.page import blueprint, rendered
from adapterhub_registry.web.shown.collection import collection

_NEAREST = 3


class MethodNotFound(NotFound):
    """No method has this name, and no adapter that the viewer may read."""

    code = "method_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no method named {name!r}.")
        known = [each.name for each in methods.METHODS]
        self.nearest = tuple(get_close_matches(name, known, n=_NEAREST, cutoff=0.5))


class Shown(msgspec.Struct, frozen=True):
    """A method with its drawing, and how many adapters here use it."""

    method: Method
    drawing: Markup
    adapters: int


@blueprint.get("/methods")
def method_list() -> Response:
    """Every method that has a drawing, and the others that adapters here use."""
    counts = browsing.methods(session(), viewer())
    known = {name for each in methods.METHODS for name in (each.name, *each.kin)}
    shown = [
        Shown(each, _drawn(each), sum(counts.get(name, 0) for name in (each.name, *each.kin)))
        for each in methods.METHODS
    ]
    others = {name: count for name, count in counts.items() if name not in known}
    return rendered("methods.html", methods=shown, others=others)


@blueprint.get("/methods/<path:name>")
def method_page(name: str) -> Response:
    """A method, and the adapters that use it."""
    found = methods.method(name)
    if found is None and name not in browsing.methods(session(), viewer()):
        raise MethodNotFound(name)
    drawing = _drawn(found) if found else None
    return collection("method.html", Search(method=name), name=name, method=found, drawing=drawing)


def _drawn(found: Method) -> Markup:
    return block(found.places, f"Where {found.title} acts in a block of a transformer")
