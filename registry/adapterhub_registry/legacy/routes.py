"""The addresses that clients of old ask, below `/dist`: point them at `<this hub>/dist/v2/`."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

from flask import Blueprint, Response, request
from sqlalchemy import select

from adapterhub_registry.errors import BaseNotFound
from adapterhub_registry.legacy import archives, entries, index
from adapterhub_registry.legacy.index import Edition
from adapterhub_registry.models import Version
from adapterhub_registry.request import change, now, runtime, session, viewer
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import catalogue, download
from adapterhub_registry.storage.store import CHUNK_BYTES

blueprint = Blueprint("legacy", __name__, url_prefix="/dist")


@blueprint.get("/v2/index/<path:model_name>.json")
def show_index(model_name: str) -> Response:
    """All entries for a base model."""
    return _json(index.index(_items(model_name, 2)))


@blueprint.get("/index_<any(text_task, text_lang):kind>/<path:model_name>.json")
def show_first_index(kind: str, model_name: str) -> Response:
    """The entries of one type for a base model, as the first edition had them."""
    found = [item for item in _items(model_name, 1) if item.kind == kind]
    if not found:
        raise BaseNotFound(model_name)
    return _json(index.index(found))


@blueprint.get("/v2/adapters/<organization>/<file>.json")
def show_entry(organization: str, file: str) -> Response:
    """One entry: its versions, where each is, and what it hashes to."""
    return _json(_document(organization, file, 2))


@blueprint.get("/adapters/<organization>/<file>.json")
def show_first_entry(organization: str, file: str) -> Response:
    """One entry, as the first edition had it."""
    return _json(_document(organization, file, 1))


@blueprint.get("/v2/all.json")
def show_all() -> Response:
    """What there is, in one list."""
    return _json([item.info for item in index.items(session(), viewer(), 2)])


@blueprint.get("/v2/architectures.json")
def show_architectures() -> Response:
    """The named configs."""
    return _json(index.architectures(session(), 2))


@blueprint.get("/architectures.json")
def show_first_architectures() -> Response:
    """The named configs, as the first edition had them."""
    return _json(index.architectures(session(), 1))


@blueprint.get("/v2/files/<sha256>.zip")
def show_archive(sha256: str) -> Response:
    """The zip of a version, by the hex digits of its digest."""
    row = catalogue.version_by_digest(session(), viewer(), f"sha256:{sha256}")
    sums = archives.sums(runtime(), row.digest)
    is_read = request.method == "GET" and sums.sha256 not in request.if_none_match
    response = Response(
        _made(runtime(), row.digest) if is_read else b"", content_type="application/zip"
    )
    response.content_length = sums.size_bytes
    response.set_etag(sums.sha256)
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    response.vary.update(["Authorization", "Cookie"])
    if request.method == "GET":
        response.make_conditional(request, accept_ranges=True, complete_length=sums.size_bytes)
    if response.status_code == 200 and is_read:  # noqa: PLR2004 - a part of it counts no download
        _count(row)
    return response


def _made(runtime: Runtime, digest: str) -> Iterator[bytes]:
    with tempfile.TemporaryFile() as target:
        archives.write(runtime, digest, target)
        target.seek(0)
        yield from iter(partial(target.read, CHUNK_BYTES), b"")


def _count(row: Version) -> None:
    with change() as writing:
        version_id = writing.scalars(select(Version.id).filter_by(digest=row.digest)).one()
        download.count(writing, version_id, now())


def _items(model_name: str, edition: Edition) -> list[index.Item]:
    found = list(index.items(session(), viewer(), edition, model_name))
    if not found:
        raise BaseNotFound(model_name)
    return found


def _document(organization: str, file: str, edition: Edition) -> dict[str, Any]:
    hub = (runtime().settings.public_url or request.url_root).rstrip("/")
    asked = entries.Asked(organization, file, edition, f"{hub}/dist/v2/files")
    return entries.document(runtime(), session(), viewer(), asked)


def _json(content: Any) -> Response:  # noqa: ANN401 - any JSON
    text = json.dumps(content, sort_keys=isinstance(content, dict))
    response = Response(text, content_type="application/json")
    response.headers["Cache-Control"] = "private, no-cache"
    response.vary.update(["Authorization", "Cookie"])
    response.set_etag(hashlib.sha256(text.encode()).hexdigest())
    response.make_conditional(request)
    return response
