"""What the page of an adapter shows of one version, gathered from the services."""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise

import msgspec
from markupsafe import Markup
from sqlalchemy.orm import Session

from adapterhub_client import names, wire
from adapterhub_client.charts import bars, reported
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import VersionNotFound
from adapterhub_registry.models import Version
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import (
    catalogue,
    download,
    evaluation,
    headers,
    lineage,
    representation,
)
from adapterhub_registry.service.kept import Kept
from adapterhub_registry.service.resolution import Wanted, find
from adapterhub_registry.storage import BlobMissing
from adapterhub_registry.web import expression, markdown
from adapterhub_registry.web.shown import changes, measured, reads, relatives

_CARDS = ("readme.md", "model_card.md")
_CARD_KEPT: Kept[str] = Kept(64)
_CHARTS_KEPT: Kept[reported.Charts] = Kept(64)
_WEEKS = 12
_CHANGES = 8
_METRICS = 40
_OTHER_FILES = frozenset(["head", "fusion"])
"""parts of weights that are not the adapter's own"""


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


class Weights(msgspec.Struct, frozen=True):
    """A file of a version, and its header where it is one of tensors."""

    file: wire.File
    header: headers.Header | None


class Pulls(msgspec.Struct, frozen=True):
    """How often an adapter was pulled, week by week."""

    weeks: list[tuple[date, int]]
    drawing: Markup

    @property
    def recent(self) -> int:
        """In all of these weeks."""
        return sum(pulled for _, pulled in self.weeks)


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One version among all of its adapter."""

    adapter: wire.Adapter
    version: wire.Version
    manifest: wire.Manifest
    row: Version
    variant: wire.Variant
    siblings: list[wire.Version]
    """all versions of the variant, newest first"""

    @property
    def newest(self) -> wire.Version | None:
        """Of the variant; None where every version is yanked."""
        return next((each for each in self.siblings if each.status != "yanked"), None)


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    subject: Subject
    aliases: dict[str, list[str]]
    groups: list[measured.Group]
    report: reported.Charts | None
    parameters: int | None
    pulls: Pulls
    tree: expression.Node | None
    members: dict[str, wire.Member]
    known: dict[str, wire.Version]
    """the members and ancestors that the viewer may read, by digest"""
    relatives: relatives.Relatives
    weights: list[Weights]
    changes: dict[int, list[changes.Change]]
    """what each of the newest versions changed, by number"""
    card: Markup | None
    card_goes_on: str | None
    """the file of the card, where the page has only its beginning"""


def subject(session: Session, viewer: Viewer, reference: names.Reference, among: Among) -> Subject:
    """The version that a reference names.

    Raises:
        AdapterNotFound: With the nearest names; private adapters do not exist for the public.
        VersionNotFound: The adapter has no such version.
    """
    adapter = catalogue.show(session, viewer, reference.at(None))
    version = _chosen(session, viewer, adapter, reference, among)
    row = catalogue.version_by_digest(session, viewer, version.digest)
    return Subject(
        adapter=adapter,
        version=version,
        manifest=representation.manifest(row),
        row=row,
        variant=next(each for each in adapter.variants if each.id == version.variant),
        siblings=[each for each in adapter.versions if each.variant == version.variant],
    )


def view(runtime: Runtime, session: Session, viewer: Viewer, of: Subject) -> View:
    """Gather the page of a version."""
    manifest, composition = of.manifest, of.manifest.composition
    relations = lineage.relations(session, viewer, of.row)
    report = evaluation.report(runtime.store, manifest)
    metrics = manifest.metrics[:_METRICS]
    rivals = reads.rivals(session, viewer, of.row.variant.adapter_id, metrics)
    weights = [Weights(file, headers.header(runtime.store, file)) for file in manifest.files]
    return View(
        subject=of,
        aliases=reads.aliases(session, of.siblings),
        groups=measured.groups(metrics, rivals, report),
        report=_charts(manifest, report) if report else None,
        parameters=_parameters(report, weights),
        pulls=_pulls(session, of, runtime.clock().date()),
        tree=expression.tree(composition.expression) if composition else None,
        members={member.name: member for member in composition.members} if composition else {},
        known={each.digest: each.version for each in relations.members if each.version},
        relatives=relatives.relatives(relations),
        weights=weights,
        changes=_changes(session, of),
        card=_card(runtime, manifest, of.version),
        card_goes_on=_long_card(manifest),
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
        wanted = pin or among.variant or among.base
        raise VersionNotFound(adapter.summary.reference, wanted, adapter.versions[:1])
    return found[0]


def _charts(manifest: wire.Manifest, report: wire.Report) -> reported.Charts:
    """The drawings of a report; what takes longest of the page is drawn once."""
    file = next(each for each in manifest.files if each.path == wire.REPORT_FILE)
    return _CHARTS_KEPT.get(file.sha256, lambda: reported.charts(report))


def _parameters(report: wire.Report | None, weights: Sequence[Weights]) -> int | None:
    """What was trained: as the run says, else what the weights have besides heads."""
    if report is not None and report.cost is not None:
        return report.cost.parameters
    own = [
        each.header.parameters
        for each in weights
        if each.header and not any(part in each.file.path for part in _OTHER_FILES)
    ]
    return sum(own) if own else None


def _pulls(session: Session, of: Subject, today: date) -> Pulls:
    weeks = download.weekly(session, of.row.variant.adapter_id, today, _WEEKS)
    counts = [pulled for _, pulled in weeks]
    spoken = f"Pulls in each of the last {_WEEKS} weeks: {', '.join(map(str, counts))}"
    return Pulls(weeks, bars.sparkline(counts, spoken))


def _changes(session: Session, of: Subject) -> dict[int, list[changes.Change]]:
    """What the newest versions changed, each against the one before it."""
    shown = of.siblings[: _CHANGES + 1]
    manifests = reads.manifests(session, [each.digest for each in shown])
    found = {}
    for new, old in pairwise(shown):
        found[new.number] = changes.changes(manifests[old.digest], manifests[new.digest])
    return found


def _card_file(manifest: wire.Manifest) -> wire.File | None:
    return next((file for file in manifest.files if file.path.lower() in _CARDS), None)


def _long_card(manifest: wire.Manifest) -> str | None:
    card = _card_file(manifest)
    return card.path if card and card.size_bytes > markdown.LIMIT_BYTES else None


def _card(runtime: Runtime, manifest: wire.Manifest, version: wire.Version) -> Markup | None:
    """The README of a version as safe HTML, where it has one."""
    files = {file.path: file for file in manifest.files}
    card = _card_file(manifest)
    if card is None:
        return None
    pinned = f"{version.reference}:{version.digest}"

    def link(path: str) -> str | None:
        return f"/adapters/{pinned}/raw/{path}" if path in files else None

    def write() -> str:
        length = min(card.size_bytes, markdown.LIMIT_BYTES)
        content = b"".join(runtime.store.read(card.sha256, 0, length))
        return str(markdown.render(content.decode(errors="replace"), link))

    try:
        return Markup(_CARD_KEPT.get(version.digest, write))  # noqa: S704  # rendered to be safe
    except BlobMissing:
        return None
