"""What the page of an adapter shows of one version, gathered from the services."""

from collections.abc import Sequence

import msgspec
from markupsafe import Markup
from sqlalchemy.orm import Session

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import VersionNotFound
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import catalogue, representation
from adapterhub_registry.service.resolution import Wanted, find
from adapterhub_registry.storage import BlobMissing
from adapterhub_registry.web import expression, markdown, reads, svg

_CARDS = ("readme.md", "model_card.md")
_PERCENT = 100.0


class Row(msgspec.Struct, frozen=True):
    """A metric with what it takes to draw it."""

    metric: wire.Metric
    plot: Markup
    rank: int
    of: int


class Group(msgspec.Struct, frozen=True):
    """Metrics on one scale."""

    axis: Markup
    rows: list[Row]


class Among(msgspec.Struct, frozen=True):
    """Of which versions to choose; what is empty asks for nothing."""

    variant: str = ""
    """an id"""
    base: str = ""
    """a fingerprint or a name"""

    def has(self, version: wire.Version) -> bool:
        """Whether the version is one of them."""
        known_as = {"", version.base.name, version.base.fingerprint}
        return self.variant in {"", version.variant} and self.base in known_as


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    adapter: wire.Adapter
    version: wire.Version
    manifest: wire.Manifest
    variant: wire.Variant
    siblings: list[wire.Version]
    """all versions of the variant, newest first"""
    newest: wire.Version | None
    """of the variant; None where every version is yanked"""
    aliases: dict[str, list[str]]
    metrics: list[Group]
    tree: expression.Node | None
    members: dict[str, wire.Member]
    origins: list[wire.Lineage]
    """where it comes from, besides its members"""
    known: dict[str, wire.Version]
    """the members and ancestors that the viewer may read, by digest"""
    used_in: list[wire.Version]
    card: Markup | None


def view(
    runtime: Runtime, session: Session, viewer: Viewer, reference: names.Reference, among: Among
) -> View:
    """Gather the page of the version that a reference names.

    Raises:
        AdapterNotFound: With the nearest names; private adapters do not exist for the public.
        VersionNotFound: The adapter has no such version.
    """
    adapter = catalogue.show(session, viewer, reference.at(None))
    version = _chosen(session, viewer, adapter, reference, among)
    row = catalogue.version_by_digest(session, viewer, version.digest)
    manifest = representation.manifest(row)
    siblings = [each for each in adapter.versions if each.variant == version.variant]
    composition = manifest.composition
    members = composition.members if composition else []
    own = {each.digest for each in members}
    pinned = own | {each.digest for each in manifest.lineage}
    return View(
        adapter=adapter,
        version=version,
        manifest=manifest,
        variant=next(each for each in adapter.variants if each.id == version.variant),
        siblings=siblings,
        newest=next((each for each in siblings if each.status != "yanked"), None),
        aliases=reads.aliases(session, siblings),
        metrics=_metrics(
            manifest.metrics, reads.rivals(session, viewer, version.reference, manifest.metrics)
        ),
        tree=expression.tree(composition.expression) if composition else None,
        members={member.name: member for member in members},
        origins=[each for each in manifest.lineage if each.digest not in own],
        known=reads.known(session, viewer, pinned),
        used_in=reads.used_in(session, viewer, row.id),
        card=_card(runtime, manifest, version.digest),
    )


def _chosen(
    session: Session,
    viewer: Viewer,
    adapter: wire.Adapter,
    reference: names.Reference,
    among: Among,
) -> wire.Version:
    """The version to show: the pinned one, else the newest that is offered."""
    versions = [each for each in adapter.versions if among.has(each)]
    pin = reference.version
    if pin is None:
        offered = [each for each in versions if each.status == "active"] or [
            each for each in versions if each.status != "yanked"
        ]
        found: Sequence[wire.Version] = offered or versions
    elif names.NUMBER.fullmatch(pin):
        found = [each for each in versions if each.number == int(pin)]
    elif names.DIGEST.fullmatch(pin):
        found = [each for each in adapter.versions if each.digest == pin]
    else:
        row, _ = find(session, viewer, reference, Wanted())
        found = [representation.version(row)]
    if not found:
        asked = pin or among.variant or among.base
        raise VersionNotFound(adapter.summary.reference, asked, adapter.versions[:1])
    return found[0]


def _metrics(
    metrics: Sequence[wire.Metric], rivals: dict[reads.Measured, list[float]]
) -> list[Group]:
    """Metrics that can share an axis: shares of one, percentages; every other has its own."""
    groups: dict[tuple[float, bool, int], list[tuple[wire.Metric, svg.Dot]]] = {}
    for at, metric in enumerate(metrics):
        others = rivals.get(reads.Measured.of(metric), [])
        reach = [abs(metric.value), *map(abs, others)]
        top = next((each for each in (1.0, _PERCENT) if max(reach) <= each), float("inf"))
        key = (top, metric.higher_is_better, at if top > _PERCENT else 0)
        dot = svg.Dot(metric.value, metric.std, others)
        groups.setdefault(key, []).append((metric, dot))
    return [_group(rows) for rows in groups.values()]


def _group(rows: list[tuple[wire.Metric, svg.Dot]]) -> Group:
    spanned = svg.scale([dot for _, dot in rows])
    return Group(
        svg.axis(spanned),
        [
            Row(metric, svg.dot_plot(dot, spanned), _rank(metric, dot), len(dot.others) + 1)
            for metric, dot in rows
        ],
    )


def _rank(metric: wire.Metric, dot: svg.Dot) -> int:
    sign = 1 if metric.higher_is_better else -1
    return 1 + sum(sign * other > sign * dot.value for other in dot.others)


def _card(runtime: Runtime, manifest: wire.Manifest, digest: str) -> Markup | None:
    """The README of a version as safe HTML, where it has one."""
    files = {file.path: file for file in manifest.files}
    card = next((file for path, file in files.items() if path.lower() in _CARDS), None)
    if card is None:
        return None
    try:
        content = b"".join(
            runtime.store.read(card.sha256, 0, min(card.size_bytes, markdown.LIMIT_BYTES))
        )
    except BlobMissing:
        return None

    def link(path: str) -> str | None:
        found = files.get(path)
        return None if found is None else f"/api/v1/blobs/{found.sha256}?version={digest}"

    return markdown.render(content.decode(errors="replace"), link)
