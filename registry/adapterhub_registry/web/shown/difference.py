"""Two versions of a variant side by side: what changed, which metrics moved, how far the weights are apart."""

import msgspec
from markupsafe import Markup
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_client.charts import dots
from adapterhub_registry.errors import VersionNotFound
from adapterhub_registry.service import distance
from adapterhub_registry.storage import BlobStore
from adapterhub_registry.web.shown import changes, reads
from adapterhub_registry.web.shown.adapter import Subject

_PARTS = {
    "composition": "Composition",
    "member": "Members",
    "head": "Heads",
    "config": "Method",
    "training": "Training",
    "about": "About",
    "file": "Files",
}


class Pair(msgspec.Struct, frozen=True):
    """A metric in both versions, drawn one below the other."""

    new: wire.Metric
    old: wire.Metric | None
    plots: tuple[Markup, Markup | None]
    axis: Markup
    ahead: float | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    old: wire.Version
    new: wire.Version
    metrics: list[Pair]
    parts: dict[str, list[changes.Change]]
    distances: list[distance.Distance]


def difference(
    session: Session, store: BlobStore, of: Subject, numbers: tuple[str, str]
) -> Difference:
    """Compare two versions of the variant; what names no version is the newest, and the one before it.

    Raises:
        VersionNotFound: The variant has no such version.
    """
    old, new = _pair(of, numbers)
    manifests = reads.manifests(session, [old.digest, new.digest])
    before, after = manifests[old.digest], manifests[new.digest]
    found = changes.changes(before, after)
    parts = {
        title: [each for each in found if each.part == part]
        for part, title in _PARTS.items()
        if any(each.part == part for each in found)
    }
    return Difference(
        old=old,
        new=new,
        metrics=_metrics(before, after),
        parts=parts,
        distances=distance.distances(store, before, after),
    )


def _pair(of: Subject, numbers: tuple[str, str]) -> tuple[wire.Version, wire.Version]:
    known = {str(each.number): each for each in of.siblings}
    newest = of.siblings[0]
    earlier = of.siblings[min(1, len(of.siblings) - 1)]
    for number in numbers:
        if number and number not in known:
            raise VersionNotFound(of.version.reference, number, of.siblings[:1])
    return known.get(numbers[0], earlier), known.get(numbers[1], newest)


def _metrics(old: wire.Manifest, new: wire.Manifest) -> list[Pair]:
    before = {reads.Measured.of(each): each for each in old.metrics}
    return [_drawn(each, before.get(reads.Measured.of(each))) for each in new.metrics]


def _drawn(new: wire.Metric, old: wire.Metric | None) -> Pair:
    own = dots.Dot(new.value, new.std)
    if old is None:
        spanned = dots.scale([own])
        return Pair(new, None, (dots.dot_plot(own, spanned), None), dots.axis(spanned), None)
    was = dots.Dot(old.value, old.std)
    spanned = dots.scale([own, was])
    plots = dots.dot_plot(own, spanned), dots.dot_plot(was, spanned, is_other=True)
    sign = 1 if new.higher_is_better else -1
    return Pair(new, old, plots, dots.axis(spanned), sign * (new.value - old.value))
