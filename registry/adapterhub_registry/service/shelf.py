"""Lists of repositories as Hugging Face clients ask for them: adapters and drafts together, by keyset pages.

Two queries of one page each, merged: neither grows with the catalogue for being asked late.
"""

import base64
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec
from sqlalchemy import (
    ColumnElement,
    String,
    and_,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload

from adapterhub_client import names
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import BadRequest
from adapterhub_registry.models import (
    Adapter,
    Dataset,
    Metric,
    Organization,
    Repository,
    Task,
    Variant,
    Version,
)
from adapterhub_registry.service import repository, representation
from adapterhub_registry.service.visibility import readable

Sort = Literal["updated", "created", "downloads"]

_WORD = re.compile(r"[^\s/.@]+")
_MOST_WORDS = 16
_ADAPTER, _DRAFT = 1, 0
_LIBRARIES = {
    "adapters": ("adapters", "composition"),
    "adapter-transformers": ("adapters", "composition"),
    "composition": ("composition",),
    "peft": ("peft",),
}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What to list; everything that is set has to hold."""

    search: str = ""
    author: str | None = None
    tags: list[str] = []
    gated: bool | None = None
    sort: Sort = "updated"
    limit: int = 100
    after: str | None = None


class Item(msgspec.Struct, frozen=True):
    """A repository of a list: an adapter with its newest version, or a draft."""

    repo_id: str
    gated: str | None
    adapter: Adapter | None
    version: Version | None
    draft: Repository | None


class Page(msgspec.Struct, frozen=True):
    """A page, and where the next one begins; None at the end."""

    items: list[Item]
    after: str | None


class _Place(msgspec.Struct, frozen=True, array_like=True):
    sort: Sort
    value: str | int
    kind: int
    row: int


def page(session: Session, viewer: Viewer, asked: Asked) -> Page:
    """A page of the repositories that the viewer may see, newest or most downloaded first.

    Raises:
        BadRequest: `after` is not what a page gave.
    """
    place = None if asked.after is None else _place(asked)
    rows: list[tuple[int, Adapter | Repository]] = [
        *((_ADAPTER, row) for row in session.scalars(_adapters(viewer, asked, place))),
        *((_DRAFT, row) for row in session.scalars(_drafts(viewer, asked, place))),
    ]
    found = [(_value(row, asked.sort), kind, row.id, row) for kind, row in rows]
    found.sort(key=lambda row: row[:3], reverse=True)
    shown = found[: asked.limit]
    after = None
    if len(found) > asked.limit:
        value, kind, row, _ = shown[-1]
        text = value.isoformat() if isinstance(value, datetime) else value
        after = base64.urlsafe_b64encode(
            msgspec.json.encode(_Place(asked.sort, text, kind, row))
        ).decode()
    return Page(_items(session, [row[3] for row in shown]), after)


def _adapters(viewer: Viewer, asked: Asked, place: _Place | None) -> Any:  # noqa: ANN401  # a Select
    columns: dict[Sort, InstrumentedAttribute[Any]] = {
        "updated": Adapter.updated_at,
        "created": Adapter.created_at,
        "downloads": Adapter.downloads,
    }
    column = columns[asked.sort]
    conditions = [readable(viewer), *_words(Adapter.full_name, asked.search)]
    conditions += [_tagged(tag) for tag in asked.tags]
    if asked.author is not None:
        conditions.append(_owned(Adapter.organization_id, asked.author))
    if asked.gated is not None:
        gated = exists().where(
            Repository.full_name == Adapter.full_name, Repository.gated.is_not(None)
        )
        conditions.append(gated if asked.gated else ~gated)
    if place is not None:
        value = _typed(place)
        same = tuple_(column, Adapter.id) < tuple_(literal(value), place.row)
        conditions.append(same if place.kind == _ADAPTER else column < value)
    return (
        select(Adapter)
        .where(*conditions)
        .options(joinedload(Adapter.organization), joinedload(Adapter.task))
        .order_by(column.desc(), Adapter.id.desc())
        .limit(asked.limit + 1)
    )


def _drafts(viewer: Viewer, asked: Asked, place: _Place | None) -> Any:  # noqa: ANN401  # a Select
    published = exists().where(Adapter.full_name == Repository.full_name)
    conditions = [repository.readable_repositories(viewer), ~published]
    conditions += _words(Repository.full_name, asked.search)
    if asked.tags:
        conditions.append(false())
    if asked.author is not None:
        conditions.append(_owned(Repository.organization_id, asked.author))
    if asked.gated is not None:
        is_gated = Repository.gated.is_not(None)
        conditions.append(is_gated if asked.gated else ~is_gated)
    column = Repository.created_at if asked.sort == "created" else Repository.updated_at
    order: list[ColumnElement[Any]] = [column.desc(), Repository.id.desc()]
    if asked.sort == "downloads":
        order = [Repository.id.desc()]
    if place is not None:
        conditions.append(_draft_after(column, place, by_downloads=asked.sort == "downloads"))
    return (
        select(Repository)
        .where(*conditions)
        .options(joinedload(Repository.organization))
        .order_by(*order)
        .limit(asked.limit + 1)
    )


def _draft_after(
    column: InstrumentedAttribute[datetime], place: _Place, *, by_downloads: bool
) -> ColumnElement[bool]:
    """Drafts that come after a place; at one value adapters come first, and nobody downloads a draft."""
    if by_downloads:
        return Repository.id < place.row if place.kind == _DRAFT else true()
    value = _typed(place)
    if place.kind == _ADAPTER:
        return column <= value
    return tuple_(column, Repository.id) < tuple_(literal(value), place.row)


def _value(row: Adapter | Repository, sort: Sort) -> datetime | int:
    if sort == "downloads":
        return row.downloads if isinstance(row, Adapter) else 0
    return row.created_at if sort == "created" else row.updated_at


def _place(asked: Asked) -> _Place:
    try:
        content = base64.urlsafe_b64decode((asked.after or "").encode())
        place = msgspec.json.decode(content, type=_Place)
        _typed(place)
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise BadRequest("`cursor` is not what a page gave.") from error
    if place.sort != asked.sort:
        raise BadRequest("`cursor` is of a list in another order.")
    return place


def _typed(place: _Place) -> datetime | int:
    if place.sort == "downloads":
        return int(place.value)
    return datetime.fromisoformat(str(place.value))


def _words(column: InstrumentedAttribute[str], text: str) -> list[ColumnElement[bool]]:
    words = _WORD.findall(text.lower())[:_MOST_WORDS]
    return [column.contains(word, autoescape=True) for word in words]


def _owned(column: InstrumentedAttribute[int], name: str) -> ColumnElement[bool]:
    return column.in_(select(Organization.id).filter_by(name=name.lower()))


def _tagged(tag: str) -> ColumnElement[bool]:
    """What a tag of `huggingface/model.py` says, as a condition."""
    kind, colon, value = tag.partition(":")
    if colon:
        said = _SAID.get(kind)
        return false() if said is None else said(value)
    if tag == "safetensors":
        return true()
    if tag in _LIBRARIES:
        return _has_version(Version.format.in_(_LIBRARIES[tag]))
    return or_(
        Adapter.task_id.in_(select(Task.id).filter_by(name=tag)),
        _has_version(Variant.method == tag),
        _has_version(Version.base["architecture"].as_string() == tag),
        _speaks(tag),
    )


def _has_version(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return (
        exists()
        .where(and_(Variant.adapter_id == Adapter.id, Version.variant_id == Variant.id, condition))
        .correlate(Adapter)
    )


def _speaks(language: str) -> ColumnElement[bool]:
    quoted = msgspec.json.encode(language).decode()
    return func.lower(cast(Adapter.languages, String)).contains(quoted.lower(), autoescape=True)


def _measured_on(dataset: str) -> ColumnElement[bool]:
    on = select(Metric.version_id).join(Dataset).where(Dataset.name == dataset)
    return _has_version(Version.id.in_(on))


_SAID: dict[str, Callable[[str], ColumnElement[bool]]] = {
    "license": lambda value: Adapter.license == value,
    "language": _speaks,
    "task": lambda value: Adapter.task_id.in_(select(Task.id).filter_by(name=value)),
    "base_model": lambda value: _has_version(Version.base_name == value.removeprefix("adapter:")),
    "dataset": _measured_on,
}
"""what tags with a colon say, by the word before it"""


def _items(session: Session, rows: list[Adapter | Repository]) -> list[Item]:
    adapters = [row for row in rows if isinstance(row, Adapter)]
    held = session.scalars(
        select(Repository).where(Repository.full_name.in_([row.full_name for row in adapters]))
    )
    known = {row.full_name: row for row in held}
    newest = _newest(session, [row.id for row in adapters])
    items = []
    for row in rows:
        if isinstance(row, Repository):
            items.append(Item(row.spelling, row.gated, None, None, row))
            continue
        draft = known.get(row.full_name)
        repo_id = names.parse(row.full_name).repo_id if draft is None else draft.spelling
        gated = None if draft is None else draft.gated
        items.append(Item(repo_id, gated, row, newest.get(row.id), None))
    return items


def _newest(session: Session, adapter_ids: list[int]) -> dict[int, Version]:
    """The newest active version of each adapter, else its newest."""
    found: dict[int, Version] = {}
    for condition in (Version.status != "yanked", true()):
        ids = (
            select(func.max(Version.id))
            .join(Version.variant)
            .where(Variant.adapter_id.in_(set(adapter_ids) - set(found)), condition)
            .group_by(Variant.adapter_id)
        )
        query = representation.versions_query().where(Version.id.in_(ids))
        found |= {row.variant.adapter_id: row for row in session.scalars(query)}
    return found
