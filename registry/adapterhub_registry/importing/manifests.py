"""The manifest of a file of the reference hub, from its entry and from what is in its zip."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from adapterhub_client import names, wire
from adapterhub_registry.importing import identity
from adapterhub_registry.importing.archive import CONFIG
from adapterhub_registry.importing.findings import Note
from adapterhub_registry.models import ImportedEntry, ImportedFile, Subtask

HEAD_CONFIG = "head_config.json"
REPORTED = "reported"
"""the split of a score: its hub does not say which"""
_LIMIT_BYTES = 4 * 1024 * 1024


class ContentUnreadable(Exception):
    """A file of a zip is not what its name says; says why."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest is made from."""

    entry: ImportedEntry
    file: ImportedFile
    subtask: Subtask | None
    reference: names.Reference
    lineage: list[str]
    """digests of versions it was trained with"""
    path: str
    """the entry's document, for findings"""


def manifest(subject: Subject, folder: Path, note: Note) -> wire.Manifest:
    """Say everything about the version that a folder will be.

    Raises:
        ContentUnreadable: Its config or its head is no JSON, or has no place for what it should say.
    """
    entry, reference = subject.entry, subject.reference
    saved = _json(folder / CONFIG)
    files = [
        wire.File(path=path.name, sha256=_sha256(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.iterdir())
    ]
    return wire.Manifest(
        reference=wire.Name(task=reference.task, name=reference.name, org=reference.org),
        base=wire.Base(
            name=entry.model_name,
            architecture=entry.model_type,
            hidden_size=entry.hidden_size or _width(saved),
        ),
        method=wire.Method(
            name=entry.variant.method,
            config=_config(subject, saved, note),
            config_id=entry.config_id,
        ),
        heads=_heads(folder / HEAD_CONFIG),
        files=files,
        metrics=_metrics(subject, note),
        lineage=[wire.Lineage(kind="source", digest=digest) for digest in subject.lineage],
        description="\n\n".join(filter(None, [entry.description, subject.file.description])),
        languages=entry.languages,
        citation=entry.citation,
    )


def _config(subject: Subject, saved: dict[str, Any], note: Note) -> dict[str, Any]:
    """The config that the zip itself has; its id stays the one that the reference hub knows it by."""
    config = saved.get("config")
    if not isinstance(config, dict):
        return subject.entry.config
    own = identity.config_id(config)
    if own != subject.entry.config_id:
        note(
            "config_differs",
            subject.path,
            f"the zip of {subject.file.name!r} has a config with the id {own}",
            f"its config counts; the id stays {subject.entry.config_id}",
        )
    return config


def _heads(path: Path) -> list[wire.Head]:
    if not path.is_file():
        return []
    saved = _json(path)
    config = saved.get("config") or {}
    labels = config.get("label2id") or saved.get("label2id") or {}
    try:
        ordered = sorted(labels.items(), key=lambda item: int(item[1]))
    except (AttributeError, TypeError, ValueError) as error:
        raise ContentUnreadable(f"its head has labels without numbers: {error}") from error
    return [
        wire.Head(
            name=str(saved.get("name") or "default"),
            type=str(config.get("head_type") or saved.get("model_class") or "unknown"),
            labels=[str(label) for label, _ in ordered],
        )
    ]


def _metrics(subject: Subject, note: Note) -> list[wire.Metric]:
    score, subtask = subject.file.score, subject.subtask
    if score is None:
        return []
    name = subtask.metric if subtask is not None and subtask.metric else "score"
    if name == "score":
        wrong = f"the score {score} of {subject.file.name!r} is of no named metric"
        note("unknown_metric", subject.path, wrong, "it is `score` here")
    dataset = subtask.hf_datasets_id if subtask is not None else None
    better = subtask.higher_is_better if subtask is not None else None
    return [
        wire.Metric(
            dataset=dataset or subject.reference.name,
            split=REPORTED,
            name=name,
            value=score,
            higher_is_better=better is not False,
        )
    ]


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _LIMIT_BYTES:
        raise ContentUnreadable(f"its {path.name} has more than {_LIMIT_BYTES} bytes")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ContentUnreadable(f"its {path.name} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ContentUnreadable(f"its {path.name} is no object")
    return content


def _width(saved: dict[str, Any]) -> int | None:
    width = saved.get("hidden_size")
    return width if isinstance(width, int) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
