"""A repository as the JSON that clients read: what it is called, tagged, and what files it has."""

from typing import Any

from adapterhub_registry.models import Adapter, Version
from adapterhub_registry.request import runtime
from adapterhub_registry.service import card, git_object
from adapterhub_registry.service.repository import Entry, Snapshot, View
from adapterhub_registry.service.representation import moment
from adapterhub_registry.storage import BlobMissing

_LIBRARIES = {"adapters": "adapters", "composition": "adapters", "peft": "peft"}


def info(view: View, snapshot: Snapshot, *, blobs: bool = False) -> dict[str, Any]:
    """All of a repository at one commit."""
    version = snapshot.version
    about = _card(snapshot)
    tags = _tags(view.adapter, version) if view.adapter is not None and version is not None else []
    return {
        **_head(view.repo_id, view.organization.name, private=view.private),
        "sha": snapshot.oid,
        "gated": view.gated or False,
        "disabled": False,
        "downloads": 0 if view.adapter is None else view.adapter.downloads,
        "tags": list(dict.fromkeys([*tags, *_card_tags(about)])),
        "library_name": _library(version) or about.get("library_name"),
        "pipeline_tag": about.get("pipeline_tag"),
        "createdAt": moment(view.created_at),
        "lastModified": moment(max(snapshot.created_at, view.created_at)),
        "cardData": about or None,
        "config": _config(version),
        "siblings": [
            _sibling(path, entry, blobs=blobs) for path, entry in sorted(snapshot.tree.items())
        ],
        "usedStorage": sum(entry.size_bytes for entry in snapshot.tree.values()),
        "securityStatus": _security(snapshot),
    }


def listed(adapter: Adapter, repo_id: str, version: Version | None) -> dict[str, Any]:
    """An adapter as lists show it."""
    return {
        **_head(repo_id, adapter.organization.name, private=adapter.private),
        "gated": False,
        "disabled": False,
        "downloads": adapter.downloads,
        "tags": [] if version is None else _tags(adapter, version),
        "library_name": _library(version),
        "createdAt": moment(adapter.created_at),
        "lastModified": moment(adapter.updated_at),
        "config": _config(version),
    }


def draft(
    repo_id: str, organization: str, moments: tuple[str, str], *, private: bool
) -> dict[str, Any]:
    """A repository without any version, as lists show it."""
    return {
        **_head(repo_id, organization, private=private),
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "tags": [],
        "createdAt": moments[0],
        "lastModified": moments[1],
    }


def file(path: str, entry: Entry) -> dict[str, Any]:
    """A file of a tree."""
    shown: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": entry.size_bytes,
        "oid": oid(path, entry),
    }
    large = _large(path, entry)
    if large is not None:
        shown["lfs"] = {
            "oid": large["sha256"],
            "size": large["size"],
            "pointerSize": large["pointerSize"],
        }
    return shown


def security(path: str) -> dict[str, Any]:
    """The verdict on a file: what may run code when it is read is suspicious, and never opened here."""
    suspicious = git_object.may_run_code(path)
    verdict = "suspicious" if suspicious else "safe"
    message = "Reading this file may run code in it; no version has it." if suspicious else None
    scan = {"status": verdict, "message": message, "reportLink": None, "reportLabel": None}
    return {
        "status": verdict,
        "avScan": {"status": "unscanned", "message": None, "reportLink": None, "reportLabel": None},
        "pickleImportScan": {**scan, "pickleImports": []},
    }


def oid(path: str, entry: Entry) -> str:
    """Git's name of a file: of its content, or of the pointer that stands for a large one."""
    if git_object.is_large(path, entry.size_bytes):
        pointer = git_object.pointer(entry.sha256, entry.size_bytes)
        return git_object.blob_oid(len(pointer), [pointer])
    return git_object.stored_oid(runtime().store, entry.sha256, entry.size_bytes)


def _head(repo_id: str, organization: str, *, private: bool) -> dict[str, Any]:
    return {
        "_id": repo_id,
        "id": repo_id,
        "modelId": repo_id,
        "author": organization,
        "private": private,
        "likes": 0,
        "trendingScore": 0,
    }


def _large(path: str, entry: Entry) -> dict[str, Any] | None:
    if not git_object.is_large(path, entry.size_bytes):
        return None
    length = len(git_object.pointer(entry.sha256, entry.size_bytes))
    return {"sha256": entry.sha256, "size": entry.size_bytes, "pointerSize": length}


def _sibling(path: str, entry: Entry, *, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    shown = {"rfilename": path, "size": entry.size_bytes, "blobId": oid(path, entry)}
    large = _large(path, entry)
    return shown if large is None else {**shown, "lfs": large}


def _security(snapshot: Snapshot) -> dict[str, Any]:
    suspicious = [path for path in snapshot.tree if git_object.may_run_code(path)]
    return {
        "scansDone": True,
        "filesWithIssues": [{"path": path, "level": "suspicious"} for path in sorted(suspicious)],
    }


def _library(version: Version | None) -> str | None:
    return None if version is None else _LIBRARIES[version.format]


def _tags(adapter: Adapter, version: Version) -> list[str]:
    base = version.base_name
    tags = [
        _LIBRARIES[version.format],
        *(["adapter-transformers"] if version.format != "peft" else []),
        *(["composition"] if version.format == "composition" else []),
        "safetensors",
        str(version.base["architecture"]),
        version.variant.method,
        f"task:{adapter.task.name}",
        f"base_model:{base}",
        f"base_model:adapter:{base}",
        *adapter.languages,
    ]
    if adapter.license is not None:
        tags.append(f"license:{adapter.license}")
    return [tag for tag in dict.fromkeys(tags) if tag != "unknown"]


def _card_tags(about: dict[str, Any]) -> list[str]:
    tags = about.get("tags")
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _config(version: Version | None) -> dict[str, Any]:
    """What libraries read of a repository's config without downloading it."""
    if version is None:
        return {}
    base = version.base_name
    if version.format == "peft":
        return {"peft": {"base_model_name_or_path": base}}
    return {"adapters": {"model_name": base}, "adapter_transformers": {"model_name": base}}


def _card(snapshot: Snapshot) -> dict[str, Any]:
    entry = snapshot.tree.get(card.CARD)
    if entry is None or entry.size_bytes > card.CARD_BYTES:
        return {}
    try:
        text = b"".join(runtime().store.read(entry.sha256)).decode("utf-8", "replace")
        return card.front_matter(text)
    except (BlobMissing, card.CardRefused):
        return {}
