"""The two reads that every pull makes, resolve and manifest, without building objects from rows.

`resolved` answers where exactly one version does. Everything else (candidates, withdrawn and deleted versions, moved
names) is `resolution.find`'s, which also decides what the few rules here mean; a test holds the two together.
"""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from sqlalchemy import Connection, Row, Select, bindparam, case, func, select

from adapterhub_client import names, wire
from adapterhub_registry.database import PREPARED
from adapterhub_registry.domain.permission import ANONYMOUS, Viewer
from adapterhub_registry.models import Account, Adapter, BaseModel, Variant, Version
from adapterhub_registry.service.representation import moment
from adapterhub_registry.service.resolution import Wanted
from adapterhub_registry.service.visibility import readable


class Answer(msgspec.Struct, frozen=True):
    """A `Resolution` whose manifest is the very bytes that are kept."""

    version: wire.Version
    manifest: msgspec.Raw
    fell_back: bool = False


class Facts(msgspec.Struct, frozen=True):
    """What a manifest is answered with."""

    private: bool
    reference: str
    number: int
    status: wire.Status
    reason: str | None
    manifest: bytes | None = None
    """unless only the rest was asked for"""


_version, _variant = Version.__table__.c, Variant.__table__.c
_base, _adapter = BaseModel.__table__.c, Adapter.__table__.c
_JOINED = Version.__table__.join(Variant.__table__, _variant.id == _version.variant_id).join(
    Adapter.__table__, _adapter.id == _variant.adapter_id
)
_IS_NEWEST = (
    func.row_number().over(
        partition_by=(_version.variant_id, _version.status == "yanked"),
        order_by=_version.number.desc(),
    )
    == 1
)
_VERSIONS = (
    select(
        # of all versions only those that may answer without a pin bring their manifest
        case((_IS_NEWEST, _version.manifest)).label("manifest"),
        _version.id,
        _version.number,
        _version.digest,
        _version.status,
        _version.reason,
        _version.base,
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
        Account.__table__.c.name.label("created_by"),
    )
    .select_from(
        _JOINED.join(BaseModel.__table__, _base.id == _variant.base_model_id).join(
            Account.__table__, Account.__table__.c.id == _version.created_by_id
        )
    )
    .where(_adapter.full_name == bindparam("name"))
    .execution_options(**PREPARED)
)
_MANIFEST = (
    select(_version.manifest).where(_version.id == bindparam("id")).execution_options(**PREPARED)
)
_FACTS = (
    select(_adapter.private, _adapter.full_name, _version.number, _version.status, _version.reason)
    .select_from(_JOINED)
    .where(_version.digest == bindparam("digest"))
    .execution_options(**PREPARED)
)
_FACTS_AND_MANIFEST = _FACTS.add_columns(_version.manifest)
_PUBLIC = {
    query: query.where(readable(ANONYMOUS)) for query in (_VERSIONS, _FACTS, _FACTS_AND_MANIFEST)
}
"""as whoever sent no token sees them"""


def resolved(
    connection: Connection, viewer: Viewer, reference: names.Reference, wanted: Wanted
) -> Answer | None:
    """The one version that answers, or None where `resolution.find` has to say what to do."""
    if wanted.fallback or not _is_simple(reference.version):
        return None
    rows = connection.execute(_seen(_VERSIONS, viewer), {"name": reference.adapter}).all()
    if wanted.base is not None:
        keys = {
            row.base_model_id for row in rows if wanted.base in {row.fingerprint, row.base_name}
        }
        rows = [row for row in rows if row.base_model_id in keys]
    if wanted.config is not None:
        rows = [row for row in rows if wanted.config in {row.config_id, row.method}]
    row = _only(rows, reference.version)
    if row is None:
        return None
    manifest = row.manifest or connection.execute(_MANIFEST, {"id": row.id}).scalar_one()
    return Answer(_shown(row), msgspec.Raw(manifest))


def facts(
    connection: Connection, viewer: Viewer, digest: str, *, with_manifest: bool
) -> Facts | None:
    """What is kept of the version of this digest, or None where the viewer sees none."""
    query = _FACTS_AND_MANIFEST if with_manifest else _FACTS
    row = connection.execute(_seen(query, viewer), {"digest": digest}).one_or_none()
    return None if row is None else Facts(*row)


def _seen(query: Select[*tuple[Any, ...]], viewer: Viewer) -> Select[*tuple[Any, ...]]:
    return _PUBLIC[query] if viewer == ANONYMOUS else query.where(readable(viewer))


def _is_simple(pin: str | None) -> bool:
    """Whether a pin is said by the version itself; aliases are rows of their own."""
    return pin is None or bool(names.NUMBER.fullmatch(pin) or names.DIGEST.fullmatch(pin))


def _only(rows: Sequence[Row[*tuple[Any, ...]]], pin: str | None) -> Row[*tuple[Any, ...]] | None:
    """The row that is meant: of a pin the one that has it, else the newest of the only variant that is offered."""
    if pin is not None:
        found = [row for row in rows if pin in {str(row.number), row.digest}]
        return found[0] if len(found) == 1 else None
    offered = [row for row in rows if row.status != "yanked"]
    if len({row.variant_id for row in offered}) != 1:
        return None
    return max(offered, key=lambda row: cast("int", row.number))


def _shown(row: Row[*tuple[Any, ...]]) -> wire.Version:
    return wire.Version(
        reference=row.full_name,
        number=row.number,
        digest=row.digest,
        status=row.status,
        reason=row.reason,
        base=msgspec.convert(row.base, wire.Base),
        method=row.method,
        config_id=row.config_id,
        variant=str(row.variant_id),
        created_at=moment(row.created_at),
        created_by=row.created_by,
        size_bytes=row.size_bytes,
        published_as=row.published_as,
    )
