"""One entry of the reference hub, repaired."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from adapterhub_client import names
from adapterhub_client.errors import MalformedReference
from adapterhub_registry.importing import document, identity, wording
from adapterhub_registry.importing.document import Document, DocumentRefused, filled
from adapterhub_registry.importing.findings import Note
from adapterhub_registry.service.recorded import alias as alias_of

_SUMS = {"sha1": re.compile(r"[0-9a-f]{40}"), "sha256": re.compile(r"[0-9a-f]{64}")}
_KINDS = ("text_task", "text_lang")


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A version of an entry under its name in the reference hub."""

    name: str
    url: str
    sha1: str | None
    sha256: str | None
    score: float | None
    description: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as the catalogue will have it."""

    subject: str
    file: str
    source_sha256: str
    position: int
    reference: names.Reference
    kind: str
    task: str
    subtask: str
    model_type: str
    model_name: str
    hidden_size: int | None
    author: str
    contact: dict[str, str]
    architecture: str
    overrides: dict[str, Any]
    config: dict[str, Any]
    config_id: str
    default_version: str
    prediction_head: bool
    model_class: str | None
    description: str
    citation: str | None
    languages: list[str]
    dependencies: dict[str, str]
    files: list[File]

    @property
    def method(self) -> str:
        """What its architecture is called here."""
        return identity.METHODS.get(self.architecture, self.architecture)


def repaired(
    where: Document[document.Entry],
    raw: document.Entry,
    position: int,
    architectures: dict[str, document.Architecture],
    note: Note,
) -> Entry:
    """Repair an entry; what is repaired is noted.

    Raises:
        DocumentRefused: It has no identity, no config or no file.
    """
    if raw.type not in _KINDS:
        raise DocumentRefused(f"the type {raw.type!r} is none of {', '.join(_KINDS)}")
    if raw.config.using not in architectures:
        raise DocumentRefused(f"the architecture {raw.config.using!r} is not there")
    files = list(_files(where.subject, raw, note))
    if not files:
        raise DocumentRefused("it has no file")
    overrides = msgspec.to_builtins(raw.config)
    del overrides["using"]
    config = {**architectures[raw.config.using].config, **overrides}
    _note_traps(where, raw, config, note)
    texts = {
        field: filled(raw, field, where.subject, note)
        for field in ("email", "url", "github", "twitter", "citation", "description", "model_class")
    }
    handles = _handles(where.subject, texts, note)
    return Entry(
        subject=where.subject,
        file=where.path.stem,
        source_sha256=where.sha256,
        position=position,
        reference=_reference(where, raw, note),
        kind=raw.type,
        task=raw.task,
        subtask=raw.subtask,
        model_type=raw.model_type,
        model_name=raw.model_name,
        hidden_size=raw.hidden_size,
        author=raw.author.strip(),
        contact=handles,
        architecture=raw.config.using,
        overrides=overrides,
        config=config,
        config_id=identity.config_id(config),
        default_version=_default(where.subject, raw, files, note),
        prediction_head=raw.prediction_head,
        model_class=texts["model_class"],
        description=texts["description"] or "",
        citation=texts["citation"],
        languages=[identity.task_name(raw.task)] if raw.type == "text_lang" else [],
        dependencies=_dependencies(where.subject, raw, note),
        files=files,
    )


def _reference(where: Document[document.Entry], raw: document.Entry, note: Note) -> names.Reference:
    folder = where.path.parent.name
    task, name = identity.task_name(raw.task), identity.name(raw.subtask)
    org = identity.organization(folder)
    if (task, name) != (raw.task, raw.subtask) or identity.name(folder) != folder:
        note(
            "malformed_name",
            where.subject,
            f"it is {raw.task}/{raw.subtask}@{folder}",
            f"it is {task}/{name}@{org} here",
        )
    if org != identity.name(folder):
        wrong = f"the organization {folder!r} is a name of ours"
        note("reserved_name", where.subject, wrong, f"it is {org!r} here")
    try:
        return names.checked(task, name, org)
    except MalformedReference as error:
        raise DocumentRefused(f"it has no name that fits: {error}") from error


def _files(subject: str, raw: document.Entry, note: Note) -> Iterator[File]:
    seen: set[str] = set()
    for file in raw.files:
        name = _text(subject, file.version, note)
        if name in seen:
            note("duplicate", subject, f"the version {name!r} is there twice", "the first counts")
            continue
        seen.add(name)
        if not file.url.startswith(("http://", "https://")):
            note("address", subject, f"{file.url!r} is no web address", "recorded, never fetched")
        sums = {sum_: _checksum(subject, file, sum_, note) for sum_ in _SUMS}
        if not any(sums.values()):
            wrong = f"the version {name!r} has no checksum"
            note("checksum", subject, wrong, "recorded, never fetched")
        yield File(
            name=name,
            url=file.url,
            score=file.score,
            description=(file.description or "").strip(),
            **sums,
        )


def _text(subject: str, version: str | float, note: Note) -> str:
    if not isinstance(version, str):
        note("version_name", subject, f"the version {version} is a number", "taken as text")
    name = str(version)
    alias = alias_of(name)
    if alias is not None and alias != name.lower() and not name.isdigit():
        wrong = f"the version {name!r} cannot be typed after a reference"
        note("version_name", subject, wrong, f"its alias here is {alias!r}")
    return name


def _checksum(subject: str, file: document.File, kind: str, note: Note) -> str | None:
    written: str | None = getattr(file, kind)
    plain = (written or "").strip().lower()
    if _SUMS[kind].fullmatch(plain):
        return plain
    if written is not None:
        note("checksum", subject, f"the {kind} of {file.version!r} is none", "left out")
    return None


def _default(subject: str, raw: document.Entry, files: list[File], note: Note) -> str:
    default = str(raw.default_version)
    if default in {file.name for file in files}:
        return default
    wrong = f"the default version {default!r} is not among its files"
    note("default_version", subject, wrong, f"it is {files[0].name!r} here")
    return files[0].name


def _dependencies(subject: str, raw: document.Entry, note: Note) -> dict[str, str]:
    found = {}
    for each in raw.dependencies or []:
        try:
            reference = names.parse(each.key.strip()).adapter
        except MalformedReference:
            reference = each.key.strip()
        else:
            wrong = f"the dependency {each.key!r} is a name, not `organization/file`"
            note("dependency_key", subject, wrong, "linked to the adapter of that name")
        found[reference] = (each.description or "").strip()
    return found


def _note_traps(
    where: Document[document.Entry], raw: document.Entry, config: dict[str, Any], note: Note
) -> None:
    """What has to be said, though nothing of it can be repaired without changing what the entry is."""
    if where.path.suffix != ".yaml":
        note("file_ending", where.subject, f"it ends in {where.path.suffix!r}", "read all the same")
    factor = raw.config.reduction_factor
    if isinstance(factor, float) and factor.is_integer():
        whole = identity.config_id({**config, "reduction_factor": int(factor)})
        note(
            "float_factor",
            where.subject,
            f"the reduction factor {factor} is a float, so its id is not {whole}",
            f"kept under the id that its hub gives it, {identity.config_id(config)}",
        )
    if config.get("non_linearity") == "gelu":
        note(
            "old_gelu",
            where.subject,
            "`gelu` means `gelu_new` in files of that time",
            "files are kept as they are, and clients read them so",
        )
    if raw.type == "text_lang" and not config.get("inv_adapter"):
        note(
            "language_adapter",
            where.subject,
            "language adapters of that time may have invertible weights, which it does not say",
            "the config in its own zip counts once it is mirrored",
        )


def _handles(subject: str, texts: dict[str, str | None], note: Note) -> dict[str, str]:
    found = {key: text for key in ("email", "url", "github", "twitter") if (text := texts[key])}
    for key in ("github", "twitter"):
        plain = wording.handle(found.get(key, ""))
        if key in found and plain != found[key]:
            note("handle", subject, f"the {key} handle is {found[key]!r}", f"it is {plain!r} here")
            found[key] = plain
    return found
