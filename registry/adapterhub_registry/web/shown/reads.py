"""What only the pages show: manifests side by side, aliases, and what others measured."""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.models import Alias, Dataset, SearchDocument, SearchScore, Version
from adapterhub_registry.service.matching import scopes

_RIVALS = 1000


class Measured(msgspec.Struct, frozen=True):
    """What identifies a number that can be compared: the same data, the same split, the same metric."""

    dataset: str
    split: str
    name: str

    @classmethod
    def of(cls, metric: wire.Metric) -> "Measured":
        """The key of a metric."""
        return cls(metric.dataset, metric.split, metric.name)


def manifests(session: Session, digests: Iterable[str]) -> dict[str, wire.Manifest]:
    """The manifests of versions that the viewer was shown, by digest."""
    rows = session.execute(
        select(Version.digest, Version.manifest).where(Version.digest.in_(list(digests)))
    )
    return {digest: msgspec.json.decode(content, type=wire.Manifest) for digest, content in rows}


def aliases(session: Session, versions: Sequence[wire.Version]) -> dict[str, list[str]]:
    """The aliases that point at each of these versions, by its digest."""
    digests = [version.digest for version in versions]
    rows = session.execute(
        select(Version.digest, Alias.name)
        .join(Alias, Alias.version_id == Version.id)
        .where(Version.digest.in_(digests))
        .order_by(Alias.name)
    )
    found: dict[str, list[str]] = {}
    for digest, name in rows:
        found.setdefault(digest, []).append(name)
    return found


def rivals(
    session: Session, viewer: Viewer, adapter_id: int, metrics: Sequence[wire.Metric]
) -> dict[Measured, list[float]]:
    """What every other adapter reaches on the same data: one value each, its best, the best first."""
    wanted = {metric.dataset for metric in metrics}
    known = select(Dataset.name, Dataset.id).where(Dataset.name.in_(wanted))
    ids = dict(session.execute(known).all())
    scoped = scopes(session, viewer)
    found = {}
    for metric in metrics:
        if metric.dataset in ids:
            values = (
                select(SearchScore.value)
                .join(SearchDocument, SearchDocument.adapter_id == SearchScore.adapter_id)
                .where(
                    SearchScore.dataset_id == ids[metric.dataset],
                    SearchScore.name == metric.name,
                    SearchScore.split == metric.split,
                    SearchScore.higher_is_better.is_(metric.higher_is_better),
                    SearchScore.adapter_id != adapter_id,
                    *scoped.clauses,
                )
                .order_by(SearchScore.rank)
                .limit(_RIVALS)
            )
            found[Measured.of(metric)] = list(session.scalars(values))
    return found
