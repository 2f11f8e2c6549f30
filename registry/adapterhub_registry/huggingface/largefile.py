"""Large files by git's LFS protocol: a batch, PUTs whose address is their permission, completion and verification.

The PUTs come without a token: their address is signed, by the store or by the registry, and says whose upload of which
bytes it is, and until when. Nothing counts before the registry has hashed it, which it does when it is committed.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Response
from flask import request as incoming
from itsdangerous import BadSignature, URLSafeSerializer

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.huggingface import protocol
from adapterhub_registry.request import now, runtime, session, viewer
from adapterhub_registry.service import committing, repository
from adapterhub_registry.storage import BlobCorrupt
from adapterhub_registry.storage.store import CHUNK_BYTES, part_sizes

blueprint = protocol.new_blueprint("largefile")

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
    has_parts = in_parts and any(part_sizes(each.size) for each in sent.objects)
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
    store, size_bytes = runtime().store, allowed.size_bytes
    try:
        if allowed.part == _WHOLE:
            store.stage(allowed.upload, allowed.oid, _received(), size_bytes)
        else:
            store.stage_part(allowed.upload, allowed.oid, allowed.part, _received(), size_bytes)
    except BlobCorrupt as error:
        raise errors.ContentRefused([f"{allowed.oid}: {error.fault}"]) from error
    response = Response(status=200)
    response.set_etag(f"{allowed.oid}.{allowed.part}")
    return response


@blueprint.post("/api/lfs/<permit>")
def complete(permit: str) -> Response:
    """Say that all parts of an object have been sent; they are put together when it is committed."""
    allowed = _permitted(permit)
    sent = protocol.body(_Completion)
    numbers = sorted(part.part_number for part in sent.parts)
    if sent.oid != allowed.oid or numbers != list(
        range(1, len(part_sizes(allowed.size_bytes)) + 1)
    ):
        raise errors.BadRequest("These are not all parts of the object.")
    if runtime().store.staged_bytes(allowed.upload, allowed.oid) != allowed.size_bytes:
        raise errors.UploadIncomplete([allowed.oid])
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
    parts = part_sizes(sent.size) if in_parts else []
    target: dict[str, Any] = {"href": _address(upload, sent, _WHOLE, sent.size)}
    if parts:
        addresses = [_part(upload, sent, at, size) for at, size in enumerate(parts, start=1)]
        numbered = {str(at): address for at, address in enumerate(addresses, start=1)}
        target["header"] = {"chunk_size": str(parts[0]), **numbered}
    elif sent.size > 0:
        target["href"] = _part(upload, sent, 1, sent.size, alone=True)
    verified = {"href": f"{protocol.address()}/api/models/{_repo_path()}/lfs-verify"}
    return {**shown, "authenticated": True, "actions": {"upload": target, "verify": verified}}


def _repo_path() -> str:
    named = incoming.view_args or {}
    return f"{named['namespace']}/{named['name']}"


def _part(upload: str, sent: _Object, number: int, size_bytes: int, *, alone: bool = False) -> str:
    """Where a part goes: to a store that takes it itself, else here, where what comes whole is hashed at once."""
    lifetime = runtime().upload_lifetime
    target = runtime().store.part_target(upload, sent.oid, number, size_bytes, lifetime)
    if target is not None:
        return target.url
    return _address(upload, sent, _WHOLE if alone else number, size_bytes)


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


def _received() -> Iterator[bytes]:
    while chunk := incoming.stream.read(CHUNK_BYTES):
        yield chunk


def _answer(content: dict[str, Any]) -> Response:
    response = protocol.answer(content)
    response.content_type = _MEDIA_TYPE
    return response
