"""Uploads: what is wrong with a card, which files go how, and the commit itself."""

import base64
import binascii
import re
from contextlib import closing
from typing import Any

import msgspec
from flask import Response
from flask import request as incoming

from adapterhub_registry import errors
from adapterhub_registry.huggingface import ndjson, protocol
from adapterhub_registry.request import runtime, session, viewer
from adapterhub_registry.service import card, committing, git_object, quota, releasing, rules
from adapterhub_registry.service.committing import Added, Proposal, Removed
from adapterhub_registry.service.repository import OID, Entry, Snapshot

blueprint = protocol.new_blueprint("upload")

_MIB = 1024 * 1024
_INLINE_BYTES = 200 * _MIB
"""up to here a file goes within the commit: newer clients cannot be kept from Xet otherwise"""
_NEGOTIATED_INLINE_BYTES = 10 * _MIB
_FIRST_WITHOUT_NEGOTIATION = (1, 20)
_CLIENT = re.compile(r"hf_hub/([0-9]{1,4})\.([0-9]{1,4})")
_MOST_FILES = 1000
_MOST_CHANGES = 25_000
_PICKLE = re.compile(rb"\x80[\x02-\x05]")


class _File(msgspec.Struct, frozen=True):
    path: str
    size: int
    sample: str = ""


class _Preupload(msgspec.Struct, frozen=True):
    files: list[_File]


class _Header(msgspec.Struct, frozen=True):
    summary: str
    description: str = ""
    parentCommit: str | None = None  # noqa: N815  # as clients spell it


class _Large(msgspec.Struct, frozen=True):
    path: str
    oid: str
    algo: str = "sha256"
    size: int | None = None


class _Place(msgspec.Struct, frozen=True):
    path: str


@blueprint.post("/api/validate-yaml")
def validate_yaml() -> Response:
    """What is wrong with the front matter of a card; clients ask before they send it."""
    sent = incoming.get_json(silent=True)
    content = sent.get("content") if isinstance(sent, dict) else None
    if not isinstance(content, str):
        return protocol.answer(
            {"errors": [{"message": "There is no `content`."}], "warnings": []}, 400
        )
    try:
        found = card.front_matter(content)
    except card.CardRefused as error:
        return protocol.answer({"errors": [{"message": str(error)}], "warnings": []}, 400)
    missing = [key for key in ("license", "base_model") if key not in found]
    warnings = [{"message": f"The card does not say its {key}."} for key in missing]
    return protocol.answer({"errors": [], "warnings": warnings})


@blueprint.post("/api/models/<namespace>/<name>/preupload/<path:revision>")
def preupload(namespace: str, name: str, revision: str) -> Response:
    """How each file shall be sent; what cannot be taken is refused before any byte moves."""
    _refuse_pull_request()
    done = committing.head(runtime(), viewer(), (f"{namespace}/{name}", revision))
    sent = protocol.body(_Preupload)
    if len(sent.files) > _MOST_FILES:
        raise errors.BadRequest(
            f"{len(sent.files)} files at once, at most {_MOST_FILES} are allowed."
        )
    files = [_mode(file, done.snapshot.tree.get(file.path)) for file in sent.files]
    new = {file.path: file.size for file in sent.files if not _is_there(done.snapshot, file)}
    quota.require_room(session(), runtime().settings, done.view.organization.name, new)
    response = protocol.answer({"files": files})
    if any(file["uploadMode"] == "lfs" for file in files) and not _negotiates():
        response.headers["X-HF-Warning"] = (
            f"xet; files above {_INLINE_BYTES // _MIB} MiB need HF_HUB_DISABLE_XET=1: this registry has no Xet storage"
        )
    return response


@blueprint.post("/api/models/<namespace>/<name>/commit/<path:revision>")
def commit(namespace: str, name: str, revision: str) -> Response:
    """Commit; where the branch is then an adapter, it is a version too, else a header says why not."""
    _refuse_pull_request()
    place = (f"{namespace}/{name}", revision)
    committing.writable(runtime(), viewer(), place)
    done = committing.commit(runtime(), viewer(), place, _proposal())
    released = releasing.release(runtime(), viewer(), revision, done)
    repo_id, oid = done.view.repo_id, done.snapshot.oid
    response = protocol.answer(
        {
            "success": True,
            "commitOid": oid,
            "commitUrl": f"{protocol.address()}/{repo_id}/commit/{oid}",
            "hookOutput": "",
        }
    )
    if released.reason is not None:
        text = f"draft; {repo_id} is no version yet: {released.reason}"
        response.headers["X-HF-Warning"] = protocol.header_text(text)
    return response


