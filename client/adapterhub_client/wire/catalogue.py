"""What the catalogue answers: versions, adapters, lists of them, and what they are sorted by."""

from typing import Literal

import msgspec

from adapterhub_client.wire.manifest import Base, Format, Manifest, Metric

Status = Literal["active", "deprecated", "yanked"]
Mirroring = Literal["pending", "failed", "mirrored"]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A published version as the catalogue knows it."""

    reference: str
    """`task/name@org`, without a version"""
    number: int
    digest: str
    """`sha256:<hex>` of the canonical manifest"""
    status: Status
    reason: str | None = None
    base: Base
    method: str
    config_id: str
    variant: str
    """the id of the variant this is a version of"""
    created_at: str
    """RFC 3339, UTC"""
    created_by: str
    size_bytes: int
    published_as: str | None = None
    """the name in its manifest, where the adapter was transferred since"""


class ChangedVersion(Version, frozen=True, kw_only=True):
    """A version after a change of its status; `dependants` are what pins it or came from it, directly or not."""

    dependants: list[Version] = []


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of something deleted: of one version, or of a whole adapter where `number` is None."""

    reference: str
    number: int | None = None
    digest: str | None = None
    base: str | None = None
    method: str | None = None
    config_id: str | None = None
    size_bytes: int = 0
    published_at: str | None = None
    deleted_at: str
    deleted_by: str | None = None
    reason: str


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted, and what pinned it or came from it."""

    deleted: list[Tombstone]
    dependants: list[Version] = []


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A name for a version of a variant that can be moved."""

    name: str
    variant: str
    number: int
    digest: str
    updated_at: str


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """A member as a composition pins it; `version` is None where it is not here, or not for the viewer."""

    name: str
    reference: str
    digest: str
    version: Version | None = None
    tombstone: Tombstone | None = None


class Ancestor(msgspec.Struct, frozen=True, kw_only=True):
    """What a version says it came from; `version` is None where it is not here, or not for the viewer."""

    kind: str
    digest: str
    version: Version | None = None
    tombstone: Tombstone | None = None


class Relations(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version comes from and what depends on it, as far as the viewer may read."""

    version: Version
    members: list[Pinned]
    parents: list[Ancestor]
    used_in: int
    """how many versions of compositions pin it"""
    compositions: list[Version]
    """those, newest first"""
    children: list[Version]
    """versions that name it in their lineage, newest first"""
    dependants: int
    """all that pins it or came from it, directly or through others"""


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """The one version a reference stands for; `fell_back` is true when another config than asked was taken."""

    version: Version
    manifest: Manifest
    fell_back: bool = False


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter for one base and one method config; `latest` is its newest version that is not yanked."""

    id: str
    base: Base
    method: str
    config_id: str
    format: Format
    latest: int | None
    versions: int


class AdapterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter as lists show it."""

    reference: str
    description: str
    private: bool
    bases: list[str]
    methods: list[str]
    languages: list[str]
    license: str | None
    versions: int
    downloads: int
    updated_at: str
    metrics: list[Metric]
    """of the newest version"""
    not_mirrored: int = 0
    """versions that a reference hub lists and whose weights are not here"""


class FacetValue(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that narrows a search, and how many adapters it leaves; `label` where people read another text."""

    value: str
    adapters: int
    label: str | None = None


class Facet(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a query and its most frequent values; where not `exact`, there are at least so many adapters."""

    field: str
    values: list[FacetValue]
    exact: bool = True


class MetricRange(msgspec.Struct, frozen=True, kw_only=True):
    """A metric, how many adapters report it, and the lowest and the highest of their best values."""

    dataset: str
    metric: str
    adapters: int
    lowest: float
    highest: float
    exact: bool = True


class AdapterPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of adapters; pass `next` as `after` to go on, None at the end."""

    items: list[AdapterSummary]
    total: int
    """how many there are in all; where not `exact`, there are more"""
    next: str | None = None
    exact: bool = True
    corrections: dict[str, str] = {}
    """words that nothing has, and those that were looked for instead"""
    facets: list[Facet] = []
    ranges: list[MetricRange] = []


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What a reference hub lists as a version: here only once its weights were mirrored."""

    reference: str
    """`task/name@org`, without a version"""
    name: str
    """what the reference hub calls this version"""
    is_default: bool
    """whether it is the one that the reference hub gives when none is asked for"""
    base: str
    method: str
    config_id: str
    state: Mirroring
    fault: str | None = None
    """why its weights are not here"""
    url: str
    """where the reference hub has them"""
    sha1: str | None = None
    sha256: str | None = None
    digest: str | None = None
    """of the version it became"""


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter with its variants and all its versions, newest first; `recorded` is what a reference hub lists."""

    summary: AdapterSummary
    variants: list[Variant]
    versions: list[Version]
    recorded: list[Recorded] = []
    used_in: dict[str, int] = {}
    """how many versions of compositions pin each of its versions, by digest; those that none pins are left out"""


class BaseModel(msgspec.Struct, frozen=True, kw_only=True):
    """A base model the catalogue has adapters for."""

    base: Base
    adapters: int


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the catalogue."""

    name: str
    adapters: int


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of tasks; pass `next` as `after` to go on, None at the end."""

    items: list[Task]
    next: str | None = None


class BasePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of base models; pass `next` as `after` to go on, None at the end."""

    items: list[BaseModel]
    next: str | None = None


class VersionPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of versions; pass `next` as `after` to go on, None at the end."""

    items: list[Version]
    next: str | None = None


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """What a leaderboard compares, and how many adapters are on it."""

    dataset: str
    metric: str
    split: str
    higher_is_better: bool
    adapters: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter on a leaderboard: the version of it with the best value."""

    place: int
    """1 is the best; equal values are in the order in which their adapters were made"""
    reference: str
    number: int
    digest: str
    base: str
    method: str
    value: float
    std: float | None = None
    seeds: list[int] = []


class Leaderboard(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a leaderboard; pass `next` as `after` to go on, None at the end."""

    board: Board
    entries: list[Entry]
    next: str | None = None


class DatasetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that adapters were measured on, and its leaderboards."""

    name: str
    adapters: int
    boards: list[Board]


class DatasetPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of datasets; pass `next` as `after` to go on, None at the end."""

    items: list[DatasetSummary]
    next: str | None = None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalogue holds."""

    adapters: int
    versions: int
    bases: int
    tasks: int
    organizations: int
    size_bytes: int
    """of all versions; what several share is counted for each"""
