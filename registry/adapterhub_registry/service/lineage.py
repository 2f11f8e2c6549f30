"""Where versions come from and what depends on them, both ways."""

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Select, func, select, union, union_all
from sqlalchemy.orm import Session, aliased

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.models import Adapter, Lineage, Member, Variant, Version
from adapterhub_registry.service import representation, tombstone
from adapterhub_registry.service.visibility import readable

SHOWN = 50


def relations(session: Session, viewer: Viewer, row: Version, shown: int = SHOWN) -> wire.Relations:
    """Everything around a version, as far as the viewer may read it."""
    manifest = representation.manifest(row)
    members = manifest.composition.members if manifest.composition else []
    digests = [each.digest for each in members] + [each.digest for each in manifest.lineage]
    here = _by_digest(session, viewer, digests)
    gone = tombstone.known(session, viewer, digests)
    pinning = select(Member.version_id).filter_by(member_version_id=row.id)
    born = select(Lineage.version_id).filter_by(digest=row.digest)
    compositions = _newest(session, viewer, pinning, shown)
    is_whole = len(compositions) < shown
    return wire.Relations(
        version=representation.version(row),
        members=[
            wire.Pinned(
                name=each.name,
                reference=each.reference,
                digest=each.digest,
                version=here.get(each.digest),
                tombstone=gone.get(each.digest),
            )
            for each in members
        ],
        parents=[
            wire.Ancestor(
                kind=each.kind,
                digest=each.digest,
                version=here.get(each.digest),
                tombstone=gone.get(each.digest),
            )
            for each in manifest.lineage
        ],
        used_in=len(compositions) if is_whole else _count(session, viewer, pinning),
        compositions=compositions,
        children=_newest(session, viewer, born, shown),
        dependants=_count(session, viewer, _descended([row.id], [row.digest])),
    )


def dependants(session: Session, viewer: Viewer, rows: Iterable[Version]) -> list[wire.Version]:
    """What pins these versions or came from them, directly or through others, newest first; not they themselves."""
    below = _descended([row.id for row in rows], [row.digest for row in rows])
    return _newest(session, viewer, below, SHOWN)


def pinned_by_public(
    session: Session, rows: Collection[Version], *, besides: int | None = None
) -> list[wire.Version]:
    """The public compositions that pin these versions; those of the adapter `besides` do not count."""
    query = (
        representation.versions_query()
        .join(Member, Member.version_id == Version.id)
        .where(
            Member.member_version_id.in_([row.id for row in rows]),
            Adapter.private.is_(False),
            *([] if besides is None else [Adapter.id != besides]),
            Version.id.not_in([row.id for row in rows]),
        )
        .order_by(Version.id.desc())
        .limit(SHOWN)
    )
    return [representation.version(row) for row in session.scalars(query).unique()]


def private_members(session: Session, version_ids: Sequence[int]) -> list[str]:
    """The names of the private adapters that these versions pin."""
    pinned = select(Member.member_version_id).where(Member.version_id.in_(version_ids))
    return list(
        session.scalars(
            select(Adapter.full_name)
            .join(Variant, Variant.adapter_id == Adapter.id)
            .join(Version, Version.variant_id == Variant.id)
            .where(Version.id.in_(pinned), Adapter.private.is_(True))
            .distinct()
            .order_by(Adapter.full_name)
        )
    )


def used_in(session: Session, viewer: Viewer, version_ids: Collection[int]) -> dict[str, int]:
    """How many versions of compositions pin each of these, by digest; those that none pins are left out."""
    pinned = aliased(Version)
    rows = session.execute(
        select(pinned.digest, func.count(Version.id.distinct()))
        .select_from(pinned)
        .join(Member, Member.member_version_id == pinned.id)
        .join(Version, Version.id == Member.version_id)
        .join(Version.variant)
        .join(Variant.adapter)
        .where(pinned.id.in_(version_ids), readable(viewer))
        .group_by(pinned.digest)
    )
    return dict(rows.all())


def _descended(version_ids: Sequence[int], digests: Sequence[str]) -> Select[int]:
    """The ids of all that pins or came from these, through any number of steps; UNION ends every circle."""
    first = union(
        select(Member.version_id.label("id")).where(Member.member_version_id.in_(version_ids)),
        select(Lineage.version_id.label("id")).where(Lineage.digest.in_(digests)),
    ).subquery()
    below = select(first.c.id).cte("below", recursive=True)
    # one recursive term, since SQLite before 3.34 and PostgreSQL take no more
    steps = union_all(
        select(Member.member_version_id.label("above"), Member.version_id.label("id")),
        select(Version.id.label("above"), Lineage.version_id.label("id")).join(
            Version, Version.digest == Lineage.digest
        ),
    ).subquery()
    below = below.union(select(steps.c.id).join(below, steps.c.above == below.c.id))
    return select(below.c.id).where(below.c.id.not_in(version_ids))


def _newest(session: Session, viewer: Viewer, ids: Select[int], shown: int) -> list[wire.Version]:
    rows = session.scalars(
        representation.versions_query()
        .where(Version.id.in_(ids), readable(viewer))
        .order_by(Version.created_at.desc(), Version.id.desc())
        .limit(shown)
    )
    return [representation.version(row) for row in rows]


def _count(session: Session, viewer: Viewer, ids: Select[int]) -> int:
    query = select(func.count(Version.id)).join(Version.variant).join(Variant.adapter)
    return session.scalar(query.where(Version.id.in_(ids), readable(viewer))) or 0


def _by_digest(session: Session, viewer: Viewer, digests: list[str]) -> dict[str, wire.Version]:
    if not digests:
        return {}
    rows = session.scalars(
        representation.versions_query().where(Version.digest.in_(digests), readable(viewer))
    )
    return {row.digest: representation.version(row) for row in rows}
