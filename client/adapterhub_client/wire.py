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


class AdapterPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of adapters; pass `next` as `after` to go on, None at the end."""

    items: list[AdapterSummary]
    total: int
    next: str | None = None


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


class BaseModel(msgspec.Struct, frozen=True, kw_only=True):
    """A base model the catalogue has adapters for."""

    base: Base
    adapters: int


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the catalogue."""

    name: str
    adapters: int


class UploadDraft(msgspec.Struct, frozen=True, kw_only=True):
    """Begins a publish: the manifest that will be committed, and whether a new adapter shall be private."""

    manifest: Manifest
    private: bool = False


class UploadTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where one missing blob goes: `PUT` its bytes to `url` with exactly `headers`.

    A `url` that starts with `/` is on the registry itself and takes the token; any other is presigned and must not
    be sent one.
    """

    sha256: str
    size_bytes: int
    url: str
    headers: dict[str, str] = {}


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A publish under way. `published` is set when this very manifest is already a version: nothing is left to do."""

    id: str
    digest: str
    missing: list[UploadTarget]
    expires_at: str
    published: Version | None = None


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


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem; `code` is stable and part of the API.

    `candidates` are the versions that would answer where one had to be chosen or none fits; `nearest` the names that
    look alike; `reasons` everything that is wrong with a refused manifest; `recorded` what a reference hub lists and
    has no weights here.
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