def _mode(file: _File, entry: Entry | None) -> dict[str, Any]:
    faults = list(rules.place_faults(file.path))
    if faults:
        raise errors.BadRequest(f"The path {file.path!r} " + "; ".join(faults) + ".")
    if not 0 <= file.size <= runtime().settings.max_blob_bytes:
        limit = runtime().settings.max_blob_bytes
        raise errors.TooLarge(f"{file.path!r} has {file.size} bytes, not 0 to {limit}.")
    if file.path.endswith(rules.WEIGHTS) and _PICKLE.match(_sample(file)):
        raise errors.BadRequest(f"{file.path!r} is a pickle, not safetensors.")
    most = _NEGOTIATED_INLINE_BYTES if _negotiates() else _INLINE_BYTES
    mode = "regular" if file.size <= most else "lfs"
    shown = {"path": file.path, "uploadMode": mode, "shouldIgnore": False}
    if entry is None or entry.size_bytes != file.size:
        return shown
    if mode == "lfs":
        return {**shown, "oid": entry.sha256}
    return {**shown, "oid": git_object.stored_oid(runtime().store, entry.sha256, entry.size_bytes)}


def _is_there(snapshot: Snapshot, file: _File) -> bool:
    """Whether a file seems to be what the branch has; their digests are not known yet."""
    entry = snapshot.tree.get(file.path)
    return entry is not None and entry.size_bytes == file.size


def _negotiates() -> bool:
    """Whether the client lets the server choose how large files travel."""
    client = _CLIENT.search(incoming.headers.get("User-Agent", ""))
    return client is not None and tuple(map(int, client.groups())) < _FIRST_WITHOUT_NEGOTIATION


def _sample(file: _File) -> bytes:
    try:
        return base64.b64decode(file.sample)
    except (binascii.Error, ValueError):
        return b""


def _proposal() -> Proposal:
    """Read the body: every file in it becomes a blob on the way."""
    settings = runtime().settings
    incoming.max_content_length = 2 * settings.max_blob_bytes
    header: _Header | None = None
    changes: list[Added | Removed] = []
    with closing(ndjson.lines(incoming.stream.read, settings.max_blob_bytes)) as lines:
        for line in lines:
            if line.key == "header":
                header = protocol.converted(line.value, _Header)
            else:
                changes.append(_change(line))
            if len(changes) > _MOST_CHANGES:
                raise errors.TooLarge(f"A commit has at most {_MOST_CHANGES} operations.")
    if header is None:
        raise errors.BadRequest("The commit has no header.")
    parent = header.parentCommit or None
    if parent is not None and not OID.fullmatch(parent):
        raise errors.BadRequest(f"{parent!r} is no commit id.")
    return Proposal(
        title=header.summary, message=header.description, parent_oid=parent, changes=changes
    )


def _change(line: ndjson.Line) -> Added | Removed:
    if line.key in {"deletedFile", "deletedFolder"}:
        return Removed(protocol.converted(line.value, _Place).path, line.key == "deletedFolder")
    if line.key == "lfsFile":
        large = protocol.converted(line.value, _Large)
        if large.algo != "sha256":
            raise errors.BadRequest(f"{large.path!r} is hashed with {large.algo!r}, not sha256.")
        return Added(large.path, large.oid, large.size, is_here=False)
    if line.key != "file" or line.content is None:
        raise errors.BadRequest(f"There is no operation {line.key!r}, or it has no content.")
    path = protocol.converted(line.value, _Place).path
    if line.value.get("encoding", "base64") != "base64":
        raise errors.BadRequest(f"{path!r} is not sent as base64.")
    faults = list(rules.place_faults(path))
    if faults:
        raise errors.BadRequest(f"The path {path!r} " + "; ".join(faults) + ".")
    content = line.content
    committing.keep(runtime(), content.chunks(), content.sha256, content.size_bytes)
    return Added(path, content.sha256, content.size_bytes, is_here=True)


def _refuse_pull_request() -> None:
    if protocol.flag(incoming.args.get("create_pr")):
        raise errors.NotOffered("There are no pull requests here: push to a branch.")
