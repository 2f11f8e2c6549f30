"""The documents of a reference hub as they are written: YAML to structs, and nothing is executed on the way."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import yaml

from adapterhub_registry.importing.findings import Note

SUFFIXES = {".yaml", ".yml"}
_LIMIT_BYTES = 1024 * 1024

Kind = TypeVar("Kind")


class DocumentRefused(Exception):
    """A document cannot be read; says why."""


class Metric(msgspec.Struct, frozen=True):
    """What a subtask is measured by."""

    name: str
    higher_is_better: bool


class Task(msgspec.Struct, frozen=True):
    """`tasks/<type>/<file>`."""

    task: str
    displayname: str = ""
    description: str = ""


class Subtask(msgspec.Struct, frozen=True):
    """`subtasks/<type>/<file>`."""

    task: str
    subtask: str
    displayname: str | None = None
    description: str = ""
    hf_datasets_id: str | None = None
    url: str | None = None
    citation: str | None = None
    language: str | None = None
    metric: Metric | None = None


class Architecture(msgspec.Struct, frozen=True):
    """`architectures/<file>`."""

    name: str
    config: dict[str, Any]
    displayname: str = ""
    description: str = ""
    citation: str | None = None
    config_v1: dict[str, Any] | None = None


class Config(msgspec.Struct, frozen=True, omit_defaults=True):
    """An architecture, and what an entry changes of it."""

    using: str
    non_linearity: str | None = None
    reduction_factor: int | float | None = None


class File(msgspec.Struct, frozen=True):
    """A version of an entry."""

    version: str | int | float
    url: str
    sha1: str | None = None
    sha256: str | None = None
    description: str | None = None
    score: float | None = None


class Dependency(msgspec.Struct, frozen=True):
    """Another adapter that an entry was trained with."""

    key: str
    description: str | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`adapters/<org>/<file>`."""

    type: str
    task: str
    subtask: str
    model_type: str
    model_name: str
    author: str
    config: Config
    default_version: str | int | float
    files: list[File]
    prediction_head: bool = False
    model_class: str | None = None
    description: str | None = None
    citation: str | None = None
    email: str | None = None
    url: str | None = None
    github: str | None = None
    twitter: str | None = None
    dependencies: list[Dependency] | None = None
    hidden_size: int | None = None


class Document(msgspec.Struct, Generic[Kind], frozen=True):
    """A document with where it was and what its bytes hash to."""

    path: Path
    subject: str
    """its path in the hub's repository"""
    sha256: str
    content: Kind | DocumentRefused


def documents(root: Path, folder: str, kind: type[Kind]) -> Iterator[Document[Kind]]:
    """Every document below a folder of the hub's repository, in the order of their paths."""
    for path in sorted((root / folder).rglob("*")):
        if path.suffix not in SUFFIXES or path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        subject = path.relative_to(root).as_posix()
        digest = hashlib.sha256(content).hexdigest()
        yield Document(path, subject, digest, _read(content, kind))


def filled(document: msgspec.Struct, field: str, subject: str, note: Note) -> str | None:
    """A text of a document that is not empty, or None; an empty one is noted."""
    text: str | None = getattr(document, field)
    if text is None:
        return None
    if not text.strip():
        note("empty_field", subject, f"{field} is empty", "taken as not given")
        return None
    return text.strip()


def _read(content: bytes, kind: type[Kind]) -> Kind | DocumentRefused:
    if len(content) > _LIMIT_BYTES:
        return DocumentRefused(f"it has {len(content)} bytes, more than {_LIMIT_BYTES}")
    try:
        return msgspec.convert(yaml.load(content.decode(), _Loader), kind)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        return DocumentRefused(f"it is not YAML: {' '.join(str(error).split())}")
    except msgspec.ValidationError as error:
        return DocumentRefused(str(error))


class _Loader(yaml.SafeLoader):
    """Plain data only. No anchors, which can make a small document huge, and `no` is a language, not a false."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias, which none needs", None)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in rules if tag != "tag:yaml.org,2002:bool"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
