"""What the catalogue is sorted by: tasks, base models, all that fits a base, and how much there is."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import BaseNotFound
from adapterhub_registry.models import (
    BaseModel,
    SearchCount,
    Subtask,
    Task,
    TaskProfile,
    Variant,
    Version,
)
from adapterhub_registry.service import matching, places, representation
from adapterhub_registry.service.places import Page
from adapterhub_registry.service.sets import count, details, starting, top
from adapterhub_registry.service.visibility import readable

_METHODS = 200


class _Place(msgspec.Struct, frozen=True, array_like=True):
    base_model_id: int
    variant_id: int
    number: int


def bases(session: Session, viewer: Viewer, asked: Page) -> wire.BasePage:
    """A page of base models with how many adapters there are for each, most first."""
    scoped = matching.scopes(session, viewer)
    found = top(session, scoped, "base", asked.limit + 1, places.counted(asked.after))
    return wire.BasePage(
        items=[
            wire.BaseModel(
                base=msgspec.json.decode(row.detail or "{}", type=wire.Base), adapters=row.adapters
            )
            for row in found[: asked.limit]
        ],
        next=places.following(found, asked.limit),
    )


def base(session: Session, viewer: Viewer, fingerprint: str) -> wire.BaseModel:
    """One base model; BaseNotFound."""
    scoped = matching.scopes(session, viewer)
    described = details(session, scoped, "base", [fingerprint])
    if not fingerprint.startswith("sha256:") or fingerprint not in described:
        raise BaseNotFound(fingerprint)
    return wire.BaseModel(
        base=msgspec.json.decode(described[fingerprint], type=wire.Base),
        adapters=count(session, scoped, ("base",), fingerprint),
    )


def tasks(session: Session, viewer: Viewer, asked: Page) -> wire.TaskPage:
    """A page of tasks with how many adapters there are for each, most first."""
    scoped = matching.scopes(session, viewer)
    found = top(session, scoped, "task", asked.limit + 1, places.counted(asked.after))
    return wire.TaskPage(
        items=[wire.Task(name=row.value, adapters=row.adapters) for row in found[: asked.limit]],
        next=places.following(found, asked.limit),
    )


def methods(session: Session, viewer: Viewer) -> dict[str, int]:
    """Each method and how many adapters use it, most first; the rarest of very many are left out."""
    found = top(session, matching.scopes(session, viewer), "method", _METHODS)
    return {row.value: row.adapters for row in found}


def organizations(session: Session, viewer: Viewer, asked: Page) -> wire.TaskPage:
    """A page of the organizations with how many adapters of each the viewer may read, most first."""
    scoped = matching.scopes(session, viewer)
    found = top(session, scoped, "org", asked.limit + 1, places.counted(asked.after))
    return wire.TaskPage(
        items=[wire.Task(name=row.value, adapters=row.adapters) for row in found[: asked.limit]],
        next=places.following(found, asked.limit),
    )


def called(session: Session, names: Sequence[str]) -> dict[str, str]:
    """What a reference hub calls these tasks, as far as it describes them."""
    rows = session.execute(
        select(Task.name, TaskProfile.display_name)
        .join(TaskProfile, TaskProfile.task_id == Task.id)
        .where(Task.name.in_(names))
    )
    return dict(iter(rows))


def profile(session: Session, name: str) -> tuple[TaskProfile | None, Sequence[Subtask]]:
    """What a reference hub says of a task, and of its parts."""
    found = session.scalar(
        select(TaskProfile).join(Task, Task.id == TaskProfile.task_id).where(Task.name == name)
    )
    parts = session.scalars(
        select(Subtask)
        .join(Task, Task.id == Subtask.task_id)
        .where(Task.name == name)
        .order_by(Subtask.name)
    )
    return found, parts.all()


def named(session: Session, viewer: Viewer, name: str) -> list[wire.Base]:
    """Every base model that some version calls so, as far as the viewer may know of it."""
    scoped = matching.scopes(session, viewer)
    start = "[" + msgspec.json.encode(name).decode() + ","
    keys = {
        msgspec.json.decode(each, type=tuple[str, str])[1]
        for each in starting(session, scoped, "named", [start])
    }
    described = details(session, scoped, "base", sorted(keys))
    return [msgspec.json.decode(each, type=wire.Base) for each in described.values()]


def has_task(session: Session, viewer: Viewer, name: str) -> bool:
    """Whether the viewer may read an adapter of this task."""
    return count(session, matching.scopes(session, viewer), ("task",), name) > 0


def compatible(session: Session, viewer: Viewer, name: str, asked: Page) -> wire.VersionPage:
    """A page of all active versions that fit a base: a fingerprint, or what versions call it.

    Raises:
        BaseNotFound: Nothing that the viewer may read was trained on it.
    """
    scoped = matching.scopes(session, viewer)
    start = "[" + msgspec.json.encode(name).decode() + ","
    called = starting(session, scoped, "named", [start])
    keys = {msgspec.json.decode(each, type=tuple[str, str])[1] for each in called}
    if count(session, scoped, ("base",), name):
        keys.add(name)
    if not keys:
        raise BaseNotFound(name)
    ids = session.scalars(select(BaseModel.id).where(BaseModel.key.in_(sorted(keys)))).all()
    key = (Variant.base_model_id, Variant.id, Version.number)
    query = (
        representation.versions_query()
        .where(Variant.base_model_id.in_(ids), Version.status == "active", readable(viewer))
        .order_by(*key)
        .limit(asked.limit + 1)
    )
    place = places.read(asked.after, _Place)
    if place is not None:
        query = query.where(tuple_(*key) > tuple_(*msgspec.structs.astuple(place)))
    rows = session.scalars(query).all()
    shown = rows[: asked.limit]
    following = None
    if len(rows) > asked.limit:
        last = shown[-1]
        end = _Place(last.variant.base_model_id, last.variant_id, last.number)
        following = places.write(end)
    return wire.VersionPage(items=[representation.version(row) for row in shown], next=following)


def stats(session: Session, viewer: Viewer) -> wire.Stats:
    """What the catalogue holds, as far as the viewer may read it."""
    scoped = matching.scopes(session, viewer)
    totals = {
        name: count(session, scoped, ("total",), name)
        for name in ("adapters", "versions", "size_bytes")
    }
    rows = session.execute(
        select(SearchCount.field, func.count(SearchCount.value.distinct()))
        .where(
            SearchCount.field.in_(["base", "task", "org"]), SearchCount.scope_id.in_(scoped.counted)
        )
        .group_by(SearchCount.field)
    )
    different = dict(iter(rows))
    return wire.Stats(
        **totals,
        bases=different.get("base", 0),
        tasks=different.get("task", 0),
        organizations=different.get("org", 0),
    )
