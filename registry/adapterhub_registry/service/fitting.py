"""Whether a version fits a base model: by fingerprint, by name, or tensor by tensor.

The rules are the client's own (`fingerprint.compare`), so the page never says other than a pull would.
"""

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub_client import fingerprint, names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import BadRequest
from adapterhub_registry.models import BaseModel, Blob, Variant, Version, VersionFile
from adapterhub_registry.service import browsing
from adapterhub_registry.service.kept import Kept
from adapterhub_registry.service.visibility import readable
from adapterhub_registry.storage import BlobMissing, BlobStore

LARGEST_BYTES = 8 * 1024 * 1024
"""of a fingerprint with its leaves; that of the largest bases has a tenth of it"""
_KEPT: Kept[fingerprint.Fingerprint | None] = Kept(16)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it fits, in a sentence; `fits` is None where that cannot be said."""

    fits: bool | None
    says: str
    comparison: fingerprint.Comparison | None = None


class Namesake(msgspec.Struct, frozen=True):
    """A base model of some name that this registry knows, and whether the version fits it."""

    base: wire.Base
    fits: bool


def by_fingerprint(
    session: Session, viewer: Viewer, store: BlobStore, manifest: wire.Manifest, text: str
) -> Verdict:
    """Hold a fingerprint against that of the version's base; leaves say more where both are here."""
    own = manifest.base.fingerprint
    if own is None:
        return _unknown(manifest)
    if text == own:
        return Verdict(fits=True, says="Yes: the fingerprints are the same, bit for bit.")
    expected, found = (_leaves(session, viewer, store, each) for each in (own, text))
    if expected is not None and found is not None:
        return _compared(expected, found)
    return Verdict(
        fits=False,
        says="No: the fingerprints differ. The tensors of your base are not known here; its "
        "`base_fingerprint.json` would say which they are.",
    )


def by_name(
    session: Session, viewer: Viewer, manifest: wire.Manifest, name: str
) -> tuple[Verdict, list[Namesake]]:
    """What a name alone can say: which bases here are called so, and which of them the version fits."""
    bases = browsing.named(session, viewer, name)
    own = manifest.base.fingerprint
    found = [Namesake(each, each.fingerprint == own) for each in bases if each.fingerprint]
    if own is None:
        return _unknown(manifest), found
    if not found:
        says = f"No base model named {name!r} with a fingerprint is known here."
        return Verdict(fits=None, says=says), found
    if all(each.fits for each in found):
        says = (
            "Yes, if your model is the same as the one known here by this name. "
            "Only the fingerprint proves it."
        )
        return Verdict(fits=True, says=says), found
    if not any(each.fits for each in found):
        return Verdict(fits=False, says="No: none of the bases of this name is the one."), found
    says = "Several bases go by this name: the fingerprint decides."
    return Verdict(fits=None, says=says), found


def by_leaves(
    session: Session, viewer: Viewer, store: BlobStore, manifest: wire.Manifest, content: bytes
) -> Verdict:
    """Compare tensor by tensor with a `base_fingerprint.json`.

    Raises:
        BadRequest: The content is no such file.
    """
    found = _decoded(content)
    if found is None or not found.tensors:
        raise BadRequest("This is no `base_fingerprint.json`, as `adapterhub-client` writes it.")
    own = manifest.base.fingerprint
    if own is None:
        return _unknown(manifest)
    if found.root == own:
        return Verdict(fits=True, says="Yes: every tensor is the same, bit for bit.")
    expected = _leaves(session, viewer, store, own)
    if expected is None:
        says = "No: the fingerprints differ. Which tensors do cannot be said: this version came without its leaves."
        return Verdict(fits=False, says=says)
    return _compared(expected, found)


def _compared(expected: fingerprint.Fingerprint, found: fingerprint.Fingerprint) -> Verdict:
    comparison = fingerprint.compare(expected, found)
    if comparison.verdict == "cast":
        says = "Yes: the same values in another dtype."
    elif comparison.compatible:
        says = f"Yes, with care: {comparison.caution}."
    else:
        says = f"No: {comparison.sentence(0)}."
    return Verdict(fits=comparison.compatible, says=says, comparison=comparison)


def _unknown(manifest: wire.Manifest) -> Verdict:
    return Verdict(
        fits=None,
        says=f"Nobody can say: the fingerprint of {manifest.base.name} was never taken for this version.",
    )


def _leaves(
    session: Session, viewer: Viewer, store: BlobStore, root: str
) -> fingerprint.Fingerprint | None:
    """The leaves of a base, from any version on it that brought them and that the viewer may read."""
    if not names.DIGEST.fullmatch(root):
        return None
    sha256 = session.scalar(
        select(VersionFile.sha256)
        .join(Blob, Blob.sha256 == VersionFile.sha256)
        .join(Version, Version.id == VersionFile.version_id)
        .join(Version.variant)
        .join(Variant.adapter)
        .join(BaseModel, BaseModel.id == Variant.base_model_id)
        .where(
            BaseModel.fingerprint == root,
            VersionFile.path == wire.BASE_FINGERPRINT_FILE,
            Blob.size_bytes <= LARGEST_BYTES,
            readable(viewer),
        )
        .limit(1)
    )
    if sha256 is None:
        return None
    try:
        found = _KEPT.get(sha256, lambda: _decoded(b"".join(store.read(sha256))))
    except BlobMissing:
        return None
    return found if found is not None and found.root == root else None


def _decoded(content: bytes) -> fingerprint.Fingerprint | None:
    try:
        return msgspec.json.decode(content, type=fingerprint.Fingerprint)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
