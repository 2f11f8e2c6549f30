"""What came from a hub is used only if it is well-formed: names, paths and digests decide where files are written.

A hub, or whoever sits between, may be hostile. A manifest that passed here can be trusted to name places inside the
cache and inside its own folder, and nothing else.
"""

import hashlib
import re
from pathlib import PurePosixPath

import msgspec

from adapterhub_client import names
from adapterhub_client.errors import Corrupt, MalformedReference
from adapterhub_client.wire import MANIFEST_FILE, Manifest

SHA256 = re.compile(r"[0-9a-f]{64}")


def is_canonical(canonical: bytes, digest: str) -> bool:
    """Whether these are the bytes that the digest names."""
    return "sha256:" + hashlib.sha256(canonical).hexdigest() == digest


def manifest(canonical: bytes) -> Manifest:
    """Decode a manifest and check everything a path is made of.

    Raises:
        Corrupt: It is no manifest, or names a place it has no business at.
    """
    try:
        decoded = msgspec.json.decode(canonical, type=Manifest)
        names.checked(decoded.reference.task, decoded.reference.name, decoded.reference.org)
    except (msgspec.DecodeError, MalformedReference) as error:
        raise Corrupt(f"The manifest is damaged: {error}") from error
    for file in decoded.files:
        path(file.path)
        if not SHA256.fullmatch(file.sha256) or file.size_bytes < 0:
            raise Corrupt(f"The manifest gives {file.path!r} a digest or a size that is none.")
    return decoded


def path(text: str) -> PurePosixPath:
    """A manifest's path, if it stays inside the folder it belongs to.

    Raises:
        Corrupt: It would not; a hub that sends such a manifest is not to be trusted.
    """
    pure = PurePosixPath(text)
    leaves = not text or pure.is_absolute() or ".." in pure.parts or pure == PurePosixPath()
    if leaves or any(sign in text for sign in "\\:\0") or str(pure).casefold() == MANIFEST_FILE:
        raise Corrupt(f"The manifest names a file outside its folder: {text!r}.")
    return pure
