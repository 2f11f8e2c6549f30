"""The OpenAPI document, generated from the views by spectree, and its page for people.

spectree is given three things of our own: a plugin that refuses what does not fit as a problem and never buffers a
stream, names without hashes, and a last pass over the document that says `application/problem+json` where spectree
writes `application/json`.
"""

from collections import defaultdict
from inspect import cleandoc
from typing import Any, cast

import msgspec
from flask import Flask, Response, current_app, render_template, request
from spectree import Response as Answers
from spectree import SpecTree
from spectree.model_adapter import get_msgspec_model_adapter
from spectree.models import SecureType, SecurityScheme, SecuritySchemeData
from spectree.plugins.base import Context
from spectree.plugins.flask_plugin import FlaskPlugin
from spectree.plugins.werkzeug_utils import flask_response_unpack
from spectree.utils import get_model_key

from adapterhub_client.wire import Problem
from adapterhub_registry import errors
from adapterhub_registry.api.problem import MEDIA_TYPE

ADDRESS = "/api/v1/openapi.json"
_EXTENSION = "openapi"
PUBLIC: list[dict[str, list[str]]] = [{}, {"token": []}]
"""security of what everyone may ask; a token shows more"""
TOKEN: list[dict[str, list[str]]] = [{"token": []}]
"""security of what needs a token"""
BODY = (errors.MalformedBody, errors.TooLarge, errors.UnsupportedMediaType)
"""what every endpoint with a JSON body may refuse"""


class _Plugin(FlaskPlugin):
    """Flask with our errors: bodies must be JSON, structs go out as they are, streams are left alone."""

    def request_validation(self, request, query, json, form, headers, cookies):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0913, PLR0917
        """Read query and body into their structs, or refuse."""
        del form, headers, cookies
        asked = msgspec.convert(request.args.to_dict(), query, strict=False) if query else None
        body = _body(json) if json else None
        request.context = Context(asked, body, None, None, None)

    def validate_response(self, resp, resp_model, skip_validation, force_resp_serialize):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        """Encode a struct; types were checked when the code was."""
        del resp_model, skip_validation, force_resp_serialize
        payload, status, headers = flask_response_unpack(resp)
        if isinstance(payload, Response):
            return payload, None
        content = msgspec.json.encode(payload)
        return Response(content, status, headers, content_type="application/json"), None


def _body(model: type) -> object:
    if request.mimetype != "application/json":
        raise errors.UnsupportedMediaType(request.mimetype)
    try:
        return msgspec.json.decode(request.get_data(), type=model, strict=False)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.MalformedBody(str(error) or "it is nested too deep") from error


def _refuse(_request: object, _response: object, fault: Exception | None, *_rest: object) -> None:
    if fault is not None:
        raise errors.InvalidRequest(f"The request does not fit: {fault}.") from fault


def _ignore(*_arguments: object) -> None:
    """Responses are not validated again."""


api = SpecTree(
    backend=_Plugin,
    mode="strict",
    model_adapter=get_msgspec_model_adapter(),
    before=_refuse,
    after=_ignore,
    validation_error_status=errors.InvalidRequest.status,
    validation_error_model=Problem,
    naming_strategy=lambda model: get_model_key(model).rpartition(".")[0],
    nested_naming_strategy=lambda _parent, child: child,
    title="AdapterHub registry",
    description="Publish, find and pull transformer adapters.",
    version="1",
    security_schemes=[
        SecurityScheme(
            name="token",
            data=SecuritySchemeData(
                type=SecureType.HTTP, scheme="bearer", bearer_format="ahub_..."
            ),
        )
    ],
)


def answers(
    model: object, *refusals: type[errors.RegistryError], status: int = 200, also: int | None = None
) -> Answers:
    """What an endpoint answers: a struct, and problems; errors of one status share one entry with all their codes."""
    always: tuple[type[errors.RegistryError], ...] = (errors.WrongToken, errors.InvalidRequest)
    codes: dict[int, list[str]] = defaultdict(list)
    for refusal in (*always, *refusals):
        codes[refusal.status].append(refusal.code)
    told: dict[str, Any] = {f"HTTP_{each}": model for each in (status, also) if each is not None}
    for refused, names in codes.items():
        listed = ", ".join(f"`{name}`" for name in sorted(set(names)))
        told[f"HTTP_{refused}"] = (Problem, f"A problem with the code {listed}")
    return Answers(**told)


def generate(app: Flask) -> dict[str, Any]:
    """The document of this app."""
    with app.app_context():
        document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(api.spec))
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if int(status) >= errors.BadRequest.status and "application/json" in content:
                    response["content"] = {MEDIA_TYPE: content["application/json"]}
    _describe_bytes(document["paths"])
    for schema in document["components"]["schemas"].values():
        if "description" in schema:  # a docstring, which not every msgspec frees of its indentation
            schema["description"] = cleandoc(schema["description"])
    document["paths"] = dict(sorted(document["paths"].items()))
    document["components"]["schemas"] = dict(sorted(document["components"]["schemas"].items()))
    return document


def register(app: Flask) -> None:
    """Serve the document and its page."""
    app.add_url_rule(ADDRESS, "openapi_document", _document)
    app.add_url_rule("/docs/api", "openapi_page", _page)
    app.add_url_rule("/docs/api/<tag>", "openapi_part", _part)


def _describe_bytes(paths: dict[str, Any]) -> None:
    """Bodies that are bytes: spectree knows only structs."""
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    put = paths["/api/v1/uploads/{upload_id}/blobs/{sha256}"]["put"]
    put["requestBody"] = {"required": True, "content": binary}
    blob = paths["/api/v1/blobs/{sha256}"]["get"]["responses"]
    for status in ("200", "206"):
        blob[status]["content"] = binary
    blob["302"] = {"description": "The store serves clients itself; follow without the token"}
    unchanged = {"description": "What `If-None-Match` names is still the same"}
    for path in ("/api/v1/blobs/{sha256}", "/api/v1/manifests/{digest}"):
        paths[path]["get"]["responses"]["304"] = unchanged


def _document() -> Response:
    response = Response(msgspec.json.encode(_kept()), content_type="application/json")
    response.add_etag()
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


def _page() -> str:
    """All operations at a glance, by what they are about."""
    document = _kept()
    return render_template(
        "api/index.html", document=document, operations=_operations(document), address=ADDRESS
    )


def _part(tag: str) -> str:
    """The operations about one thing, in full."""
    document = _kept()
    operations = _operations(document)
    if tag not in operations:
        raise errors.RouteNotFound(f"There is nothing at {request.path!r}.")
    return render_template(
        "api/part.html", document=document, operations=operations, tag=tag, address=ADDRESS
    )


def _kept() -> dict[str, Any]:
    """The document of this app, made once."""
    extensions = current_app.extensions
    if _EXTENSION not in extensions:
        extensions[_EXTENSION] = generate(current_app)
    return cast("dict[str, Any]", extensions[_EXTENSION])


def _operations(document: dict[str, Any]) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    """Path, method and description of each operation, by their tag."""
    found: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = operation.get("tags", ["other"])[0]
            found.setdefault(tag, []).append((path, method.upper(), operation))
    return dict(sorted(found.items()))
