"""The base in hand, in any of the ways a person names it, and the refusal when it is not the one."""

import os
from pathlib import Path
from typing import Any

from adapterhub_client.errors import UsageError, WrongBase
from adapterhub_client.fingerprint import Comparison, Fingerprint, of_folder, of_model
from adapterhub_client.names import Reference
from adapterhub_client.wire import Manifest


def known(base: Any, cache: Path) -> Fingerprint | str | None:  # noqa: ANN401
    """A fingerprint with its leaves where they can be had: from a model, or its folder; else the text itself.

    Raises:
        BaseModelNotFound: There is no model in the folder.
        UsageError: It is nothing that names a base.
    """
    if base is None or isinstance(base, Fingerprint):
        return base
    if isinstance(base, str | os.PathLike):
        text = os.fspath(base)
        is_folder = (
            isinstance(base, os.PathLike) or Path(text).is_dir() or text.startswith((".", "/", "~"))
        )
        return of_folder(Path(text).expanduser(), cache=cache) if is_folder else text
    if hasattr(base, "named_parameters") and hasattr(base, "config"):
        return of_model(base)
    raise UsageError(
        f"{type(base).__name__} is no base model.",
        hint="give a model, its folder, a fingerprint or a name",
    )


def wrong(
    wanted: Reference, manifest: Manifest, known: Fingerprint | str, comparison: Comparison | None
) -> WrongBase:
    """The refusal, with both bases and the tensors that differ."""
    made_for = f"{manifest.base.name} ({(manifest.base.fingerprint or 'no fingerprint')[:19]})"
    found = f"{known.name} ({known.root[:19]})" if isinstance(known, Fingerprint) else known[:19]
    why = comparison.sentence() if comparison else "their fingerprints differ"
    return WrongBase(
        f"{wanted.adapter} was made for {made_for}, not for {found}: {why}.",
        differing=comparison.all_differing if comparison else (),
    )
