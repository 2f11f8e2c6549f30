"""What may change about a version that is out, asked of a hub: status, aliases, and what depends on it."""

import urllib.parse
import warnings
from typing import Any

import msgspec

from adapterhub_client import names
from adapterhub_client.errors import UsageError
from adapterhub_client.names import Reference
from adapterhub_client.transport import Transport
from adapterhub_client.wire import (
    Alias,
    ChangedVersion,
    Manifest,
    Relations,
    Resolution,
    Version,
)

_ADAPTERS = "/api/v1/adapters"


def set_status(
    hub: Transport, reference: str | Reference, action: str, reason: str | None = None
) -> ChangedVersion:
    """Yank, deprecate or restore a pinned version."""
    wanted = _pinned(reference)
    path = f"{_ADAPTERS}/{wanted.adapter}/versions/{wanted.version}/{action}"
    body = {} if reason is None else _json({"reason": reason})
    return hub.request("POST", path, ChangedVersion, **body)


def aliases(hub: Transport, reference: str | Reference) -> list[Alias]:
    """List the aliases of an adapter."""
    return hub.request("GET", f"{_ADAPTERS}/{_parsed(reference).adapter}/aliases", list[Alias])


def set_alias(hub: Transport, reference: str | Reference, alias: str) -> Version:
    """Let an alias point at a pinned version."""
    wanted = _pinned(reference)
    path = f"{_ADAPTERS}/{wanted.adapter}/aliases/{urllib.parse.quote(alias, safe='')}"
    return hub.request("PUT", path, Version, **_json({"version": wanted.version}))


def remove_alias(hub: Transport, reference: str | Reference, alias: str) -> None:
    """Take an alias away."""
    adapter = _parsed(reference).adapter
    hub.delete(f"{_ADAPTERS}/{adapter}/aliases/{urllib.parse.quote(alias, safe='')}")


def lineage(hub: Transport, digest: str) -> Relations:
    """Say where a version comes from and what depends on it."""
    path = f"/api/v1/versions/{urllib.parse.quote(digest)}/lineage"
    return hub.request("GET", path, Relations)


def advise(version: Version) -> None:
    """Tell those who pin a version that its publisher advises against."""
    if version.status != "active":
        reason = f": {version.reason}" if version.reason else ""
        told = f"{version.reference}:{version.number} is {version.status}{reason}"
        warnings.warn(told, stacklevel=3)


def is_of(wanted: Reference, manifest: Manifest, found: Resolution | None) -> bool:
    """Whether a manifest is of the adapter that was asked for, under its name or one that it had before."""
    stated = manifest.reference.reference
    if stated == wanted.at(None):
        return True
    if found is None or found.version.reference != wanted.adapter:
        return False
    return found.version.published_as == stated.adapter


def _parsed(reference: str | Reference) -> Reference:
    return names.parse(reference) if isinstance(reference, str) else reference


def _pinned(reference: str | Reference) -> Reference:
    wanted = _parsed(reference)
    if wanted.version is None:
        raise UsageError(
            f"{str(wanted)!r} names no version.", hint="append `:NUMBER` or `:sha256:DIGEST`"
        )
    return wanted


def _json(body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    return {"content": msgspec.json.encode(body), "headers": headers}
