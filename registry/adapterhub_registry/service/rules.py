"""What a manifest must obey; all that is wrong is said at once."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from adapterhub_client import names, wire
from adapterhub_client.errors import MalformedReference
from adapterhub_registry.settings import Settings

SUFFIXES = frozenset(
    f".{kind}"
    for kind in ("safetensors", "json", "jsonl", "md", "txt", "toml", "yaml", "yml", "svg", "png")
) | {".csv", ".tsv", ".bib", ".cff"}
NAMES = frozenset(["LICENSE", "LICENCE", "README", "NOTICE", "CITATION", ".gitattributes"])
WEIGHTS = ".safetensors"
PICKLES = frozenset([".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"])

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LANGUAGE = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*")
_LICENSE_NAME = r"\(*[A-Za-z0-9][A-Za-z0-9.+:-]*\)*"
_LICENSE = re.compile(rf"{_LICENSE_NAME}(?: (?:AND|OR|WITH|and|or|with) {_LICENSE_NAME})*")
_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DEPTH = 16
_NAME_BYTES = 255
_LINE = 200
_NESTING = 32
_LARGEST = 10**308
"""a number beyond this is none in JSON"""


def faults(manifest: wire.Manifest, settings: Settings) -> list[str]:
    """Every rule that the manifest breaks, as clauses; none when it is good."""
    return [
        *_identity(manifest),
        *_terms(manifest),
        *_files(manifest.files, settings),
        *_weights(manifest),
        *_composition(manifest),
        *_heads(manifest.heads),
        *_texts(manifest),
    ]


def _identity(manifest: wire.Manifest) -> Iterator[str]:
    if manifest.schema_version != wire.SCHEMA_VERSION:
        yield f"schema_version is {manifest.schema_version}, not {wire.SCHEMA_VERSION}"
    name = manifest.reference
    try:
        names.checked(name.task, name.name, name.org)
    except MalformedReference as error:
        yield f"reference: {str(error).rstrip('.')}"
    lines = {
        "base.name": manifest.base.name,
        "base.architecture": manifest.base.architecture,
        "base.fingerprint": manifest.base.fingerprint,
        "base.revision": manifest.base.revision,
        "base.tokenizer": manifest.base.tokenizer,
        "method.name": manifest.method.name,
        "method.config_id": manifest.method.config_id,
        "license": manifest.license,
    }
    for field, line in lines.items():
        if line is not None and not 0 < len(line.strip()) <= _LINE:
            yield f"{field} has {len(line.strip())} characters, not 1 to {_LINE}"
        if line is not None and _CONTROL.search(line):
            yield f"{field} has control characters"
    fingerprint = manifest.base.fingerprint
    if fingerprint is not None and not names.DIGEST.fullmatch(fingerprint):
        yield "base.fingerprint is not sha256: and 64 hex digits"
    if names.DIGEST.fullmatch(manifest.base.name):
        yield "base.name is a fingerprint, not a name"


def _terms(manifest: wire.Manifest) -> Iterator[str]:
    if manifest.license is not None and not _LICENSE.fullmatch(manifest.license.strip()):
        yield (
            f"the license {manifest.license!r} is no SPDX expression such as Apache-2.0 or "
            "`MIT OR CC-BY-4.0` (any other: LicenseRef-NAME)"
        )
    for language in manifest.languages:
        if not _LANGUAGE.fullmatch(language) or len(language) > _LINE:
            yield f"the language {language!r} is no language tag"


def _files(files: list[wire.File], settings: Settings) -> Iterator[str]:
    if len(files) > settings.max_files:
        yield f"there are {len(files)} files, at most {settings.max_files} are allowed"
    seen: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for file in files[: settings.max_files]:
        yield from (f"the path {file.path!r} {fault}" for fault in path_faults(file.path))
        folded = unicodedata.normalize("NFC", file.path).casefold()
        if folded == wire.MANIFEST_FILE:
            yield f"the path {file.path!r} is where the manifest itself is kept"
        if folded in seen:
            yield f"the paths {seen[folded]!r} and {file.path!r} are the same on some file systems"
        seen[folded] = file.path
        if not _SHA256.fullmatch(file.sha256):
            yield f"the sha256 of {file.path!r} is not 64 lower-case hex digits"
        if not 0 <= file.size_bytes <= settings.max_blob_bytes:
            yield f"{file.path!r} has {file.size_bytes} bytes, not 0 to {settings.max_blob_bytes}"
        if sizes.setdefault(file.sha256, file.size_bytes) != file.size_bytes:
            yield f"{file.path!r} gives its blob another size than a file before it"
    yield from _folders_that_are_files(seen)


def _folders_that_are_files(seen: dict[str, str]) -> Iterator[str]:
    for folded, path in seen.items():
        for parent in PurePosixPath(folded).parents:
            if str(parent) in seen:
                yield f"{path!r} lies in {seen[str(parent)]!r}, which is a file"


def path_faults(path: str) -> Iterator[str]:
    """What is wrong with the path of a file of a version, as clauses that follow its name."""
    yield from place_faults(path)
    last = PurePosixPath(path)
    if last.suffix in PICKLES:
        yield (
            "is of a kind that is not allowed: a pickle may run code when it is loaded "
            "(`adapterhub-client push FOLDER` makes safetensors of it first, where torch is installed)"
        )
    elif last.name not in NAMES and last.suffix not in SUFFIXES:
        yield f"is of a kind that is not allowed (allowed: {' '.join(sorted(SUFFIXES))})"


def place_faults(path: str) -> Iterator[str]:
    """What is wrong with where a file of any kind would lie, as clauses that follow its path."""
    parts = path.split("/")
    if not path or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        yield "is not relative"
    if "\\" in path:
        yield "has a backslash"
    if any(part in {"", ".", ".."} for part in parts):
        yield "has an empty, `.` or `..` part"
    if _CONTROL.search(path) or any(sign in path for sign in '<>:"|?*'):
        yield "has a character that is not allowed everywhere"
    if any(part != part.strip() or (part != ".." and part.endswith(".")) for part in parts):
        yield "has a part that starts or ends in a space, or ends in a dot"
    if any(_RESERVED.fullmatch(part) for part in parts) or ".git" in path.casefold().split("/"):
        yield "has a reserved name"
    if len(parts) > _DEPTH or any(len(part.encode()) > _NAME_BYTES for part in parts):
        yield "is too deep or has too long a name"
    if unicodedata.normalize("NFC", path) != path:
        yield "is not in Unicode's form NFC"


def _weights(manifest: wire.Manifest) -> Iterator[str]:
    has_weights = any(file.path.endswith(WEIGHTS) for file in manifest.files)
    if not has_weights and manifest.method.format != "composition":
        yield f"there is no {WEIGHTS} file"


def _composition(manifest: wire.Manifest) -> Iterator[str]:
    composition = manifest.composition
    if (composition is not None) != (manifest.method.format == "composition"):
        yield "`composition` is there exactly when the method's format is `composition`"
    for member in composition.members if composition else []:
        if not names.DIGEST.fullmatch(member.digest):
            yield f"the digest of the member {member.name!r} is not `sha256:` and 64 hex digits"
        if not names.is_reference(member.reference):
            yield f"the member {member.name!r} has no reference but {member.reference!r}"
    members = [member.name for member in composition.members] if composition else []
    if len(set(members)) != len(members):
        yield "two members of the composition have one name"
    if composition and (not composition.expression.strip() or not members):
        yield "the composition has no expression or no members"
    for ancestor in manifest.lineage:
        if not names.DIGEST.fullmatch(ancestor.digest):
            yield f"the lineage digest {ancestor.digest!r} is not `sha256:` and 64 hex digits"


def _heads(heads: list[wire.Head]) -> Iterator[str]:
    names_of = [head.name for head in heads]
    if len(set(names_of)) != len(names_of):
        yield "two heads have one name"
    for head in heads:
        if len(set(head.labels)) != len(head.labels):
            yield f"the head {head.name!r} has a label twice"
        if not all(label.strip() for label in head.labels):
            yield f"the head {head.name!r} has an empty label"


def _texts(manifest: wire.Manifest) -> Iterator[str]:
    for metric in manifest.metrics:
        if not 0 < len(metric.dataset) <= _LINE or not 0 < len(metric.name) <= _LINE:
            yield f"a metric needs a dataset and a name of at most {_LINE} characters"
    yield from _values(manifest)


def _values(manifest: wire.Manifest) -> Iterator[str]:
    """Look at every value, however deep, without recursion: the nesting is the sender's choice."""
    try:
        left: list[tuple[object, int]] = [(msgspec.to_builtins(manifest), 0)]
    except RecursionError:
        yield "it is nested too deep"
        return
    while left:
        value, depth = left.pop()
        if depth > _NESTING:
            yield f"it is nested deeper than {_NESTING}"
            return
        if isinstance(value, str) and "\x00" in value:
            yield "a text has a NUL character"
            return
        if isinstance(value, int) and abs(value) > _LARGEST:
            yield "a number is too large"
            return
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        if isinstance(inner, list):
            left.extend((each, depth + 1) for each in inner)
