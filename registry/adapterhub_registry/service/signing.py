"""Ed25519 keys in files: who signed a bundle, checked without any network.

A key is named by the SHA-256 of its 32 public bytes. Several may be trusted at once, and one file may carry several
signatures, so that keys can be changed without a day on which nothing fits.
"""

import base64
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from adapterhub_registry.errors import BundleRefused

PUBLIC_ENDING = ".pub"


class KeyRefused(Exception):
    """A file is no key of the kind that is needed, or there is one already."""


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature and by which key."""

    key_id: str
    algorithm: str = "ed25519"
    signature: str
    """base64"""


def create(path: Path) -> str:
    """Make a key: the secret half at `path` for its owner alone, the public half beside it; its id.

    Raises:
        KeyRefused: There is a file of this name.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_name(path.name + PUBLIC_ENDING)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    known = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        for place, content, mode in ((path, secret, 0o600), (public, known, 0o644)):
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
    except FileExistsError as error:
        raise KeyRefused(f"There is already a file {error.filename!r}.") from error
    return key_id(key.public_key())


def key_id(key: Ed25519PublicKey) -> str:
    """The name of a key."""
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def secret_key(path: Path) -> Ed25519PrivateKey:
    """Read the secret half of a key; KeyRefused."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise KeyRefused(f"'{path}' is no secret key that `key create` made.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyRefused(f"'{path}' is a key of another kind than Ed25519.")
    return key


def trusted_keys(places: Iterable[Path]) -> dict[str, Ed25519PublicKey]:
    """Read public keys by their ids: files, and every `.pub` file of folders."""
    found: dict[str, Ed25519PublicKey] = {}
    for place in places:
        for path in sorted(place.glob(f"*{PUBLIC_ENDING}")) if place.is_dir() else [place]:
            key = public_key(path)
            found[key_id(key)] = key
    return found


def public_key(path: Path) -> Ed25519PublicKey:
    """Read the public half of a key; KeyRefused."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except ValueError as error:
        raise KeyRefused(f"'{path}' is no public key that `key create` made.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyRefused(f"'{path}' is a key of another kind than Ed25519.")
    return key


def sign(keys: Iterable[Ed25519PrivateKey], message: bytes) -> list[Signature]:
    """Sign a message with each of these keys."""
    return [
        Signature(
            key_id=key_id(key.public_key()),
            signature=base64.b64encode(key.sign(message)).decode(),
        )
        for key in keys
    ]


def verified_by(
    signatures: Iterable[Signature], message: bytes, trusted: dict[str, Ed25519PublicKey]
) -> str:
    """The id of a trusted key that signed this message.

    Raises:
        BundleRefused: None did, or a trusted key's signature is wrong.
    """
    offered = list(signatures)
    for each in offered:
        key = trusted.get(each.key_id)
        if key is None or each.algorithm != "ed25519":
            continue
        try:
            key.verify(base64.b64decode(each.signature, validate=True), message)
        except (InvalidSignature, ValueError) as error:
            raise BundleRefused(
                f"The signature by the key {each.key_id} is wrong: its index was changed, or was signed otherwise."
            ) from error
        return each.key_id
    named = ", ".join(each.key_id for each in offered) or "nobody"
    raise BundleRefused(f"It is signed by {named}, and none of them is trusted here.")
