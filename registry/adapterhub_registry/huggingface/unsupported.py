"""What is not for adapters says so: with 501 and the reason, or as a repository that is not there."""

from flask import Response

from adapterhub_registry import errors
from adapterhub_registry.huggingface import protocol

blueprint = protocol.new_blueprint("unsupported")

_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]
_MODELS_ONLY = "This registry keeps adapters only: there are no {} here."
_NOT_OF_A_MODEL = {
    "discussions": "There are no discussions and no pull requests here: push to a branch.",
    "super-squash": "History is not rewritten here: a version never changes.",
    "lfs-files": "Large files go with the last commit that has them.",
    "user-access-request": "Access is given by membership of the organization.",
    "user-access-report": "Access is given by membership of the organization.",
    "notebook": "Notebooks are not rendered here.",
    "scan": "Files are checked when they are pushed.",
}
_NOT_OF_A_HUB = {
    "collections": "There are no collections here: publish a composition.",
    "settings": "There are no webhooks and no account settings here.",
    "discussions": _NOT_OF_A_MODEL["discussions"],
    "jobs": "Nothing runs here.",
    "papers": "There are no papers here.",
}


@blueprint.route("/api/<any(datasets, spaces, kernels, buckets):kind>", methods=_METHODS)
@blueprint.route(
    "/api/<any(datasets, spaces, kernels, buckets):kind>/<path:rest>", methods=_METHODS
)
@blueprint.route("/<any(datasets, spaces, kernels, buckets):kind>/<path:rest>", methods=_METHODS)
def other_kind(kind: str, rest: str = "") -> Response:
    """Datasets, spaces and the like."""
    del rest
    raise errors.NotOffered(_MODELS_ONLY.format(kind))


@blueprint.route(
    "/api/<any(collections, settings, discussions, jobs, papers):kind>", methods=_METHODS
)
@blueprint.route(
    "/api/<any(collections, settings, discussions, jobs, papers):kind>/<path:rest>",
    methods=_METHODS,
)
def other_part(kind: str, rest: str = "") -> Response:
    """Parts of the hub that this registry does not have."""
    del rest
    raise errors.NotOffered(_NOT_OF_A_HUB[kind])


@blueprint.get("/api/models/<namespace>/<name>/xet-<direction>-token/<path:revision>")
def xet_token(namespace: str, name: str, direction: str, revision: str) -> Response:
    """Xet is not offered: files go inline, or as LFS."""
    del direction, revision
    protocol.find(namespace, name)
    raise errors.RouteNotFound("This registry has no Xet storage; set HF_HUB_DISABLE_XET=1.")


@blueprint.route("/api/models/<path:rest>", methods=_METHODS)
def other_of_a_model(rest: str) -> Response:
    """Whatever else is asked about a model; a name without a namespace is no repository here."""
    parts = rest.split("/")
    if len(parts) >= len(("namespace", "name", "part")):
        reason = _NOT_OF_A_MODEL.get(parts[2])
        if reason is not None:
            protocol.find(parts[0], parts[1])
            raise errors.NotOffered(reason)
    raise errors.RepositoryNotFound("/".join(parts[:1]))
