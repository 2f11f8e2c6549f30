"""A query as clauses of SQL over `search_document`: the same adapters on SQLite and on PostgreSQL.

Words and answers are found together by the database's own full text: an answer is kept there as a word of its own, its
mark. Words were cut before they came here, so neither database cuts them again. Scores are looked up in their table.
"""

import hashlib
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Integer,
    Select,
    bindparam,
    cast,
    column,
    exists,
    literal_column,
    not_,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import InstrumentedAttribute, Session

from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.domain.query import Filter, Item, Operator, Query, Score, Words
from adapterhub_registry.models import (
    Dataset,
    SearchDocument,
    SearchFacet,
    SearchScore,
)
from adapterhub_registry.models.search import EVERYTHING, PUBLIC
from adapterhub_registry.service.visibility import organizations_of

_COMPARED: dict[Operator, Callable[[InstrumentedAttribute[float], float], ColumnElement[bool]]] = {
    ">=": lambda column, value: column >= value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    "<": lambda column, value: column < value,
    "=": lambda column, value: column == value,
}
_KEPT_AS = {
    "base": ("base", "base_name"),
    "fingerprint": ("base",),
    "method": ("method", "config"),
}
"""fields of a query that are kept under other names"""


TITLE, ANSWER = "#", "="
"""signs before what a tsvector has beside the words of the text"""
Told = Words | Filter
"""what the index of words is asked for"""


class Scopes(msgspec.Struct, frozen=True):
    """What a viewer may read: the public, and the private adapters of their organizations."""

    ids: tuple[int, ...]
    everything: bool = False

    @property
    def counted(self) -> tuple[int, ...]:
        """The scopes whose counts add up to what the viewer sees."""
        return (EVERYTHING,) if self.everything else self.ids

    @property
    def clauses(self) -> tuple[ColumnElement[bool], ...]:
        """Documents of these scopes."""
        return () if self.everything else (SearchDocument.scope_id.in_(self.ids),)


class Matching(msgspec.Struct, frozen=True):
    """Clauses that a document has to fulfil."""

    rest: tuple[ColumnElement[bool], ...]
    words: tuple[ColumnElement[bool], ...]
    """what it has to say and to answer, apart: full text can be asked for all of its documents at once"""

    @property
    def clauses(self) -> tuple[ColumnElement[bool], ...]:
        """All of them."""
        return (*self.rest, *self.words)


def scopes(session: Session, viewer: Viewer) -> Scopes:
    """What the viewer may read, now."""
    if viewer.rules_everything:
        return Scopes((), everything=True)
    if viewer.is_anonymous:
        return Scopes((PUBLIC,))
    mine = session.scalars(organizations_of(viewer))
    return Scopes((PUBLIC, *sorted(mine)))


def matching(session: Session, scoped: Scopes, query: Query) -> Matching:
    """The clauses of a query for this database."""
    told = query.told
    others = [item for item in query.items if item not in told]
    return Matching(
        rest=(*scoped.clauses, *(clause(session, item) for item in others)),
        words=(says(session, told),) if told else (),
    )


def clause(session: Session, item: Item) -> ColumnElement[bool]:
    """One item of a query."""
    match item:
        case Filter():
            found: ColumnElement[bool] = _has(item)
        case Score():
            found = _scores(item)
        case Words():
            found = says(session, [msgspec.structs.replace(item, negated=False)])
    return not_(found) if item.negated else found


def says(session: Session, items: Sequence[Told], *, title: bool = False) -> ColumnElement[bool]:
    """Documents that have all of these words and answers; with `title`, the words in the name."""
    if is_sqlite(session):
        own = text("search_text.rowid = search_document.adapter_id AND search_text MATCH :said")
        rows = select(literal_column("1", Integer)).select_from(text("search_text"))
        return rows.where(own.bindparams(_said(items, title=title))).exists()
    wanted = cast(tsquery(items, title=title), TSQUERY)
    return SearchDocument.words.op("@@", is_comparison=True)(wanted)


def saying(session: Session, items: Sequence[Told], *, title: bool = False) -> Select[int]:
    """The ids of all documents that have these words and answers, in the way that finds them by the index."""
    ids = select(SearchDocument.adapter_id)
    if not is_sqlite(session):
        return ids.where(says(session, items, title=title))
    said = text("search_text MATCH :said").bindparams(_said(items, title=title))
    found = table("search_text", column("rowid", Integer))
    return (
        ids.select_from(found)
        .join(SearchDocument, SearchDocument.adapter_id == found.c.rowid)
        .where(said)
    )


