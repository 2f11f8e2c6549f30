"""The whole repository of a reference hub, repaired: what is wrong in it becomes a finding, never a crash."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from adapterhub_registry.importing import document, identity, wording
from adapterhub_registry.importing.document import Document, DocumentRefused, documents, filled
from adapterhub_registry.importing.entries import Entry, repaired
from adapterhub_registry.importing.findings import Finding, Kind, Note

Raw = TypeVar("Raw")


class NoHub(Exception):
    """A folder is no repository of a reference hub."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the catalogue will have it."""

    kind: str
    name: str
    display_name: str
    description: str


class Subtask(msgspec.Struct, frozen=True, kw_only=True):
    """A subtask as the catalogue will have it."""

    task: str
    name: str
    display_name: str
    description: str
    languages: list[str]
    url: str | None
    citation: str | None
    hf_datasets_id: str | None
    metric: str | None
    higher_is_better: bool | None


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """All that was read, and what was wrong with it."""

    tasks: dict[str, Task]
    subtasks: dict[tuple[str, str], Subtask]
    architectures: dict[str, document.Architecture]
    entries: list[Entry]
    findings: list[Finding]


def read(root: Path) -> Repository:
    """Read `tasks/`, `subtasks/`, `architectures/` and `adapters/`.

    Raises:
        NoHub: The folder has no adapters.
    """
    if not (root / "adapters").is_dir():
        raise NoHub(
            f"'{root}' has no folder `adapters`, so it is no repository of a reference hub."
        )
    findings: list[Finding] = []

    def note(kind: Kind, subject: str, wrong: str, done: str) -> None:
        findings.append(Finding(kind, subject, wrong, done))

    architectures = {
        each.name: each for _, each in _readable(root, "architectures", document.Architecture, note)
    }
    tasks = {each.name: each for each in _tasks(root, note)}
    subtasks = {(each.task, each.name): each for each in _subtasks(root, note)}
    entries = list(_entries(root, architectures, note))
    _check_dependencies(entries, note)
    return Repository(
        tasks=tasks,
        subtasks=subtasks,
        architectures=architectures,
        entries=entries,
        findings=findings,
    )


def _readable(
    root: Path, folder: str, kind: type[Raw], note: Note
) -> Iterator[tuple[Document[Raw], Raw]]:
    for each in documents(root, folder, kind):
        if isinstance(each.content, DocumentRefused):
            note("unreadable", each.subject, str(each.content), "left out")
        else:
            yield each, each.content


def _tasks(root: Path, note: Note) -> Iterator[Task]:
    for where, raw in _readable(root, "tasks", document.Task, note):
        name = identity.task_name(raw.task)
        if name != raw.task:
            note(
                "malformed_name", where.subject, f"the task is {raw.task!r}", f"it is {name!r} here"
            )
        if where.path.stem != raw.task:
            note(
                "file_name",
                where.subject,
                f"the task in it is {raw.task!r}",
                "what is written in it counts",
            )
        yield Task(
            kind=where.path.parent.name,
            name=name,
            display_name=raw.displayname.strip() or name,
            description=raw.description.strip(),
        )


def _subtasks(root: Path, note: Note) -> Iterator[Subtask]:
    for where, raw in _readable(root, "subtasks", document.Subtask, note):
        task, name = identity.task_name(raw.task), identity.name(raw.subtask)
        if (task, name) != (raw.task, raw.subtask):
            note(
                "malformed_name",
                where.subject,
                f"it is {raw.task!r} and {raw.subtask!r}",
                f"it is {task!r} and {name!r} here",
            )
        if where.path.stem != f"{raw.task}_{raw.subtask}":
            note(
                "file_name",
                where.subject,
                f"the subtask in it is {raw.task}_{raw.subtask}",
                "what is written in it counts",
            )
        texts = {
            field: filled(raw, field, where.subject, note)
            for field in ("url", "citation", "hf_datasets_id")
        }
        yield Subtask(
            task=task,
            name=name,
            display_name=(raw.displayname or "").strip() or name,
            description=raw.description.strip(),
            languages=_languages(raw, task, where, note),
            metric=_metric(raw, where.subject, note),
            higher_is_better=None if raw.metric is None else raw.metric.higher_is_better,
            **texts,
        )


def _languages(
    raw: document.Subtask, task: str, where: Document[document.Subtask], note: Note
) -> list[str]:
    if where.path.parent.name == "text_lang" and not raw.language:
        return [task]  # there the task is the language
    written = filled(raw, "language", where.subject, note)
    tags, unknown = wording.languages(written or "")
    if written is not None and written != ", ".join(tags):
        rest = f", without {', '.join(map(repr, unknown))}" if unknown else ""
        done = f"it is {', '.join(tags) or 'unknown'} here{rest}"
        note("language", where.subject, f"the language is {written!r}", done)
    return tags


def _metric(raw: document.Subtask, subject: str, note: Note) -> str | None:
    if raw.metric is None:
        return None
    name = wording.metric(raw.metric.name)
    if name != raw.metric.name:
        wrong = f"the metric is {raw.metric.name!r}"
        note("metric_name", subject, wrong, f"it is {name!r} here")
    return name


def _entries(
    root: Path, architectures: dict[str, document.Architecture], note: Note
) -> Iterator[Entry]:
    taken: dict[tuple[str, ...], str] = {}
    files: dict[tuple[str, str], str] = {}
    found = _readable(root, "adapters", document.Entry, note)
    for position, (where, raw) in enumerate(found):
        try:
            entry = repaired(where, raw, position, architectures, note)
        except DocumentRefused as error:
            note("unreadable", where.subject, str(error), "left out")
            continue
        key = (entry.reference.adapter, entry.model_name, entry.config_id)
        place = (entry.reference.org, entry.file)
        before = taken.get(key) or files.get(place)
        if before is not None:
            note("duplicate", where.subject, f"it is the same variant as {before}", "left out")
            continue
        taken[key] = files[place] = where.subject
        yield entry


def _check_dependencies(entries: list[Entry], note: Note) -> None:
    known = {entry.reference.adapter for entry in entries}
    for entry in entries:
        for reference in entry.dependencies:
            if reference not in known:
                wrong = f"it depends on {reference!r}, which is not there"
                note("unknown_dependency", entry.subject, wrong, "shown without a link")
