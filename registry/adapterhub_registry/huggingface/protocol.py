"""What all routes of the protocol share: blueprints, answers, errors by header, and the repository that is meant."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from flask import Blueprint, Response
from flask import request as incoming
from werkzeug.exceptions import HTTPException

from adapterhub_registry import errors, telemetry
from adapterhub_registry.request import public_url, runtime, session, viewer
from adapterhub_registry.service import pickled, repository
from adapterhub_registry.service.repository import Moved, Snapshot, View
from adapterhub_registry.storage import StoreUnreachable

Body = TypeVar("Body")

_CODES: Mapping[type[errors.RegistryError], str] = {
    errors.RepositoryNotFound: "RepoNotFound",
    errors.RevisionNotFound: "RevisionNotFound",
    errors.EntryNotFound: "EntryNotFound",
    errors.Gated: "GatedRepo",
    errors.NotOffered: "NotImplemented",
}
_PICKLES_ONLY = re.compile(r"adapters/[0-9]")
"""a client that does not look for safetensors by itself"""
_WRONG_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105  # clients look for these words


def new_blueprint(name: str) -> Blueprint:
    """A blueprint whose errors are what these clients read."""
    blueprint = Blueprint(f"huggingface_{name}", f"{__package__}.{name}")
    blueprint.register_error_handler(errors.RegistryError, refused)
    blueprint.register_error_handler(HTTPException, _routed)
    blueprint.register_error_handler(StoreUnreachable, _without_store)
    blueprint.register_error_handler(Moved, _moved)
    return blueprint


def answer(content: Any, status: int = 200) -> Response:  # noqa: ANN401  # any JSON
    """JSON."""
    return Response(msgspec.json.encode(content), status, content_type="application/json")


def refused(error: errors.RegistryError) -> Response:
    """A refusal: for clients the headers count, HEAD has nothing else."""
    message = _WRONG_TOKEN if isinstance(error, errors.WrongToken) else error.detail
    content: dict[str, Any] = {"error": message}
    if error.reasons:
        content["errors"] = [{"message": reason} for reason in error.reasons]
    response = answer(content, error.status)
    response.headers["X-Error-Message"] = header_text(message)
    code = _CODES.get(type(error))
    if code is not None:
        response.headers["X-Error-Code"] = code
    if isinstance(error, errors.EntryNotFound):
        response.headers["X-Repo-Commit"] = error.commit
    response.headers.update(error.headers)
    telemetry.refuse(error.code)
    return response


def header_text(text: str) -> str:
    """A text that a header can hold."""
    return " ".join(text.encode("ascii", "replace").decode().split())[:2000]


def address() -> str:
    """This registry as the client addresses it, without a slash at its end."""
    return public_url()


def find(namespace: str, name: str) -> View:
    """The repository that an address names."""
    return repository.find(session(), viewer(), f"{namespace}/{name}")


def find_snapshot(namespace: str, name: str, revision: str) -> tuple[View, Snapshot]:
    """The repository and the commit that an address names."""
    view = find(namespace, name)
    snapshot = repository.snapshot(session(), view, revision)
    if _PICKLES_ONLY.match(incoming.headers.get("User-Agent", "")):
        snapshot = pickled.with_twins(runtime().store, snapshot)
    return view, snapshot


def warn(response: Response, snapshot: Snapshot) -> Response:
    """Tell who uses a version that was withdrawn or is advised against."""
    version = snapshot.version
    if version is not None and version.status != "active":
        kind = "yank" if version.status == "yanked" else "deprecated"
        name = version.variant.adapter.full_name
        text = f"{kind}; version {version.number} of {name} is {version.status}: {version.reason}"
        response.headers["X-HF-Warning"] = header_text(text)
    return response


def converted(sent: object, model: type[Body]) -> Body:
    """What was sent, as a struct; BadRequest where it does not fit."""
    try:
        return msgspec.convert(sent, model)
    except msgspec.ValidationError as error:
        raise errors.BadRequest(f"The request does not fit: {error}.") from error


def body(model: type[Body]) -> Body:
    """The JSON body of the request, whatever it says it is, as a struct."""
    try:
        return msgspec.json.decode(incoming.get_data(), type=model)
    except msgspec.DecodeError as error:
        raise errors.BadRequest(f"The request does not fit: {error}.") from error


def has_body() -> bool:
    """Whether something was sent."""
    return bool(incoming.get_data())


def link_next(response: Response, *, cursor: str) -> None:
    """Say where the next page is: an absolute address with all that was asked, clients request it as it is."""
    asked = [(key, value) for key, value in incoming.args.items(multi=True) if key != "cursor"]
    query = urlencode([*asked, ("cursor", cursor)])
    path = quote(incoming.path, safe="/")
    response.headers["Link"] = f'<{address()}{path}?{query}>; rel="next"'


def flag(value: str | None) -> bool:
    """A boolean as any client writes it."""
    return (value or "").strip().lower() in {"true", "1", "yes"}


def _routed(error: HTTPException) -> Response:
    if error.code == errors.TooLarge.status:
        return refused(errors.TooLarge("The body is larger than this registry takes."))
    refusal = errors.BadRequest(error.description or "The request cannot be read.")
    response = refused(refusal)
    response.status_code = error.code or refusal.status
    return response


def _without_store(error: StoreUnreachable) -> Response:
    return refused(errors.StoreFailed(str(error)))


def _moved(error: Moved) -> Response:
    """The same address under the new id; relative, as old clients want it."""
    old = "/".join(str((incoming.view_args or {})[part]) for part in ("namespace", "name"))
    path = incoming.path.replace(old, error.repo_id, 1)
    query = incoming.query_string.decode("ascii", "replace")
    location = quote(path, safe="/") + (f"?{query}" if query else "")
    return Response(status=307, headers={"Location": location})
