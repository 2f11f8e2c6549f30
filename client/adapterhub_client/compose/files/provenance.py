"""What a folder says of where it comes from: its base, its published version, the members of a composition."""

import hashlib
import warnings
from pathlib import Path

import msgspec
from torch import nn

from adapterhub_client import fingerprint
from adapterhub_client.compose.shelf import Pin
from adapterhub_client.errors import Corrupt, WrongBase
from adapterhub_client.fingerprint import Fingerprint
from adapterhub_client.formats.folder import COMPOSITION_FILE, CompositionFile
from adapterhub_client.wire import BASE_FINGERPRINT_FILE, MANIFEST_FILE, Manifest


class BaseCheck:
    """Holds folders against a base model."""

    def __init__(self, model: nn.Module, name: str) -> None:
        self._model, self._name = model, name
        self._fingerprint: Fingerprint | None = None
        self._same: bytes | None = None
        """the last file of leaves that was found to be of this very base"""

    def fingerprint(self) -> Fingerprint:
        """The base's identity; computed once, since the base is frozen."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint.of_model(self._model)
        return self._fingerprint

    def require(self, folder: Path) -> None:
        """Refuse what was trained on another base; warn where that cannot be known of a published version.

        Raises:
            WrongBase: It was.
            Corrupt: The folder's fingerprint or manifest cannot be read.
        """
        leaves = folder / BASE_FINGERPRINT_FILE
        if leaves.is_file():
            # All that were trained on one base have the same file.
            written = leaves.read_bytes()
            if written != self._same:
                is_same = self._compare(folder, fingerprint.read(leaves))
                self._same = written if is_same else self._same
            return
        published = manifest(folder)
        if published is None:
            return
        expected = published[0].base.fingerprint
        if expected is None:
            warnings.warn(
                f"'{folder}' was published without its base's fingerprint: nothing proves that it "
                f"fits {self._name!r}.",
                stacklevel=2,
            )
        elif expected != self.fingerprint().root:
            raise WrongBase(self._difference(folder, expected) + ".")

    def _compare(self, folder: Path, expected: Fingerprint) -> bool:
        """Refuse another base; whether it is this one in every bit."""
        comparison = fingerprint.compare(expected, self.fingerprint())
        if not comparison.compatible:
            raise WrongBase(
                f"{self._difference(folder, expected.root)}: {comparison.sentence()}.",
                differing=comparison.all_differing,
            )
        if comparison.verdict == "structure":
            warnings.warn(
                f"'{folder}' or the base model {self._name!r} is quantised: only names and shapes "
                "of their tensors could be compared.",
                stacklevel=2,
            )
        return comparison.verdict == "same"

    def _difference(self, folder: Path, expected: str) -> str:
        return (
            f"'{folder}' was trained on {expected[:19]}, this base model "
            f"{self._name!r} is {self.fingerprint().root[:19]}"
        )


def composition(folder: Path) -> CompositionFile | None:
    """What a folder says it composes, if it does.

    Raises:
        Corrupt: The file cannot be read.
    """
    path = folder / COMPOSITION_FILE
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=CompositionFile)
    except msgspec.DecodeError as error:
        raise Corrupt(f"'{path}' cannot be read: {error}") from error


def manifest(folder: Path) -> tuple[Manifest, str] | None:
    """The manifest that the hub puts beside what it pulls, and its digest.

    Raises:
        Corrupt: It cannot be read.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return None
    data = path.read_bytes()
    try:
        decoded = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise Corrupt(f"'{path}' cannot be read: {error}") from error
    return decoded, "sha256:" + hashlib.sha256(data).hexdigest()


def pin(folder: Path, weights: str) -> tuple[Pin | None, str | None]:
    """Which published version a folder is, and the sha256 that its file of weights has in it."""
    published = manifest(folder)
    if published is None:
        return None, None
    digests = {file.path: file.sha256 for file in published[0].files}
    return Pin(published[0].reference.reference.adapter, published[1]), digests.get(weights)
