"""What belongs to one version: its files, its tensors, what it changed, and whether it fits a base."""

from flask import Response, request

from adapterhub_client import names, wire
from adapterhub_registry import sending
from adapterhub_registry.errors import EntryNotFound
from adapterhub_registry.request import runtime, session, viewer
from adapterhub_registry.service import browsing, fitting, headers
from adapterhub_registry.service.places import Page
from adapterhub_registry.service.resolution import parsed
from adapterhub_registry.web.page import blueprint, rendered
from adapterhub_registry.web.shown import difference as differences
from adapterhub_registry.web.shown.adapter import Among, Subject, subject

_BASES = 60
_TENSORS = 400


@blueprint.get("/adapters/<task>/<name_at_org>/raw/<path:path>")
def raw_file(task: str, name_at_org: str, path: str) -> Response:
    """The bytes of a file, also for who signed in with a browser."""
    of = _subject(task, name_at_org)
    if path == wire.MANIFEST_FILE:
        return _manifest(of)
    return sending.blob(_file(of, path).sha256, of.version.digest)


@blueprint.get("/adapters/<task>/<name_at_org>/tensors/<path:path>")
def tensor_list(task: str, name_at_org: str, path: str) -> Response:
    """Every tensor of a file, from its header."""
    of = _subject(task, name_at_org)
    file = _file(of, path)
    found = headers.header(runtime().store, file)
    if found is None:
        raise EntryNotFound(path, of.version.digest)
    return rendered("tensors.html", of=of, file=file, header=found, shown=found.tensors[:_TENSORS])


@blueprint.get("/adapters/<task>/<name_at_org>/diff")
def diff_page(task: str, name_at_org: str) -> Response:
    """Two versions of a variant side by side."""
    of = _subject(task, name_at_org)
    numbers = request.args.get("from", ""), request.args.get("to", "")
    found = differences.difference(session(), runtime().store, of, numbers)
    return rendered("diff.html", of=of, found=found)


@blueprint.get("/adapters/<task>/<name_at_org>/fits")
def fits_page(task: str, name_at_org: str) -> Response:
    """Whether a version fits a base that is named by its fingerprint or by what people call it."""
    of = _subject(task, name_at_org)
    text = request.args.get("base", "").strip()
    if not text:
        return _fits(of, text)
    if names.DIGEST.fullmatch(text):
        store = runtime().store
        return _fits(
            of, text, fitting.by_fingerprint(session(), viewer(), store, of.manifest, text)
        )
    verdict, found = fitting.by_name(session(), viewer(), of.manifest, text)
    return _fits(of, text, verdict, found)


@blueprint.post("/adapters/<task>/<name_at_org>/fits")
def fits_leaves(task: str, name_at_org: str) -> Response:
    """Compare with a `base_fingerprint.json` that is sent or pasted; changes nothing."""
    request.max_content_length = 2 * fitting.LARGEST_BYTES
    request.max_form_memory_size = fitting.LARGEST_BYTES
    of = _subject(task, name_at_org)
    sent = request.files.get("file")
    content = sent.read(fitting.LARGEST_BYTES) if sent else b""
    content = content or request.form.get("leaves", "").encode()
    verdict = fitting.by_leaves(session(), viewer(), runtime().store, of.manifest, content)
    return _fits(of, "", verdict)


def _manifest(of: Subject) -> Response:
    """The canonical manifest, the very bytes that the digest is taken over."""
    response = Response(of.row.manifest, content_type="application/json")
    response.headers["Cache-Control"] = "private, no-cache"
    response.vary.update(["Authorization", "Cookie"])
    response.set_etag(of.version.digest)
    response.make_conditional(request)
    return response


def _fits(
    of: Subject,
    text: str,
    verdict: fitting.Verdict | None = None,
    found: list[fitting.Namesake] | None = None,
) -> Response:
    bases = browsing.bases(session(), viewer(), Page(limit=_BASES)).items
    known = [each.base for each in bases if each.base.fingerprint]
    return rendered("fits.html", of=of, asked=text, verdict=verdict, found=found or [], bases=known)


def _subject(task: str, name_at_org: str) -> Subject:
    among = Among(request.args.get("variant", ""))
    return subject(session(), viewer(), parsed(f"{task}/{name_at_org}"), among)


def _file(of: Subject, path: str) -> wire.File:
    found = next((file for file in of.manifest.files if file.path == path), None)
    if found is None:
        raise EntryNotFound(path, of.version.digest)
    return found
