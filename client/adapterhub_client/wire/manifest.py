"""The manifest: everything about a version, and its identity.

A manifest's identity is the SHA-256 of its canonical form (RFC 8785), so the same content has the same digest
everywhere and forever.
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
