"""Bytes out: manifests and blobs, with ranges, ETags and redirects to the store."""

import re
from datetime import timedelta

import msgspec
from flask import Blueprint, Response
from flask import request as incoming
from sqlalchemy.exc import InternalError, OperationalError

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import PUBLIC, answers, api
from adapterhub_registry.models import Blob
from adapterhub_registry.request import change, now, runtime, session, viewer
from adapterhub_registry.service import answering, catalogue, download, lifecycle
from adapterhub_registry.storage import BlobMissing
from adapterhub_registry.telemetry import log

blueprint = Blueprint("blobs", __name__)

_FOREVER = "max-age=31536000, immutable"
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_LINK_LIFETIME = timedelta(hours=1)


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
    facts = answering.facts(session(), viewer(), digest, with_manifest=not held)
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
        link = runtime().store.download_url(file.sha256, _LINK_LIFETIME)
        if link is None:
            break
        urls[file.sha256] = link
    counted = query.count and is_open
    if counted:
        _counted(row.id)
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
    row = download.find_blob(session(), viewer(), sha256)
    if incoming.if_none_match.contains(sha256):
        return _headed(Response(status=304), row)
    if incoming.method == "GET" and query.version is not None:
        _count(query.version, sha256)
    if incoming.method == "GET":
        link = runtime().store.download_url(sha256, _LINK_LIFETIME)
        if link is not None:
            return Response(status=302, headers={"Location": link, "Cache-Control": "no-store"})
    span = _span(row.size_bytes, sha256)
    return _headed(_streamed(row, span), row)


def _streamed(row: Blob, span: tuple[int, int] | None) -> Response:
    start, length = span or (0, row.size_bytes)
    response = Response(status=200 if span is None else 206)
    if incoming.method == "GET":
        try:
            response.response = runtime().store.read(row.sha256, start, length)
        except BlobMissing as error:
            raise errors.StoreFailed(f"The store has lost the bytes of {row.sha256!r}.") from error
    response.headers["Content-Length"] = str(length)
    if span is not None:
        response.headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{row.size_bytes}"
    return response


def _span(size_bytes: int, sha256: str) -> tuple[int, int] | None:
    """The range that is asked for, as start and length; None for the whole, also where it makes no sense (RFC 9110)."""
    match = _RANGE.fullmatch(incoming.headers.get("Range", ""))
    stale = incoming.if_range.etag not in {None, sha256} or incoming.if_range.date is not None
    if incoming.method != "GET" or match is None or stale or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size_bytes - int(last))
    stop = min(int(last) + 1, size_bytes) if first and last else size_bytes
    if start >= size_bytes:
        raise errors.RangeNotSatisfiable(size_bytes)
    return start, stop - start


def _headed(response: Response, row: Blob) -> Response:
    _cache(response, row.sha256, private=True)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Content-Type"] = "application/octet-stream"
    response.headers["Content-Disposition"] = "attachment"
    return response


def _cache(response: Response, etag: str, *, private: bool) -> None:
    response.set_etag(etag)
    response.headers["Cache-Control"] = f"{'private' if private else 'public'}, {_FOREVER}"
    response.headers["Vary"] = "Authorization"


def _count(digest: str, sha256: str) -> None:
    """Count a download where this request begins one; a pull never fails for it."""
    if not incoming.headers.get("Range", "bytes=0-").startswith("bytes=0-"):
        return
    version_id = download.counted_version(session(), viewer(), digest, sha256)
    if version_id is not None:
        _counted(version_id)


def _counted(version_id: int) -> None:
    try:
        with change() as writing:
            download.count(writing, version_id, now())
    except (OperationalError, InternalError) as error:  # as where the database only reads
        log.warning("download not counted", exc_info=error)
