"""The two reads that every pull makes, resolve and manifest, without building objects from rows.

`resolved` answers where exactly one version does. Everything else (candidates, withdrawn and deleted versions, moved
names) is `resolution.find`'s, which also decides what the few rules here mean; a test holds the two together.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple

import msgspec
from sqlalchemy import Connection, Select, Text, bindparam, cast, select

from adapterhub_client import names, wire
from adapterhub_registry.database import Found, Lookup
from adapterhub_registry.domain.permission import ANONYMOUS, Viewer
from adapterhub_registry.models import Account, Adapter, BaseModel, Variant, Version
from adapterhub_registry.service.representation import moment
from adapterhub_registry.service.resolution import Wanted, is_base
from adapterhub_registry.service.visibility import readable


class Answer(msgspec.Struct, frozen=True):
    """A `Resolution` whose manifest is the very bytes that are kept."""

    version: wire.Version
    manifest: msgspec.Raw
    fell_back: bool = False


class Facts(NamedTuple):
    """What a manifest is answered with."""

    private: bool
    reference: str
    number: int
    status: wire.Status
    reason: str | None
    manifest: bytes | None = None
    """unless only the rest was asked for"""


class _Row(NamedTuple):
    """A version as `resolved` reads it."""

    id: int
    number: int
    digest: str
    status: wire.Status
    reason: str | None
    base: str
    base_name: str
    created_at: datetime
    size_bytes: int
    published_as: str | None
    variant_id: int
    method: str
    config_id: str
    base_model_id: int
    fingerprint: str
    full_name: str
    created_by: str
    manifest: bytes | None = None
    """of one that is offered"""


class _Manifest(NamedTuple):
    """The canonical form of a version."""

    manifest: bytes


class _Seen(Generic[Found]):
    """Rows that a viewer may read; what the public may read is asked for most, and is a statement of its own."""

    def __init__(self, query: Select[*tuple[Any, ...]], row: Callable[..., Found]) -> None:
        self._public = Lookup(query.where(readable(ANONYMOUS)), row)
        self._all = Lookup(query, row)

    def rows(self, connection: Connection, viewer: Viewer, given: dict[str, object]) -> list[Found]:
        """Those of these keys."""
        if viewer == ANONYMOUS:
            return self._public.rows(connection, given)
        return self._all.rows(connection, given, readable(viewer))


_version, _variant = Version.__table__.c, Variant.__table__.c
_base, _adapter = BaseModel.__table__.c, Adapter.__table__.c
_JOINED = Version.__table__.join(Variant.__table__, _variant.id == _version.variant_id).join(
    Adapter.__table__, _adapter.id == _variant.adapter_id
)
_NEWEST = Version.__table__.alias()
_VERSIONS = (
    select(
        _version.id,
        _version.number,
        _version.digest,
        _version.status,
        _version.reason,
        cast(_version.base, Text),  # only that of the version that is chosen is read
        _version.base_name,
        _version.created_at,
        _version.size_bytes,
        _version.published_as,
        _version.variant_id,
        _variant.method,
        _variant.config_id,
        _variant.base_model_id,
        _base.fingerprint,
        _adapter.full_name,
        Account.__table__.c.name,
    )
    .select_from(
        _JOINED.join(BaseModel.__table__, _base.id == _variant.base_model_id).join(
            Account.__table__, Account.__table__.c.id == _version.created_by_id
        )
    )
    .where(_adapter.full_name == bindparam("name"))
)
_ALL = _Seen(_VERSIONS, _Row)
_OFFERED = _Seen(
    _VERSIONS.add_columns(_version.manifest).where(
        _version.id
        == select(_NEWEST.c.id)
        .where(_NEWEST.c.variant_id == _variant.id, _NEWEST.c.status != "yanked")
        .order_by(_NEWEST.c.number.desc())
        .limit(1)
        .scalar_subquery()
    ),
    _Row,
)
"""of each variant the version that answers where none is asked for"""
_MANIFEST = Lookup(select(_version.manifest).where(_version.id == bindparam("id")), _Manifest)
_FACTS = (
    select(_adapter.private, _adapter.full_name, _version.number, _version.status, _version.reason)
    .select_from(_JOINED)
    .where(_version.digest == bindparam("digest"))
)
_SEEN_FACTS = _Seen(_FACTS, Facts)
_SEEN_FACTS_AND_MANIFEST = _Seen(_FACTS.add_columns(_version.manifest), Facts)


def resolved(
    connection: Connection, viewer: Viewer, reference: names.Reference, wanted: Wanted
) -> Answer | None:
    """The one version that answers, or None where `resolution.find` has to say what to do."""
    if wanted.fallback or not _is_simple(reference.version):
        return None
    is_named = wanted.base is not None and not names.DIGEST.fullmatch(wanted.base)
    lookup = _OFFERED if reference.version is None and not is_named else _ALL
    rows = lookup.rows(connection, viewer, {"name": reference.adapter})
    if wanted.base is not None:
        keys = {
            row.base_model_id
            for row in rows
            if is_base(wanted.base, row.fingerprint, row.base_name)
        }
        rows = [row for row in rows if row.base_model_id in keys]
    if wanted.config is not None:
        rows = [row for row in rows if wanted.config in {row.config_id, row.method}]
    row = _only(rows, reference.version)
    if row is None:
        return None
    manifest = row.manifest or _MANIFEST.rows(connection, {"id": row.id})[0].manifest
    return Answer(_shown(row), msgspec.Raw(manifest))


def facts(
    connection: Connection, viewer: Viewer, digest: str, *, with_manifest: bool
) -> Facts | None:
    """What is kept of the version of this digest, or None where the viewer sees none."""
    lookup = _SEEN_FACTS_AND_MANIFEST if with_manifest else _SEEN_FACTS
    return next(iter(lookup.rows(connection, viewer, {"digest": digest})), None)


def _is_simple(pin: str | None) -> bool:
    """Whether a pin is said by the version itself; aliases are rows of their own."""
    return pin is None or bool(names.NUMBER.fullmatch(pin) or names.DIGEST.fullmatch(pin))


def _only(rows: Sequence[_Row], pin: str | None) -> _Row | None:
    """The row that is meant: of a pin the one that has it, else the newest of the only variant that is offered."""
    if pin is not None:
        found = [row for row in rows if pin in {str(row.number), row.digest}]
        return found[0] if len(found) == 1 else None
    offered = [row for row in rows if row.status != "yanked"]
    if len({row.variant_id for row in offered}) != 1:
        return None
    return max(offered, key=lambda row: row.number)


def _shown(row: _Row) -> wire.Version:
    return wire.Version(
        reference=row.full_name,
        number=row.number,
        digest=row.digest,
        status=row.status,
        reason=row.reason,
        base=msgspec.json.decode(row.base, type=wire.Base),
        method=row.method,
        config_id=row.config_id,
        variant=str(row.variant_id),
        created_at=moment(row.created_at),
        created_by=row.created_by,
        size_bytes=row.size_bytes,
        published_as=row.published_as,
    )
