"""What a version comes from and what came of it: boxes to draw, and a list to read."""

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from adapterhub_client import wire
from adapterhub_client.charts.text import short
from adapterhub_registry.web.charts.lineage import Box, lineage
from adapterhub_registry.web.page import adapter_path

_DRAWN = 8


class Relative(msgspec.Struct, frozen=True):
    """One of them: in what way it is related, and the version where the viewer may read it."""

    role: str
    digest: str
    version: wire.Version | None
    tombstone: wire.Tombstone | None = None
    name: str = ""


class Relatives(msgspec.Struct, frozen=True):
    """All of them, and their drawing."""

    before: list[Relative]
    after: list[Relative]
    dependants: int
    drawing: Markup | None


def relatives(found: wire.Relations) -> Relatives:
    """Gather what stands around a version."""
    members = [
        Relative("member", each.digest, each.version, each.tombstone, each.name)
        for each in found.members
    ]
    pinned = {each.digest for each in members}
    parents = [
        Relative(each.kind, each.digest, each.version, each.tombstone)
        for each in found.parents
        if each.digest not in pinned
    ]
    users = [Relative("composition", each.digest, each) for each in found.compositions]
    composed = {each.digest for each in users}
    children = [
        Relative("trained on", each.digest, each)
        for each in found.children
        if each.digest not in composed
    ]
    before, after = [*parents, *members], [*users, *children]
    drawn = _drawing(found.version, before, after) if before or after else None
    return Relatives(before, after, found.dependants, drawn)


def _drawing(own: wire.Version, before: Sequence[Relative], after: Sequence[Relative]) -> Markup:
    base = Box(own.base.name, "base model", _base_path(own.base), "frozen")
    middle = Box(f"{own.reference}:{own.number}", "this version", None, "own")
    return lineage([base, *_boxes(before)], middle, _boxes(after))


def _boxes(relatives: Sequence[Relative]) -> list[Box]:
    found = [_box(each) for each in relatives[:_DRAWN]]
    left = len(relatives) - len(found)
    return [*found, Box(f"{left} more", "in the list")] if left else found


def _box(each: Relative) -> Box:
    version = each.version
    if version is None:
        return Box(each.name or short(each.digest), f"{each.role}, not here")
    path = adapter_path(version.reference, version.digest)
    kind = "other" if version.status == "active" else version.status
    return Box(f"{version.reference}:{version.number}", each.role, path, kind)


def _base_path(base: wire.Base) -> str | None:
    return f"/bases/{base.fingerprint}" if base.fingerprint else None
