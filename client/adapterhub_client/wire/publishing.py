"""What travels while a version is published or pulled."""

import msgspec

from adapterhub_client.wire.catalogue import Version
from adapterhub_client.wire.manifest import Manifest


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
