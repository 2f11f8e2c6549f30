"""What only the pages show: manifests side by side, aliases, and what others measured."""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.models import Adapter, Alias, Dataset, Metric, Variant, Version
from adapterhub_registry.service.visibility import readable

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
    session: Session, viewer: Viewer, own: str, metrics: Sequence[wire.Metric]
) -> dict[Measured, list[float]]:
    """What every other adapter reports for the same numbers: one value each, of its newest version."""
    keys = {Measured.of(metric) for metric in metrics}
    if not keys:
        return {}
    rows = session.execute(
        select(Dataset.name, Metric.split, Metric.name, Adapter.full_name, Metric.value)
        .join(Metric.dataset)
        .join(Version, Version.id == Metric.version_id)
        .join(Version.variant)
        .join(Variant.adapter)
        .where(
            tuple_(Dataset.name, Metric.split, Metric.name).in_(
                [msgspec.structs.astuple(key) for key in keys]
            ),
            Adapter.full_name != own,
            Version.status != "yanked",
            readable(viewer),
        )
        .order_by(Version.id.desc())
        .limit(_RIVALS)
    )
    found: dict[Measured, dict[str, float]] = {}
    for dataset, split, name, adapter, value in rows:
        found.setdefault(Measured(dataset, split, name), {}).setdefault(adapter, value)
    return {key: list(values.values()) for key, values in found.items()}
