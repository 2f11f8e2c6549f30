"""Blobs as answers: with ranges, ETags and redirects to the store. For the API and the pages alike."""

import re
from datetime import timedelta

from flask import Response
from flask import request as incoming
from sqlalchemy.exc import InternalError, OperationalError

from adapterhub_registry import errors
from adapterhub_registry.models import Blob
from adapterhub_registry.request import change, now, runtime, session, viewer
from adapterhub_registry.service import download
from adapterhub_registry.storage import BlobMissing
from adapterhub_registry.telemetry import log

FOREVER = "max-age=31536000, immutable"
LINK_LIFETIME = timedelta(hours=1)
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def blob(sha256: str, version: str | None) -> Response:
    """The bytes of a file, one range at a time, or a redirect to a store that serves clients itself.

    `version` is the digest of the version it is pulled for, whose downloads are counted.
    """
    row = download.find_blob(session(), viewer(), sha256)
    if incoming.if_none_match.contains(sha256):
        return _headed(Response(status=304), row)
    if incoming.method == "GET" and version is not None:
        _count_first(version, sha256)
    if incoming.method == "GET":
        link = runtime().store.download_url(sha256, LINK_LIFETIME)
        if link is not None:
            return Response(status=302, headers={"Location": link, "Cache-Control": "no-store"})
    span = _span(row.size_bytes, sha256)
    return _headed(_streamed(row, span), row)


def count(version_id: int) -> None:
    """Count a download of a version; a pull never fails for it."""
    try:
        with change() as writing:
            download.count(writing, version_id, now())
    except (OperationalError, InternalError) as error:  # as where the database only reads
        log.warning("download not counted", exc_info=error)


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
    response.set_etag(row.sha256)
    response.headers["Cache-Control"] = f"private, {FOREVER}"
    response.headers["Vary"] = "Authorization, Cookie"
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Content-Type"] = "application/octet-stream"
    response.headers["Content-Disposition"] = "attachment"
    return response


def _count_first(digest: str, sha256: str) -> None:
    """Count where this request begins a download."""
    if not incoming.headers.get("Range", "bytes=0-").startswith("bytes=0-"):
        return
    version_id = download.counted_version(session(), viewer(), digest, sha256)
    if version_id is not None:
        count(version_id)
