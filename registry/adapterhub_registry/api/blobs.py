"""Bytes out: manifests and blobs."""

import msgspec
from flask import Blueprint, Response
from flask import request as incoming

from adapterhub_client import wire
from adapterhub_registry import errors, sending
from adapterhub_registry.api.document import PUBLIC, answers, api
from adapterhub_registry.request import connection, runtime, session, viewer
from adapterhub_registry.service import answering, catalogue, download, lifecycle

blueprint = Blueprint("blobs", __name__)


class Counted(msgspec.Struct, frozen=True):
    """For which version a blob is pulled."""

    version: str | None = None
    """the digest of a version: its downloads are counted, once for each pull"""


class Pulled(msgspec.Struct, frozen=True):
    """Whether a version is pulled now, and not only looked at."""

    count: bool = False


@blueprint.get("/manifests/<digest>")
@api.validate(
    resp=answers(wire.Manifest, errors.ManifestNotFound, errors.Deleted),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="show_manifest",
)
def manifest(digest: str) -> Response:
    """The canonical bytes of a manifest, the very ones its digest is taken over."""
    # The digest is the ETag, so whether a client has it is known before its bytes are read.
    held = incoming.if_none_match.contains_weak(digest)
    facts = answering.facts(connection(), viewer(), digest, with_manifest=not held)
    if facts is None:
        catalogue.refuse_digest(session(), viewer(), digest)
    response = Response(facts.manifest, content_type="application/json")
    _cache(response, digest, private=facts.private)
    response.headers.extend(lifecycle.headers(facts))
    if held:
        response.status_code = 304
    return response


@blueprint.get("/manifests/<digest>/links")
@api.validate(
    resp=answers(wire.Links, errors.ManifestNotFound),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="list_links",
)
def links(digest: str, query: Pulled) -> Response:
    """Where all blobs of a version are read without passing through the registry, in one answer."""
    row = catalogue.version_by_digest(session(), viewer(), digest)
    urls: dict[str, str] = {}
    is_open = download.are_open(session(), viewer(), row.id)
    files = msgspec.json.decode(row.manifest, type=wire.Manifest).files
    for file in files if is_open else []:
        link = runtime().store.download_url(file.sha256, sending.LINK_LIFETIME)
        if link is None:
            break
        urls[file.sha256] = link
    counted = query.count and is_open
    if counted:
        sending.count(row.id)
    content = msgspec.json.encode(wire.Links(urls=urls, counted=counted))
    return Response(content, content_type="application/json", headers={"Cache-Control": "no-store"})


@blueprint.get("/blobs/<sha256>")
@api.validate(
    resp=answers(
        None,
        errors.BlobNotFound,
        errors.RangeNotSatisfiable,
        errors.StoreFailed,
        status=200,
        also=206,
    ),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="get_blob",
)
def blob(sha256: str, query: Counted) -> Response:
    """The bytes of a file; one range at a time. Where the store serves clients itself, a redirect to it."""
    return sending.blob(sha256, query.version)


def _cache(response: Response, etag: str, *, private: bool) -> None:
    response.set_etag(etag)
    response.headers["Cache-Control"] = f"{'private' if private else 'public'}, {sending.FOREVER}"
    response.headers["Vary"] = "Authorization"
