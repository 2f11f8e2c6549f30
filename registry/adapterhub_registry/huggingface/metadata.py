"""What a repository is and has: info, trees, refs and commits."""

from typing import Any

from flask import Response
from flask import request as incoming

from adapterhub_registry import errors
from adapterhub_registry.huggingface import model, protocol
from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import git_object, repository, standing
from adapterhub_registry.service.repository import MAIN, Entry, Snapshot, Tree
from adapterhub_registry.service.representation import moment

blueprint = protocol.new_blueprint("metadata")

_COMMITS_PER_PAGE = 50
_ENTRIES_PER_PAGE = 1000
_ENTRIES_PER_EXPANDED_PAGE = 50
_PICKLED_BASE = "pytorch_model.bin"
_SAFE_BASE = "model.safetensors"


@blueprint.get("/api/models/<namespace>/<name>")
@blueprint.get("/api/models/<namespace>/<name>/revision/<path:revision>")
def info(namespace: str, name: str, revision: str = MAIN) -> Response:
    """All of a repository at a revision."""
    view, snapshot = protocol.find_snapshot(namespace, name, revision)
    found = model.info(view, snapshot, blobs=protocol.flag(incoming.args.get("blobs")))
    if not protocol.flag(incoming.args.get("securityStatus")):
        found.pop("securityStatus")
    wanted = incoming.args.getlist("expand")
    if wanted:
        found["xetEnabled"] = False
        found = {key: found[key] for key in ("_id", "id", "modelId", *wanted) if key in found}
    return protocol.warn(protocol.answer(found), snapshot)


@blueprint.get("/api/models/<namespace>/<name>/tree/<revision>")
@blueprint.get("/api/models/<namespace>/<name>/tree/<revision>/<path:path>")
def tree(namespace: str, name: str, revision: str, path: str = "") -> Response:
    """The files and folders below a path, by pages."""
    _, snapshot = protocol.find_snapshot(namespace, name, revision)
    folder = path.strip("/")
    within = {
        each: entry
        for each, entry in snapshot.tree.items()
        if not folder or each.startswith(folder + "/")
    }
    if folder and not within:
        raise errors.EntryNotFound(folder, snapshot.oid)
    expand = protocol.flag(incoming.args.get("expand"))
    shown = _entries(within, folder, recursive=protocol.flag(incoming.args.get("recursive")))
    limit = _ENTRIES_PER_EXPANDED_PAGE if expand else _ENTRIES_PER_PAGE
    start = _start()
    entries = [_entry(each, snapshot, expand=expand) for each in shown[start : start + limit]]
    response = protocol.answer(entries)
    if start + limit < len(shown):
        _next(response, start + limit)
    return response


@blueprint.post("/api/models/<namespace>/<name>/paths-info/<path:revision>")
def paths_info(namespace: str, name: str, revision: str) -> Response:
    """What there is at some paths; those that are not there are left out."""
    _, snapshot = protocol.find_snapshot(namespace, name, revision)
    sent: dict[str, Any] = incoming.get_json(silent=True) or {} if incoming.is_json else {}
    paths = sent.get("paths", incoming.form.getlist("paths"))
    expand = protocol.flag(str(sent.get("expand", incoming.form.get("expand", ""))))
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise errors.BadRequest("`paths` is no list of paths.")
    known = _entries(snapshot.tree, "", recursive=True)
    wanted = {path.strip("/") for path in paths}
    return protocol.answer(
        [_entry(each, snapshot, expand=expand) for each in known if each[0] in wanted]
    )


@blueprint.get("/api/models/<namespace>/<name>/refs")
def refs(namespace: str, name: str) -> Response:
    """Branches and tags."""
    found = repository.refs(session(), protocol.find(namespace, name))
    content: dict[str, Any] = {
        "branches": [_ref("heads", *item) for item in found.branches.items()],
        "converts": [],
        "tags": [_ref("tags", *item) for item in sorted(found.tags.items())],
    }
    if protocol.flag(incoming.args.get("include_prs")):
        content["pullRequests"] = []
    return protocol.answer(content)


@blueprint.get("/api/models/<namespace>/<name>/commits/<path:revision>")
def commits(namespace: str, name: str, revision: str) -> Response:
    """A commit and those before it, newest first, by pages.

    The history of a base model that has only pickled weights is not shown: a client that sees it sends the repository's
    name, and the caller's token, to a service elsewhere that converts such models.
    """
    view, snapshot = protocol.find_snapshot(namespace, name, revision)
    if _PICKLED_BASE in snapshot.tree and _SAFE_BASE not in snapshot.tree:
        raise errors.EntryNotFound(f"commits of {view.repo_id}", snapshot.oid)
    start, shown = _start(), []
    at: Snapshot | None = snapshot
    for position in range(start + _COMMITS_PER_PAGE):
        if at is None:
            break
        if position >= start:
            shown.append(_commit(at))
        parent = at.parent_oid
        at = None if parent is None else repository.snapshot(session(), view, parent)
    response = protocol.answer(shown)
    if at is not None:
        _next(response, start + _COMMITS_PER_PAGE)
    return response


@blueprint.get("/api/models/<namespace>/<name>/auth-check")
@blueprint.get("/api/models/<namespace>/<name>/auth-check/<any(read, write):access>")
def auth_check(namespace: str, name: str, access: str = "read") -> Response:
    """Whether the caller may have the files, or write."""
    view = protocol.find(namespace, name)
    standing.require_files(session(), viewer(), view)
    if access == "write":
        standing.require_writer(session(), viewer(), view)
    return protocol.answer({"ok": True})


_Item = tuple[str, Entry | None]
"""a path, and the file there; a folder has none"""


def _entries(tree: Tree, folder: str, *, recursive: bool) -> list[_Item]:
    """Files and folders in the order of their paths, folders first where only one level is shown."""
    depth = len(folder.split("/")) if folder else 0
    found: dict[str, Entry | None] = {}
    for path, entry in tree.items():
        parts = path.split("/")
        for length in range(depth + 1, len(parts)):
            found["/".join(parts[:length])] = None
        found[path] = entry
    shown = [item for item in found.items() if recursive or item[0].count("/") == depth]
    return sorted(shown, key=lambda item: (item[1] is not None and not recursive, item[0]))


def _entry(item: _Item, snapshot: Snapshot, *, expand: bool) -> dict[str, Any]:
    path, entry = item
    if entry is None:
        held = sorted(each for each in snapshot.tree if each.startswith(path + "/"))
        names = [f"{each}:{snapshot.tree[each].sha256}" for each in held]
        shown: dict[str, Any] = {"type": "directory", "path": path, "size": 0}
        shown["oid"] = git_object.folder_oid(names)
    else:
        shown = model.file(path, entry)
    if expand:
        shown["lastCommit"] = {
            "id": snapshot.oid,
            "title": snapshot.title,
            "date": moment(snapshot.created_at),
        }
        if entry is not None:
            shown["securityFileStatus"] = model.security(path)
    return shown


def _commit(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.oid,
        "title": snapshot.title,
        "message": snapshot.message,
        "date": moment(snapshot.created_at),
        "authors": [{"user": snapshot.author}],
    }


def _ref(kind: str, name: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid}


def _start() -> int:
    """Where a page starts; what is no number starts at the beginning."""
    text = incoming.args.get("cursor", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < len("1000000000") else 0


def _next(response: Response, start: int) -> None:
    protocol.link_next(response, cursor=str(start))
