"""Publish from the browser."""

from pathlib import PurePosixPath
from typing import BinaryIO, cast

from flask import Response, flash, request

from adapterhub_client import wire
from adapterhub_client.errors import MalformedReference
from adapterhub_client.names import checked
from adapterhub_registry.domain.permission import covers
from adapterhub_registry.errors import MalformedName, ManifestRefused, RegistryError
from adapterhub_registry.request import runtime, session, viewer
from adapterhub_registry.service import account as accounts
from adapterhub_registry.service import folderupload
from adapterhub_registry.service.visibility import require_scope
from adapterhub_registry.web.page import adapter_path, blueprint, onward, unkept

_BESIDE_BYTES = 1024 * 1024
"""of a form, besides its files"""
_UNTOLD = (401, 500)


@blueprint.get("/upload")
def upload_page() -> Response:
    """The form."""
    return _form()


@blueprint.post("/upload")
def upload() -> Response:
    """Publish the files of an adapter folder; they pass the same checks as any push."""
    require_scope(viewer(), "write")
    request.max_content_length = runtime().settings.max_blob_bytes + _BESIDE_BYTES
    try:
        published = _published()
    except RegistryError as error:
        if error.status in _UNTOLD:
            raise
        return _form(status=error.status, refused=error)
    flash(f"Version {published.number} of {published.reference} is published.", "done")
    return onward(adapter_path(published.reference, published.digest))


def _published() -> wire.Version:
    said = {name: request.form.get(name, "").strip() for name in ("task", "name", "org")}
    try:
        reference = checked(said["task"], said["name"], said["org"])
    except MalformedReference as error:
        raise MalformedName(str(error)) from error
    about = folderupload.About(
        description=request.form.get("description", "").strip(),
        license=request.form.get("license", "").strip() or None,
        languages=request.form.get("languages", "").replace(",", " ").split(),
        private=request.form.get("private") == "true",
    )
    return folderupload.publish(runtime(), viewer(), reference, _files(), about)


def _files() -> dict[str, BinaryIO]:
    """The files by their names; browsers may send the folder too, which says nothing."""
    found: dict[str, BinaryIO] = {}
    for sent in request.files.getlist("files"):
        path = PurePosixPath((sent.filename or "").replace("\\", "/")).name
        if path in found:
            raise ManifestRefused([f"two files are named {path!r}"])
        if path:
            found[path] = cast("BinaryIO", sent.stream)
    if not found:
        raise ManifestRefused(["there are no files"])
    return found


def _form(*, status: int = 200, refused: RegistryError | None = None) -> Response:
    account = accounts.whoami(session(), viewer())
    writable = sorted(
        name for name, role in account.organizations.items() if covers(role, "writer")
    )
    return unkept(
        "upload.html",
        status=status,
        organizations=writable,
        refused=refused,
        most_bytes=runtime().settings.max_blob_bytes,
        said=request.form,
    )
