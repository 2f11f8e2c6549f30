"""Sets of adapters, and counts that are kept."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import ARRAY, ColumnElement, Integer, any_, bindparam, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from adapterhub_registry.models import SearchCount
from adapterhub_registry.service.matching import Scopes, is_sqlite

_NO_END = "\U0010ffff"


class Counted(msgspec.Struct, frozen=True):
    """An answer and how many adapters give it; `detail` is the base model as JSON, where it is one."""

    value: str
    adapters: int
    detail: str | None = None


def among(
    session: Session, column: InstrumentedAttribute[int], ids: Sequence[int]
) -> ColumnElement[bool]:
    """One of many ids, as one parameter: a thousand of them would cost more to say than to find."""
    if is_sqlite(session):
        listed = func.json_each(msgspec.json.encode(list(ids)).decode()).table_valued("value")
        return column.in_(select(listed.c.value))
    given = bindparam(None, list(ids), type_=ARRAY(Integer))
    return column == any_(given)


def count(session: Session, scoped: Scopes, fields: Sequence[str], value: str) -> int:
    """How many adapters that the viewer may read give an answer."""
    total = session.scalar(
        select(func.sum(SearchCount.adapters)).where(
            SearchCount.field.in_(fields),
            SearchCount.value == value,
            SearchCount.scope_id.in_(scoped.counted),
        )
    )
    return int(total or 0)


def top(
    session: Session,
    scoped: Scopes,
    field: str,
    limit: int,
    before: tuple[int, str] | None = None,
) -> list[Counted]:
    """The most frequent answers that the viewer may see, each with its count; `before` is where the last page ended."""
    if len(scoped.counted) == 1:
        return _top_of_one(session, scoped.counted[0], field, limit, before)
    total = func.sum(SearchCount.adapters)
    query = (
        select(SearchCount.value, total, func.max(SearchCount.detail))
        .where(SearchCount.field == field, SearchCount.scope_id.in_(scoped.counted))
        .group_by(SearchCount.value)
    )
    if before is not None:
        adapters, value = before
        query = query.having(
            (total < adapters) | ((total == adapters) & (SearchCount.value > value))
        )
    rows = session.execute(query.order_by(total.desc(), SearchCount.value).limit(limit))
    return [Counted(value, int(adapters), detail) for value, adapters, detail in rows]


def _top_of_one(
    session: Session, scope_id: int, field: str, limit: int, before: tuple[int, str] | None
) -> list[Counted]:
    """As `top`, read from the end of one index."""
    query = select(SearchCount.value, SearchCount.adapters, SearchCount.detail).where(
        SearchCount.field == field, SearchCount.scope_id == scope_id
    )
    if before is not None:
        adapters, value = before
        query = query.where(
            (SearchCount.adapters <= adapters)
            & ((SearchCount.adapters < adapters) | (SearchCount.value > value))
        )
    order = (SearchCount.adapters.desc(), SearchCount.value)
    return [Counted(*row) for row in session.execute(query.order_by(*order).limit(limit))]


def starting(session: Session, scoped: Scopes, field: str, starts: Sequence[str]) -> dict[str, int]:
    """The answers that begin so, each with its count."""
    begin = [
        (SearchCount.value >= start) & (SearchCount.value < start + _NO_END) for start in starts
    ]
    rows = session.execute(
        select(SearchCount.value, func.sum(SearchCount.adapters))
        .where(
            SearchCount.field == field,
            or_(*begin),
            SearchCount.scope_id.in_(scoped.counted),
        )
        .group_by(SearchCount.value)
    )
    return {value: int(adapters) for value, adapters in rows}


def details(session: Session, scoped: Scopes, field: str, values: Sequence[str]) -> dict[str, str]:
    """What is kept beside these answers, as far as the viewer may know of them."""
    rows = session.execute(
        select(SearchCount.value, func.max(SearchCount.detail))
        .where(
            SearchCount.field == field,
            SearchCount.value.in_(values),
            SearchCount.scope_id.in_(scoped.counted),
        )
        .group_by(SearchCount.value)
    )
    return {value: detail for value, detail in rows if detail is not None}
