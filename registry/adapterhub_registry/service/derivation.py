"""From a tree of files to the manifest it deserves: the same as a push of the same folder would send.

Only small texts are read (configs, the card, the base's fingerprint); weights are never opened here, and files that
can carry code never at all.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from adapterhub_client import names, wire
from adapterhub_client.errors import HubError, NotAnAdapter
from adapterhub_client.formats.folder import (
    CONVERTED,
    PICTURES,
    PUBLISHED,
    RUN,
    Content,
    inspect,
)
from adapterhub_registry.service import card
from adapterhub_registry.service.repository import Entry, Tree

Read = Callable[[Entry], bytes]

_TEXT_BYTES = 8 * 1024 * 1024
_CONVERT = (
    "it has only pickled weights ({}), which no version takes: save it with safetensors, "
    "or convert it with `adapterhub-client push`"
)


class NoVersion(Exception):
    """The tree is no adapter folder, or not yet; says why."""


def manifest(tree: Tree, read: Read, reference: names.Reference) -> wire.Manifest:
    """Say everything about the version that a tree is.

    Raises:
        NoVersion: It is none.
    """
    content = _content(tree, read)
    files = [
        wire.File(path=path, sha256=tree[path].sha256, size_bytes=tree[path].size_bytes)
        for path in sorted(content.files)
    ]
    if not any(file.path.endswith(".safetensors") for file in files):
        raise NoVersion(without_weights(tree) or "it has no weights yet")
    about = card.facts(_text(tree, read, card.CARD))
    return wire.Manifest(
        reference=wire.Name(task=reference.task, name=reference.name, org=reference.org),
        base=content.base,
        method=content.method,
        heads=content.heads,
        files=files,
        composition=content.composition,
        description=about.description,
        license=about.license,
        languages=about.languages,
    )


def without_weights(tree: Tree) -> str | None:
    """Why no version comes of a tree whose weights are all pickled; None where they are not."""
    pickles = sorted(path for path, made in CONVERTED.items() if path in tree and made not in tree)
    return _CONVERT.format(", ".join(pickles)) if pickles else None


def _content(tree: Tree, read: Read) -> Content:
    """Look into the folder as a client would, with empty files in place of all that is no small text."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for path, entry in _top_level(tree).items():
            is_text = path.endswith(".json") and entry.size_bytes <= _TEXT_BYTES
            (folder / path).write_bytes(read(entry) if is_text else b"")
        try:
            return inspect(folder)
        except NotAnAdapter as error:
            files = [text for text in error.looked_for if not text.startswith(RUN)]
            raise NoVersion(f"it is no adapter folder, without {', '.join(files)}") from error
        except HubError as error:
            reason = str(error).replace(scratch + "/", "").replace(scratch, "it").rstrip(".")
            raise NoVersion(" ".join(filter(None, [reason, error.hint]))) from error
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise NoVersion(f"its config cannot be read: {error}") from error
        except (RecursionError, msgspec.MsgspecError) as error:
            raise NoVersion("its config is nested too deep or malformed") from error


def _top_level(tree: Tree) -> Mapping[str, Entry]:
    """The files of the folder itself. What a training run says of itself names folders, so it is left out."""
    return {path: entry for path, entry in tree.items() if _counts(path) and path != RUN}


def _counts(path: str) -> bool:
    kind = Path(path).suffix
    named = path in PUBLISHED or path in CONVERTED
    return "/" not in path and (named or kind == ".json" or kind in PICTURES)


def _text(tree: Tree, read: Read, path: str) -> str:
    entry = tree.get(path)
    if entry is None or entry.size_bytes > card.CARD_BYTES:
        return ""
    return read(entry).decode("utf-8", "replace")
