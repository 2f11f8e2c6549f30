"""A reference to exactly one version, or a problem that lists the candidates.

Nothing is guessed: the organization, the base and the config that were asked for are the ones that answer. Another
config answers only when the caller allows it, and the answer says so.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub_client import names, wire
from adapterhub_client.errors import MalformedReference
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import (
    AdapterNotFound,
    Ambiguous,
    InvalidRequest,
    MalformedName,
    NoVariantForBase,
    NoVariantForConfig,
    RegistryError,
    VersionNotFound,
    Yanked,
)
from adapterhub_registry.models import Adapter, Alias, RepositoryMove, Version
from adapterhub_registry.service import (
    draft,
    matching,
    recorded,
    representation,
    spelling,
    tombstone,
)
from adapterhub_registry.service.visibility import readable

_CANDIDATES = 50


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for beside the name."""

    base: str | None = None
    """a fingerprint, or what a version calls its base"""
    config: str | None = None
    """a config id, or a method's name"""
    version: str | None = None
    fallback: bool = False
    """another config may answer"""


def resolve(session: Session, viewer: Viewer, text: str, wanted: Wanted) -> wire.Resolution:
    """The one version that a reference stands for.

    Raises:
        MalformedName: The text is no reference.
        AdapterNotFound: With the nearest names.
        VersionNotFound, NoVariantForBase, NoVariantForConfig, Ambiguous, Yanked: With the candidates.
        NotMirrored: A reference hub lists it, and its weights are not here.
    """
    row, fell_back = find(session, viewer, pinned(text, wanted), wanted)
    return wire.Resolution(
        version=representation.version(row),
        manifest=representation.manifest(row),
        fell_back=fell_back,
    )


def pinned(text: str, wanted: Wanted) -> names.Reference:
    """The reference, pinned to the version that it or the query asks for."""
    reference = parsed(text)
    if wanted.version and reference.version and wanted.version != reference.version:
        raise InvalidRequest(
            f"The reference asks for {reference.version!r}, the query for {wanted.version!r}."
        )
    return reference.at(wanted.version or reference.version)


def parsed(text: str) -> names.Reference:
    """Read a reference; MalformedName where it is none."""
    try:
        return names.parse(text)
    except MalformedReference as error:
        raise MalformedName(f"{error} {error.hint}".strip()) from error


def find(
    session: Session, viewer: Viewer, reference: names.Reference, wanted: Wanted
) -> tuple[Version, bool]:
    """Find the row that `resolve` shows, and whether another config answered."""
    adapter = find_adapter(session, viewer, reference)
    rows = list(
        session.scalars(
            representation.versions_query()
            .where(Adapter.id == adapter.id)
            .order_by(Version.created_at.desc(), Version.id.desc())
        )
    )
    try:
        return _chosen(session, reference, rows, wanted)
    except RegistryError as error:
        if reference.version is not None and not isinstance(error, Ambiguous):
            pin = names.parse(adapter.full_name).at(reference.version)
            tombstone.refuse_pinned(session, viewer, pin, wanted.base, wanted.config)
        asked = recorded.Asked(wanted.base, wanted.config, reference.version)
        explained = recorded.explained(session, adapter, reference, asked, error)
        raise explained from None


def is_base(asked: str, fingerprint: str | None, name: str) -> bool:
    """Whether a base is the one that is asked for. A fingerprint is never somebody's name for another base."""
    return asked == fingerprint or (asked == name and not names.DIGEST.fullmatch(asked))


def _chosen(
    session: Session, reference: names.Reference, rows: list[Version], wanted: Wanted
) -> tuple[Version, bool]:
    rows = _for_base(reference, rows, wanted.base)
    rows, fell_back = _for_config(reference, rows, wanted)
    if reference.version is None:
        return _newest(reference, rows, fell_back=fell_back), fell_back
    return _pinned(session, reference, rows), fell_back


def find_adapter(session: Session, viewer: Viewer, reference: names.Reference) -> Adapter:
    """Find an adapter the viewer may read, by its name or one it had before; for all others it does not exist.

    Raises:
        Deleted: There was one of this name.
        AdapterNotFound: With the nearest names, or with why a draft is none yet.
    """
    named = select(Adapter).where(readable(viewer))
    adapter = session.scalar(named.filter_by(full_name=reference.adapter))
    if adapter is None:
        moved = session.get(RepositoryMove, reference.adapter)
        if moved is not None:
            adapter = session.scalar(named.filter_by(full_name=moved.new_name))
    if adapter is None:
        tombstone.refuse_retired(session, viewer, reference.adapter)
        draft.refuse(session, viewer, reference.adapter)
        raise AdapterNotFound(reference.adapter, _nearest(session, viewer, reference.adapter))
    return adapter


def _for_base(reference: names.Reference, rows: list[Version], base: str | None) -> list[Version]:
    if base is None:
        return rows
    # One name may be given to a base by one version and not by another of the same fingerprint.
    keys = {
        row.variant.base_model_id
        for row in rows
        if is_base(base, row.variant.base_model.fingerprint, row.base_name)
    }
    found = [row for row in rows if row.variant.base_model_id in keys]
    if not found:
        raise NoVariantForBase(reference.adapter, base, _candidates(rows))
    return found


def _for_config(
    reference: names.Reference, rows: list[Version], wanted: Wanted
) -> tuple[list[Version], bool]:
    if wanted.config is None:
        return rows, False
    found = [row for row in rows if wanted.config in {row.variant.config_id, row.variant.method}]
    if found:
        return found, False
    if not wanted.fallback:
        raise NoVariantForConfig(reference.adapter, wanted.config, _candidates(rows))
    return rows, True


def _newest(reference: names.Reference, rows: list[Version], *, fell_back: bool) -> Version:
    offered = [row for row in rows if row.status != "yanked"]
    if not offered:
        raise Yanked(reference.adapter, _candidates(rows))
    bases = {row.variant.base_model_id for row in offered}
    variants = {row.variant_id for row in offered}
    if len(bases) > 1 or (len(variants) > 1 and not fell_back):
        raise Ambiguous(reference.adapter, _candidates(offered))
    if len(variants) == 1:
        return max(offered, key=lambda row: row.number)
    return offered[0]


def _pinned(session: Session, reference: names.Reference, rows: list[Version]) -> Version:
    pin = reference.version or ""
    aliased: set[int] = set()
    if names.NUMBER.fullmatch(pin):
        found = [row for row in rows if row.number == int(pin)]
    elif names.DIGEST.fullmatch(pin):
        found = [row for row in rows if row.digest == pin]
    else:
        aliased = set(session.scalars(select(Alias.version_id).filter_by(name=pin)))
        found = [row for row in rows if row.id in aliased]
    if not found:
        raise VersionNotFound(reference.adapter, pin, _candidates(rows))
    if len(found) > 1:
        raise Ambiguous(str(reference), _shown(found))
    if aliased and found[0].status == "yanked":
        raise Yanked(str(reference), _candidates(rows))
    return found[0]


def _candidates(rows: Sequence[Version]) -> list[wire.Version]:
    """The newest version of each variant, those that are not yanked first."""
    newest: dict[int, Version] = {}
    for row in sorted(rows, key=lambda row: (row.status == "yanked", -row.number)):
        newest.setdefault(row.variant_id, row)
    return _shown(list(newest.values()))


def _shown(rows: Sequence[Version]) -> list[wire.Version]:
    return [representation.version(row) for row in rows[:_CANDIDATES]]


def _nearest(session: Session, viewer: Viewer, name: str) -> list[str]:
    return spelling.nearest_names(session, matching.scopes(session, viewer), name)
