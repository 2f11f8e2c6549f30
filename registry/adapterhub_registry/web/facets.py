"""The answers that narrow a list, each with how many adapters it leaves; those that are chosen stay to be undone."""

import msgspec
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, aliased

from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.models import Adapter, BaseModel, Organization, Task, Variant, Version
from adapterhub_registry.service import catalogue
from adapterhub_registry.service.catalogue import Search
from adapterhub_registry.web.listing import Choice, Facet, url

_SHOWN = 24

_count = func.count(Adapter.id.distinct())
_named = aliased(Variant)
_base_name = (  # what the first version says; reading all of them would cost more than the whole page
    select(Version.base_name)
    .join(_named, _named.id == Version.variant_id)
    .where(_named.base_model_id == BaseModel.id)
    .order_by(_named.id, Version.number)
    .limit(1)
    .correlate(BaseModel)
    .scalar_subquery()
)
_QUESTIONS: dict[str, tuple[str, Select[str, str, int]]] = {
    "task": (
        "Task",
        select(Task.name, Task.name, _count)
        .join(Adapter, Adapter.task_id == Task.id)
        .group_by(Task.name),
    ),
    "base": (
        "Base model",
        select(func.coalesce(BaseModel.fingerprint, _base_name), _base_name, _count)
        .join(Variant, Variant.base_model_id == BaseModel.id)
        .join(Adapter, Adapter.id == Variant.adapter_id)
        .group_by(BaseModel.id),
    ),
    "method": (
        "Method",
        select(Variant.method, Variant.method, _count)
        .join(Adapter, Adapter.id == Variant.adapter_id)
        .group_by(Variant.method),
    ),
    "org": (
        "Organization",
        select(Organization.name, Organization.name, _count)
        .join(Adapter, Adapter.organization_id == Organization.id)
        .group_by(Organization.name),
    ),
}


def facets(session: Session, viewer: Viewer, search: Search) -> list[Facet]:
    """Every question; its counts are those of the search without the answer to it that is chosen now."""
    return [_facet(session, viewer, search, name) for name in _QUESTIONS]


def _facet(session: Session, viewer: Viewer, search: Search, name: str) -> Facet:
    title, query = _QUESTIONS[name]
    open_search = msgspec.structs.replace(search, **{name: None})
    matching = catalogue.matching(viewer, open_search).with_only_columns(Adapter.id)
    rows = session.execute(
        query.where(Adapter.id.in_(matching)).order_by(_count.desc()).limit(_SHOWN)
    )
    now = getattr(search, name)
    choices = [
        Choice(
            label=label,
            url=url(search, **{name: None if value == now else value}),
            value=value,
            adapters=adapters,
            chosen=value == now,
        )
        for value, label, adapters in rows
    ]
    return Facet(name, title, sorted(choices, key=lambda choice: not choice.chosen))
