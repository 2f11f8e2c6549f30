"""The page of an adapter that is only recorded: what its reference hub says, and where its weights are."""

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.models import Architecture, ImportedEntry, Subtask, Task
from adapterhub_registry.service import catalogue
from adapterhub_registry.service.resolution import find_adapter


class Part(msgspec.Struct, frozen=True):
    """One entry: a base model and a config, with every version that is listed."""

    entry: ImportedEntry
    architecture: Architecture | None
    files: list[wire.Recorded]


class View(msgspec.Struct, frozen=True):
    """Everything on the page."""

    summary: wire.AdapterSummary
    subtask: Subtask | None
    parts: list[Part]
    citations: list[str]


def view(session: Session, viewer: Viewer, reference: names.Reference) -> View | None:
    """Gather the page; None where nothing of the adapter is recorded.

    Raises:
        AdapterNotFound: With the nearest names; private adapters do not exist for the public.
    """
    adapter = catalogue.show(session, viewer, reference.at(None))
    if not adapter.recorded:
        return None
    row = find_adapter(session, viewer, reference)
    entries = session.scalars(
        select(ImportedEntry)
        .filter_by(adapter_id=row.id)
        .options(joinedload(ImportedEntry.variant))
        .order_by(ImportedEntry.position)
    ).all()
    named = {each.name: each for each in session.scalars(select(Architecture))}
    subtask = session.scalar(
        select(Subtask)
        .join(Task, Subtask.task_id == Task.id)
        .where(Task.name == reference.task, Subtask.name == reference.name)
    )
    parts = [Part(each, named.get(each.architecture), _of(adapter, each)) for each in entries]
    citations = [
        *(part.entry.citation for part in parts),
        *(part.architecture.citation for part in parts if part.architecture),
        subtask.citation if subtask else None,
    ]
    found = list(dict.fromkeys(text for text in citations if text))
    return View(adapter.summary, subtask, parts, found)


def _of(adapter: wire.Adapter, entry: ImportedEntry) -> list[wire.Recorded]:
    return [
        each
        for each in adapter.recorded
        if (each.base, each.config_id) == (entry.model_name, entry.config_id)
    ]
