"""Publish: begin, send blobs, commit."""

from collections.abc import Iterator

from flask import Blueprint, Response
from flask import request as incoming

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import BODY, TOKEN, answers, api
from adapterhub_registry.request import runtime, viewer
from adapterhub_registry.service import publishing
from adapterhub_registry.storage.store import CHUNK_BYTES

blueprint = Blueprint("uploads", __name__)

_PUBLISHER = (
    errors.TokenRequired,
    errors.MissingScope,
    errors.MissingRole,
    errors.OrganizationNotFound,
    errors.ManifestRefused,
    errors.PublicAlready,
    errors.NameRetired,
    errors.NameMoved,
    errors.PrivateMembers,
    errors.Deleted,
)


@blueprint.post("/uploads")
@api.validate(
    resp=answers(wire.Upload, *_PUBLISHER, *BODY, errors.StoreFailed, status=201),
    tags=["publish"],
    security=TOKEN,
    operation_id="begin_upload",
)
def begin(json: wire.UploadDraft) -> tuple[wire.Upload, int]:
    """Begin a publish: says which blobs are missing and where to put them."""
    return publishing.begin(runtime(), viewer(), json), 201


@blueprint.put("/uploads/<upload_id>/blobs/<sha256>")
@api.validate(
    resp=answers(
        None,
        errors.TokenRequired,
        errors.MissingScope,
        errors.UploadNotFound,
        errors.ContentRefused,
        errors.TooLarge,
        errors.BadRequest,
        errors.StoreFailed,
        status=204,
    ),
    tags=["publish"],
    security=TOKEN,
    operation_id="put_blob",
)
def put(upload_id: str, sha256: str) -> Response:
    """Send the bytes of one missing blob; they are hashed while they arrive."""
    incoming.max_content_length = runtime().settings.max_blob_bytes
    publishing.receive(runtime(), viewer(), (upload_id, sha256), _received())
    return Response(status=204)


@blueprint.post("/uploads/<upload_id>/commit")
@api.validate(
    resp=answers(
        wire.Version,
        *_PUBLISHER,
        errors.UploadNotFound,
        errors.UploadIncomplete,
        errors.ContentRefused,
        errors.StoreFailed,
        status=201,
        also=200,
    ),
    tags=["publish"],
    security=TOKEN,
    operation_id="commit_upload",
)
def commit(upload_id: str) -> tuple[wire.Version, int]:
    """Make the version: 201 when it is new, 200 when the very same was published before."""
    version, created = publishing.commit(runtime(), viewer(), upload_id)
    return version, 201 if created else 200


def _received() -> Iterator[bytes]:
    while chunk := incoming.stream.read(CHUNK_BYTES):
        yield chunk
