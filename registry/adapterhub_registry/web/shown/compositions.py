"""Compositions with the tree of each: what it is made of, at a glance."""

from collections.abc import Sequence

import msgspec
from sqlalchemy.orm import Session, undefer

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.models import Adapter, Version
from adapterhub_registry.service import representation
from adapterhub_registry.service.visibility import readable
from adapterhub_registry.web import expression


class Composed(msgspec.Struct, frozen=True):
    """The newest version of a composition."""

    version: wire.Version
    composition: wire.Composition
    tree: expression.Node | None

    @property
    def members(self) -> dict[str, wire.Member]:
        """The members by the names that the expression uses."""
        return {member.name: member for member in self.composition.members}


def trees(session: Session, viewer: Viewer, references: Sequence[str]) -> dict[str, Composed]:
    """The newest composition of each of these adapters, by its reference."""
    rows = session.scalars(
        representation.versions_query()
        .where(
            Adapter.full_name.in_(references),
            Version.format == "composition",
            Version.status != "yanked",
            readable(viewer),
        )
        .order_by(Version.id.desc())
        .options(undefer(Version.manifest))
    )
    found: dict[str, Composed] = {}
    for row in rows:
        composition = representation.manifest(row).composition
        name = row.variant.adapter.full_name
        if composition is not None and name not in found:
            tree = expression.tree(composition.expression)
            found[name] = Composed(representation.version(row), composition, tree)
    return found
