"""Large files by git's LFS protocol: a batch, PUTs whose address is their permission, completion and verification.

The PUTs come without a token: their address is signed, and says whose upload of which bytes it is, and until when.
Nothing counts before the registry has hashed it.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import msgspec
from flask import Response
from flask import request as incoming
from itsdangerous import BadSignature, URLSafeSerializer

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.huggingface import protocol
from adapterhub_registry.request import now, runtime, session, viewer
from adapterhub_registry.service import committing, repository
from adapterhub_registry.storage import BlobCorrupt, BlobMissing
from adapterhub_registry.storage.store import CHUNK_BYTES

blueprint = protocol.new_blueprint("largefile")

PART_BYTES = 32 * 1024 * 1024
_MEDIA_TYPE = "application/vnd.git-lfs+json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SALT = "adapterhub large file"
_WHOLE = 0


class _Object(msgspec.Struct, frozen=True):
    oid: str
    size: int


class _Batch(msgspec.Struct, frozen=True):
    operation: str
    objects: list[_Object]
    transfers: tuple[str, ...] = ("basic",)
    hash_algo: str = "sha256"


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    part_number: int
    etag: str


class _Completion(msgspec.Struct, frozen=True):
    oid: str
    parts: list[_Part]


class _Permit(msgspec.Struct, frozen=True, array_like=True):
    """What the address of a PUT allows."""

    upload: str
    oid: str
    size_bytes: int
    part: int
    """`_WHOLE`, or the number of a part"""
    expires: int


@blueprint.post("/<namespace>/<name>.git/info/lfs/objects/batch")
def batch(namespace: str, name: str) -> Response:
    """Where each object goes; what is here already goes nowhere."""
    place = (f"{namespace}/{name}", repository.MAIN)
    view = committing.writable(runtime(), viewer(), place)
    sent = protocol.body(_Batch)
    if sent.operation != "upload" or sent.hash_algo != "sha256":
        raise errors.BadRequest(
            "Only uploads hashed with sha256 go this way; download by `resolve`."
        )
    files = [
        wire.File(path=each.oid, sha256=each.oid, size_bytes=each.size)
        for each in sent.objects
        if _SHA256.fullmatch(each.oid)
    ]
    known = committing.known(session(), viewer(), view, files)
    in_parts = "multipart" in sent.transfers
    objects = [_object(each, view.full_name, known, in_parts=in_parts) for each in sent.objects]
    has_parts = in_parts and any(each.size > PART_BYTES for each in sent.objects)
    content = {
        "transfer": "multipart" if has_parts else "basic",
        "objects": objects,
        "hash_algo": "sha256",
    }
    return _answer(content)


@blueprint.put("/api/lfs/<permit>")
def put(permit: str) -> Response:
    """The bytes of an object, or of one part of it."""
    allowed = _permitted(permit)
    incoming.max_content_length = runtime().settings.max_blob_bytes
    if allowed.part == _WHOLE:
        _stage(allowed.upload, allowed.oid, _received(), allowed.size_bytes)
        return _with_etag(allowed.oid)
    with tempfile.TemporaryFile() as file:
        sha256, size_bytes = _spooled(file)
        if size_bytes != allowed.size_bytes:
            raise errors.BadRequest(f"The part has {size_bytes} bytes, not {allowed.size_bytes}.")
        _stage(allowed.upload, sha256, _chunks(file), size_bytes)
    return _with_etag(sha256)


@blueprint.post("/api/lfs/<permit>")
def complete(permit: str) -> Response:
    """Put the parts of an object together."""
    allowed = _permitted(permit)
    sent = protocol.body(_Completion)
    parts = sorted(sent.parts, key=lambda part: part.part_number)
    numbers = [part.part_number for part in parts]
    etags = [part.etag.strip('"') for part in parts]
    if sent.oid != allowed.oid or numbers != list(range(1, _parts(allowed.size_bytes) + 1)):
        raise errors.BadRequest("These are not all parts of the object.")
    if not all(_SHA256.fullmatch(etag) for etag in etags):
        raise errors.BadRequest("An ETag is not what the upload of its part gave.")
    try:
        chunks = (
            chunk for etag in etags for chunk in runtime().store.read_staged(allowed.upload, etag)
        )
        _stage(allowed.upload, allowed.oid, chunks, allowed.size_bytes)
    except BlobMissing as error:
        raise errors.UploadIncomplete([error.sha256]) from error
    return _answer({})


@blueprint.post("/api/models/<namespace>/<name>/lfs-verify")
def verify(namespace: str, name: str) -> Response:
    """Whether an object has arrived."""
    view = committing.writable(runtime(), viewer(), (f"{namespace}/{name}", repository.MAIN))
    sent = protocol.body(_Object)
    upload = committing.staging(viewer().account_id or 0, view.full_name, sent.oid)
    file = wire.File(path=sent.oid, sha256=sent.oid, size_bytes=sent.size)
    is_staged = _SHA256.fullmatch(sent.oid) and (
        runtime().store.staged_bytes(upload, sent.oid) == sent.size
    )
    if not is_staged and not committing.known(session(), viewer(), view, [file]):
        raise errors.UploadIncomplete([sent.oid])
    return _answer({})


def _object(sent: _Object, full_name: str, known: set[str], *, in_parts: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"oid": sent.oid, "size": sent.size}
    limit = runtime().settings.max_blob_bytes
    if not _SHA256.fullmatch(sent.oid):
        return {**shown, "error": {"code": 422, "message": "The oid is no sha256."}}
    if not 0 <= sent.size <= limit:
        return {**shown, "error": {"code": 413, "message": f"More than {limit} bytes."}}
    if sent.oid in known:
        return shown
    upload = committing.staging(viewer().account_id or 0, full_name, sent.oid)
    target: dict[str, Any] = {"href": _address(upload, sent, _WHOLE, sent.size)}
    if in_parts and sent.size > PART_BYTES:
        target["header"] = {"chunk_size": str(PART_BYTES)} | {
            str(number): _address(upload, sent, number, _part_bytes(sent.size, number))
            for number in range(1, _parts(sent.size) + 1)
        }
    verified = {"href": f"{protocol.address()}/api/models/{_repo_path()}/lfs-verify"}
    return {**shown, "authenticated": True, "actions": {"upload": target, "verify": verified}}


def _repo_path() -> str:
    named = incoming.view_args or {}
    return f"{named['namespace']}/{named['name']}"


def _parts(size_bytes: int) -> int:
    return -(-size_bytes // PART_BYTES)


def _part_bytes(size_bytes: int, number: int) -> int:
    return min(PART_BYTES, size_bytes - (number - 1) * PART_BYTES)


def _serializer() -> URLSafeSerializer:
    return URLSafeSerializer(
        runtime().settings.secret_key, salt=_SALT, signer_kwargs={"digest_method": hashlib.sha256}
    )


def _address(upload: str, sent: _Object, part: int, size_bytes: int) -> str:
    expires = int((now() + runtime().upload_lifetime).timestamp())
    permit = _serializer().dumps([upload, sent.oid, size_bytes, part, expires])
    text = permit if isinstance(permit, str) else permit.decode()
    return f"{protocol.address()}/api/lfs/{text}"


def _permitted(text: str) -> _Permit:
    try:
        permit = msgspec.convert(_serializer().loads(text), _Permit)
    except (BadSignature, msgspec.ValidationError) as error:
        raise errors.Forbidden("This address was not made by the registry.") from error
    if permit.expires < now().timestamp():
        raise errors.Forbidden("This address has expired: begin the upload again.")
    return permit


def _stage(upload: str, sha256: str, chunks: Iterator[bytes], size_bytes: int) -> None:
    try:
        runtime().store.stage(upload, sha256, chunks, size_bytes)
    except BlobCorrupt as error:
        raise errors.ContentRefused([f"{sha256}: {error.fault}"]) from error


def _spooled(file: IO[bytes]) -> tuple[str, int]:
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in _received():
        digest.update(chunk)
        size_bytes += file.write(chunk)
        if size_bytes > PART_BYTES:
            raise errors.TooLarge(f"A part has at most {PART_BYTES} bytes.")
    return digest.hexdigest(), size_bytes


def _received() -> Iterator[bytes]:
    while chunk := incoming.stream.read(CHUNK_BYTES):
        yield chunk


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _with_etag(etag: str) -> Response:
    response = Response(status=200)
    response.set_etag(etag)
    return response


def _answer(content: dict[str, Any]) -> Response:
    response = protocol.answer(content)
    response.content_type = _MEDIA_TYPE
    return response
