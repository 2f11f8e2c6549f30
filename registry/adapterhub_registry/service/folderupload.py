"""Publish a folder whose files came all at once, as a browser sends them; through the same door as any push."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import msgspec

from adapterhub_client import names, wire
from adapterhub_client.formats.folder import RUN, Run
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import ManifestRefused
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import derivation, publishing, receiving
from adapterhub_registry.service.repository import Entry
from adapterhub_registry.storage.store import CHUNK_BYTES, part_sizes

_LARGEST_RUN = 1024 * 1024


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is said beside the files; what is empty is left to the card."""

    description: str = ""
    license: str | None = None
    languages: list[str] = []
    private: bool = False


def publish(
    runtime: Runtime,
    viewer: Viewer,
    reference: names.Reference,
    files: Mapping[str, BinaryIO],
    about: About,
) -> wire.Version:
    """Publish the files of an adapter folder.

    Raises:
        ManifestRefused: They are no adapter folder, or break rules; each reason is told.
        MissingRole, QuotaExceeded, ContentRefused, ...: As for any push.
    """
    sources = {_entry(file): file for file in files.values()}
    tree = {path: _entry(file) for path, file in files.items() if path != RUN}
    try:
        found = derivation.manifest(tree, lambda entry: _content(sources[entry]), reference)
    except derivation.NoVersion as error:
        raise ManifestRefused([str(error)]) from error
    manifest = _said(_measured(found, files.get(RUN)), about)
    draft = wire.UploadDraft(manifest=manifest, private=about.private)
    upload = publishing.begin(runtime, viewer, draft)
    by_digest = {entry.sha256: file for entry, file in sources.items()}
    for target in upload.missing:
        _send(runtime, viewer, upload.id, target, by_digest[target.sha256])
    if upload.published is not None:
        return upload.published
    return publishing.commit(runtime, viewer, upload.id)[0]


def _send(
    runtime: Runtime, viewer: Viewer, upload_id: str, target: wire.UploadTarget, file: BinaryIO
) -> None:
    """Keep a blob for an upload, in parts where it travels so."""
    file.seek(0)
    sizes = part_sizes(target.size_bytes) if target.in_parts else []
    if not sizes:
        receiving.blob(runtime, viewer, (upload_id, target.sha256), _chunks(file))
    for number, size_bytes in enumerate(sizes, 1):
        part = _chunks(file, size_bytes)
        receiving.part(runtime, viewer, (upload_id, target.sha256, number), part)


def _entry(file: BinaryIO) -> Entry:
    file.seek(0)
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in _chunks(file):
        digest.update(chunk)
        size_bytes += len(chunk)
    return Entry(digest.hexdigest(), size_bytes)


def _chunks(file: BinaryIO, length: int | None = None) -> Iterator[bytes]:
    left = length
    while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        left = None if left is None else left - len(chunk)
        yield chunk


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _measured(manifest: wire.Manifest, run: BinaryIO | None) -> wire.Manifest:
    """The manifest with what a training run says of itself, where its `push.json` came along."""
    if run is None:
        return manifest
    run.seek(0)
    try:
        said = msgspec.json.decode(run.read(_LARGEST_RUN), type=Run)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ManifestRefused([f"{RUN} cannot be read: {error}"]) from error
    return msgspec.structs.replace(
        manifest,
        metrics=said.metrics,
        training=said.training,
        lineage=said.lineage,
        description=manifest.description or said.description,
        citation=said.citation,
    )


def _said(manifest: wire.Manifest, about: About) -> wire.Manifest:
    return msgspec.structs.replace(
        manifest,
        description=about.description or manifest.description,
        license=about.license or manifest.license,
        languages=about.languages or manifest.languages,
    )
