"""Files: `HEAD` and `GET` of `/{namespace}/{name}/resolve/{revision}/{path}`."""

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import quote

from flask import Response
from flask import request as incoming
from sqlalchemy.exc import OperationalError

from adapterhub_registry import errors
from adapterhub_registry.huggingface import protocol
from adapterhub_registry.request import change, now, runtime, session, viewer
from adapterhub_registry.service import download, git_object, pickled, standing
from adapterhub_registry.service.pickled import Twin
from adapterhub_registry.service.repository import Entry, Snapshot
from adapterhub_registry.service.rules import WEIGHTS
from adapterhub_registry.storage import BlobMissing, BlobStore
from adapterhub_registry.storage.store import CHUNK_BYTES
from adapterhub_registry.telemetry import log

blueprint = protocol.new_blueprint("download")

_IN_MEMORY_BYTES = 1024 * 1024
_LINK_LIFETIME = timedelta(hours=1)


@blueprint.get("/<namespace>/<name>/resolve/<revision>/<path:path>")
def resolve(namespace: str, name: str, revision: str, path: str) -> Response:
    """The bytes of a file; from a store that serves clients itself, a redirect to it."""
    view, snapshot = protocol.find_snapshot(namespace, name, revision)
    standing.require_files(session(), viewer(), view)
    entry = snapshot.tree.get(path)
    if entry is None:
        raise errors.EntryNotFound(path, snapshot.oid)
    if incoming.method == "GET":
        _count(snapshot, path)
    large = git_object.is_large(path, entry.size_bytes)
    etag = entry.sha256 if large else _git_oid(entry)
    link = _link(entry) if large and incoming.method == "GET" else None
    response = _streamed(entry) if link is None else Response(status=302)
    if link is not None:
        response.headers["Location"] = link
        response.headers["Cache-Control"] = "no-store"
    if large:
        response.headers["X-Linked-Etag"] = f'"{etag}"'
        response.headers["X-Linked-Size"] = str(entry.size_bytes)
    response.set_etag(etag)
    response.headers["X-Repo-Commit"] = snapshot.oid
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Vary"] = "Authorization"
    file_name = quote(path.rpartition("/")[2], safe="")
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{file_name}"
    return protocol.warn(response, snapshot)


@blueprint.get("/<name>/resolve/<revision>/<path:path>")
def resolve_bare(name: str, revision: str, path: str) -> Response:
    """No repository here is without a namespace."""
    del revision, path
    raise errors.RepositoryNotFound(name)


def _link(entry: Entry) -> str | None:
    """Where the store has the bytes for clients. Only for `GET`: some follow a `HEAD` to another port of this host."""
    if isinstance(entry, Twin):
        return None
    return runtime().store.download_url(entry.sha256, _LINK_LIFETIME)


def _git_oid(entry: Entry) -> str:
    try:
        return git_object.stored_oid(runtime().store, entry.sha256, entry.size_bytes)
    except BlobMissing as error:
        raise _lost(entry) from error


def _streamed(entry: Entry) -> Response:
    wanted = incoming.range if incoming.method == "GET" else None
    span = None
    if wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1:
        span = wanted.range_for_length(entry.size_bytes)
        if span is None:
            raise errors.RangeNotSatisfiable(entry.size_bytes)
    start, stop = span or (0, entry.size_bytes)
    response = Response(
        status=200 if span is None else 206, content_type="application/octet-stream"
    )
    if incoming.method == "GET":
        try:
            response.response = _chunks(entry, start, stop - start)
        except BlobMissing as error:
            raise _lost(entry) from error
    response.headers["Content-Length"] = str(stop - start)
    if span is not None:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size_bytes}"
    return response


def _chunks(entry: Entry, start: int, length: int) -> Iterator[bytes]:
    store = runtime().store
    if not isinstance(entry, Twin):
        return store.read(entry.sha256, start, length)
    store.size_bytes(entry.source.sha256)  # a missing blob is told before the answer begins
    return _written(store, entry, (start, length))


def _written(store: BlobStore, twin: Twin, span: tuple[int, int]) -> Iterator[bytes]:
    """Write a twin when the first byte is wanted; the request itself may be over by then."""
    start, length = span
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
        pickled.write(store, twin, file)
        file.seek(start)
        while length > 0 and (chunk := file.read(min(CHUNK_BYTES, length))):
            length -= len(chunk)
            yield chunk


def _lost(entry: Entry) -> errors.StoreFailed:
    return errors.StoreFailed(f"The store has lost the bytes of {entry.sha256!r}.")


def _count(snapshot: Snapshot, path: str) -> None:
    """Count the download of a version by its first weights; it never fails for it."""
    first = min(snapshot.tree, key=lambda each: (not each.endswith(WEIGHTS), each))
    begins = incoming.headers.get("Range", "bytes=0-").startswith("bytes=0-")
    if snapshot.version is None or path != first or not begins:
        return
    try:
        with change() as writing:
            download.count(writing, snapshot.version.id, now())
    except OperationalError as error:
        log.warning("download not counted", exc_info=error)
