"""The frozen structs that travel between client and hub, the manifest among them.

A manifest says everything about a version. Its identity is the SHA-256 of its canonical form (RFC 8785), so the
same content has the same digest everywhere and forever.
"""

import hashlib
from typing import Any, Literal

import msgspec
import rfc8785

from adapterhub_client.names import Reference

SCHEMA_VERSION = 1
SAFE_INTEGER = 2**53 - 1
BASE_FINGERPRINT_FILE = "base_fingerprint.json"
MANIFEST_FILE = "manifest.json"

Format = Literal["adapters", "peft", "composition"]
Role = Literal["reader", "writer", "admin"]
Scope = Literal["read", "write", "admin"]
Status = Literal["active", "deprecated", "yanked"]
Mirroring = Literal["pending", "failed", "mirrored"]


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """The frozen transformer a version was trained on; `fingerprint` is its identity, `name` is only for people.

    A fingerprint is None where the base was never seen (an imported legacy entry). `tokenizer` is the digest of the
    tokenizer's files.
    """

    name: str
    architecture: str
    fingerprint: str | None = None
    revision: str | None = None
    hidden_size: int | None = None
    layers: int | None = None
    tokenizer: str | None = None


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """How the base was adapted. `config_id` is the AdapterHub hash of `config`; `name` a preset such as `seq_bn`."""

    name: str
    config: dict[str, Any] = {}
    config_id: str
    format: Format = "adapters"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction head; `labels` in the order of its outputs."""

    name: str
    type: str
    labels: list[str] = []


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a version: a relative path with `/`, and the blob that holds its bytes."""

    path: str
    sha256: str
    size_bytes: int


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A measured value; `std` over `seeds` where there were several."""

    dataset: str
    split: str
    name: str
    value: float
    std: float | None = None
    seeds: list[int] = []
    higher_is_better: bool = True


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a composition, pinned: the name its expression uses, the reference, and the manifest digest."""

    name: str
    reference: str
    digest: str


class Composition(msgspec.Struct, frozen=True, kw_only=True):
    """An expression over members, such as `fuse(mnli, qqp)`."""

    expression: str
    members: list[Member] = []


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """A version this one came from: `kind` is `parent`, `member` or `source`."""

    kind: str
    digest: str


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """How a version was made, as far as it is known."""

    trainer: str
    hyperparameters: dict[str, Any] = {}
    data_digest: str | None = None
    seeds: list[int] = []
    hardware: str | None = None
    seconds: float | None = None


class Name(msgspec.Struct, frozen=True, kw_only=True):
    """The adapter a manifest belongs to."""

    task: str
    name: str
    org: str

    @property
    def reference(self) -> Reference:
        """The same, as a reference without a version."""
        return Reference(self.task, self.name, self.org)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a version. Never changes; its digest is its identity."""

    schema_version: int = SCHEMA_VERSION
    reference: Name
    base: Base
    method: Method
    heads: list[Head] = []
    files: list[File] = []
    metrics: list[Metric] = []
    composition: Composition | None = None
    lineage: list[Lineage] = []
    training: Training | None = None
    description: str = ""
    license: str | None = None
    languages: list[str] = []
    citation: str | None = None
    requires: list[str] = []

    @property
    def size_bytes(self) -> int:
        """The bytes of all files together."""
        return sum(file.size_bytes for file in self.files)


# ---------------------------------------------------------------- what the API answers


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


class UploadDraft(msgspec.Struct, frozen=True, kw_only=True):
    """Begins a publish: the manifest that will be committed, and whether a new adapter shall be private."""

    manifest: Manifest
    private: bool = False


class UploadTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where one missing blob goes: `PUT` its bytes to `url` with exactly `headers`.

    A `url` that starts with `/` is on the registry itself and takes the token; any other is presigned and must not
    be sent one. A large blob travels `in_parts`: then `url` is where `GET` answers `Parts`.
    """

    sha256: str
    size_bytes: int
    url: str
    headers: dict[str, str] = {}
    in_parts: bool = False


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a large blob that is still missing: `PUT` its bytes to `url` with exactly `headers`.

    Part 1 begins at the first byte, and each where the one before it ends: at `start`.
    """

    number: int
    start: int
    size_bytes: int
    url: str
    headers: dict[str, str] = {}


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """How far a large blob has come: of `count` parts those `received` are there, and the next `missing` ones.

    When those are sent, ask again: addresses are given for some parts at a time, and do not live for ever.
    """

    count: int
    received: list[int]
    received_bytes: int
    missing: list[Part]


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Where the blobs of a version are read without passing through the registry, by their SHA-256.

    Empty where the registry serves them itself. The addresses must not be sent a token, and live for an hour.
    `counted` says that this pull has been counted, so that no blob need count it.
    """

    urls: dict[str, str]
    counted: bool = False


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A publish under way. `published` is set when this very manifest is already a version: nothing is left to do.

    Missing blobs of at most `small_bytes` may also be sent to `batch` with one `POST`: for each blob its SHA-256 (32
    bytes), then its bytes; at most `batch_bytes` together.
    """

    id: str
    digest: str
    missing: list[UploadTarget]
    expires_at: str
    published: Version | None = None
    batch: str | None = None
    small_bytes: int = 0
    batch_bytes: int = 0


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Who a token speaks for."""

    name: str
    organizations: dict[str, Role]
    scopes: list[Scope]
    is_admin: bool = False


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for a token; `expires_days` None never expires."""

    label: str
    scopes: list[Scope] = msgspec.field(default_factory=lambda: ["read"])
    expires_days: int | None = 90


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token as the catalogue lists it; `secret` only in the answer that made it."""

    id: int
    label: str
    scopes: list[Scope]
    created_at: str
    expires_at: str | None
    secret: str | None = None


class OrganizationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for an organization; whoever creates it is its admin."""

    name: str


class MemberRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Sets the role of an account in an organization; None takes it out."""

    role: Role | None


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """An organization and who is in it."""

    name: str
    members: dict[str, Role]
    adapters: int


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalogue holds."""

    adapters: int
    versions: int
    bases: int
    tasks: int
    organizations: int
    size_bytes: int
    """of all versions; what several share is counted for each"""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem; `code` is stable and part of the API.

    `candidates` are the versions that would answer where one had to be chosen or none fits; `nearest` the names that
    look alike; `reasons` everything that is wrong with a refused manifest; `recorded` what a reference hub lists and
    has no weights here; `tombstone` what is left of what was deleted.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    candidates: list[Version] = []
    nearest: list[str] = []
    reasons: list[str] = []
    recorded: list[Recorded] = []
    tombstone: Tombstone | None = None


def canonical(manifest: Manifest) -> bytes:
    """The bytes a digest is taken over: sorted keys, UTF-8, no spaces, numbers as in ECMAScript (RFC 8785)."""
    return rfc8785.dumps(_as_json_numbers(msgspec.to_builtins(manifest)))


def digest(manifest: Manifest) -> str:
    """The identity of a version: ``sha256:<hex>`` of the manifest's canonical form."""
    return "sha256:" + hashlib.sha256(canonical(manifest)).hexdigest()


def _as_json_numbers(value: Any) -> Any:  # noqa: ANN401
    """Large whole numbers as doubles, which is all that JSON promises: a float may come back as such an integer."""
    if isinstance(value, dict):
        return {key: _as_json_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json_numbers(item) for item in value]
    if isinstance(value, int) and abs(value) > SAFE_INTEGER:
        return float(value)
    return value