def _said(items: Sequence[Told], *, title: bool) -> BindParameter[str]:
    """A parameter of its own: a query may ask for words of the name and for words of the rest."""
    return bindparam("said", fts5(items, title=title), unique=True)


def fts5(items: Sequence[Told], *, title: bool = False) -> str:
    """Words and answers as FTS5 asks for them; those that must not be there come last."""
    wanted = " AND ".join(_fts5(each, title=title) for each in items if not each.negated)
    return f"({wanted})" + "".join(f" NOT {_fts5(each)}" for each in items if each.negated)


def tsquery(items: Sequence[Told], *, title: bool = False) -> str:
    """Words and answers as a tsquery spells them; those that must not be there come last."""
    wanted = [_tsquery(each, title=title) for each in items if not each.negated]
    return " & ".join([*wanted, *(f"!{_tsquery(each)}" for each in items if each.negated)])


def _fts5(item: Told, *, title: bool = False) -> str:
    if isinstance(item, Filter):
        return "answers : (" + " OR ".join(f'"{each}"' for each in marks(item)) + ")"
    phrase = f'"{" ".join(item.tokens)}"{"" if item.quoted else " *"}'
    return f"{'title' if title else '{title body}'} : {phrase}"


def _tsquery(item: Told, *, title: bool = False) -> str:
    if isinstance(item, Filter):
        return "(" + " | ".join(f"'{ANSWER}{each}'" for each in marks(item)) + ")"
    return f"({_phrase(item, TITLE if title else '')})"


def marks(item: Filter) -> list[str]:
    """The marks of an answer, one for each field that it may be kept under."""
    return [mark(field, item.value) for field in kept_as(item.field)]


def mark(field: str, value: str) -> str:
    """An answer as a word that no text has: of any length and in any letters it is the same sixteen digits."""
    return hashlib.blake2b(f"{field}\0{value}".encode(), digest_size=8).hexdigest()


def is_sqlite(session: Session) -> bool:
    """Which of the two databases this is."""
    return session.get_bind().dialect.name == "sqlite"


def _phrase(words: Words, sign: str) -> str:
    found = [f"'{sign}{word}'" for word in words.tokens]
    return " <-> ".join(found) + ("" if words.quoted else ":*")


def kept_as(field: str) -> tuple[str, ...]:
    """The fields among the facets that a field of a query asks."""
    return _KEPT_AS.get(field, (field,))


def row_order(session: Session) -> ColumnElement[int]:
    """The newest first, as `saying` can walk; FTS5 only knows its own row numbers."""
    if is_sqlite(session):
        return literal_column("search_text.rowid", Integer).desc()
    return SearchDocument.adapter_id.desc()


def has(item: Filter) -> tuple[ColumnElement[bool], ...]:
    """Facets that give the answer: a base goes by its fingerprint or by a name, a method by its name or its config."""
    fields = kept_as(item.field)
    field = SearchFacet.field
    return field == fields[0] if len(fields) == 1 else field.in_(
        fields
    ), SearchFacet.value == item.value


def _has(item: Filter) -> ColumnElement[bool]:
    own = SearchFacet.adapter_id == SearchDocument.adapter_id
    return exists().where(*has(item), own).correlate(SearchDocument)


def _scores(item: Score) -> ColumnElement[bool]:
    own = SearchScore.adapter_id == SearchDocument.adapter_id
    return exists().where(own, *scored(item)).correlate(SearchDocument)


def scored(item: Score) -> list[ColumnElement[bool]]:
    """Scores that a comparison is true of; a metric is found as it is typed, and in lower case."""
    conditions: list[ColumnElement[bool]] = [
        SearchScore.name.in_(sorted({item.metric, item.metric.lower()}))
    ]
    if item.dataset is not None:
        known = select(Dataset.id).where(Dataset.name == item.dataset).scalar_subquery()
        conditions.append(SearchScore.dataset_id == known)
    if item.operator is not None:
        conditions.append(_COMPARED[item.operator](SearchScore.value, item.value))
    return conditions
