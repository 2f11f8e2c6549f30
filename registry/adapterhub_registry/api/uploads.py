"""Publish: begin, send blobs whole, in parts or many at once, commit."""

from collections.abc import Iterator

from flask import Blueprint, Response
from flask import request as incoming

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import BODY, TOKEN, answers, api
from adapterhub_registry.request import runtime, viewer
from adapterhub_registry.service import publishing, receiving
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
_SENDER = (
    errors.TokenRequired,
    errors.MissingScope,
    errors.UploadNotFound,
    errors.BadRequest,
    errors.StoreFailed,
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
        *_SENDER,
        errors.ContentRefused,
        errors.TooLarge,
        status=204,
    ),
    tags=["publish"],
    security=TOKEN,
    operation_id="put_blob",
)
def put(upload_id: str, sha256: str) -> Response:
    """Send the bytes of one missing blob; they are hashed while they arrive."""
    incoming.max_content_length = runtime().settings.max_blob_bytes
    receiving.blob(runtime(), viewer(), (upload_id, sha256), _received())
    return Response(status=204)


@blueprint.post("/uploads/<upload_id>/blobs")
@api.validate(
    resp=answers(None, *_SENDER, errors.ContentRefused, errors.TooLarge, status=204),
    tags=["publish"],
    security=TOKEN,
    operation_id="put_blobs",
)
def put_many(upload_id: str) -> Response:
    """Send many small missing blobs at once: for each its SHA-256 as 32 bytes, then its bytes."""
    incoming.max_content_length = receiving.BATCH_BYTES
    receiving.batch(runtime(), viewer(), upload_id, incoming.stream.read)
    return Response(status=204)


@blueprint.get("/uploads/<upload_id>/blobs/<sha256>/parts")
@api.validate(
    resp=answers(wire.Parts, *_SENDER),
    tags=["publish"],
    security=TOKEN,
    operation_id="list_parts",
)
def parts(upload_id: str, sha256: str) -> wire.Parts:
    """Which parts of a large blob are there, and where the next of the missing ones go."""
    return receiving.parts(runtime(), viewer(), (upload_id, sha256))


@blueprint.put("/uploads/<upload_id>/blobs/<sha256>/parts/<int:number>")
@api.validate(
    resp=answers(None, *_SENDER, errors.ContentRefused, errors.TooLarge, status=204),
    tags=["publish"],
    security=TOKEN,
    operation_id="put_part",
)
def put_part(upload_id: str, sha256: str, number: int) -> Response:
    """Send one part of a large blob; a part that is sent again takes the place of the first."""
    incoming.max_content_length = runtime().settings.max_blob_bytes
    receiving.part(runtime(), viewer(), (upload_id, sha256, number), _received())
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
