"""The base model's identity: a digest of its backbone's tensors, from files or from a live model.

For each tensor, in order of canonical name, a leaf ``sha256(name, dtype, shape, little-endian bytes)``; the root is
the digest of the leaves. Canonical names drop the base-model prefix; heads, pooler and buffers are left out, so
``BertModel``, ``BertForSequenceClassification`` and a sharded or re-saved copy give the same value. The leaves are
kept, so that a mismatch names the tensors that differ, and so is a sample of every tensor's values: it decides for a
model that was loaded in another dtype than its files have.

Nothing here imports torch: files are mapped and hashed in place, a live model's tensors through their own memory.
"""

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import msgspec

from adapterhub_client.errors import Corrupt, UsageError
from adapterhub_client.tensors import Raw, live, mapped, weight_files
from adapterhub_client.wire import Base

SAMPLED_VALUES = 16
QUANTISED_DTYPES = {"I8", "U8", "F8_E4M3", "F8_E5M2"}

# The name of the backbone inside a model with a head, by `model_type`; the type itself where it is not listed.
PREFIXES = {
    "bart": "model",
    "deberta-v2": "deberta",
    "gemma2": "model",
    "gemma3_text": "model",
    "gpt2": "transformer",
    "llama": "model",
    "mbart": "model",
    "mistral": "model",
    "modernbert": "model",
    "qwen2": "model",
    "qwen3": "model",
    "t5": "transformer",
    "xlm-roberta": "roberta",
}
HEADS = frozenset(
    [
        "classification_head",
        "classifier",
        "cls",
        "discriminator_predictions",
        "final_logits_bias",
        "generator_lm_head",
        "generator_predictions",
        "head",
        "lm_head",
        "logits_proj",
        "pooler",
        "pre_classifier",
        "predictions",
        "qa_outputs",
        "score",
        "sequence_summary",
        "sop_classifier",
        "vocab_layer_norm",
        "vocab_projector",
        "vocab_transform",
    ]
)
BUFFERS = re.compile(
    r"(?:^|\.)(?:position_ids|token_type_ids|inv_freq|masked_bias)$|(?:^|\.)h\.\d+\.attn\.bias$"
)
LEGACY_SUFFIXES = {".gamma": ".weight", ".beta": ".bias"}
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)

# dtype -> (bytes an element, format for struct or None, relative error of rounding to it)
_FLOATS: dict[str, tuple[int, str | None, float]] = {
    "F64": (8, "<d", 2.0**-53),
    "F32": (4, "<f", 2.0**-24),
    "F16": (2, "<e", 2.0**-11),
    "BF16": (2, None, 2.0**-8),
}


class Tensor(msgspec.Struct, frozen=True):
    """One leaf: its digest, dtype (as safetensors writes it), shape, and values at evenly spaced places."""

    leaf: str
    dtype: str
    shape: list[int]
    sample: list[float]


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies a base model, and what is needed to say how another one differs."""

    name: str
    architecture: str
    hidden_size: int | None = None
    layers: int | None = None
    tokenizer: str | None = None
    quantised: bool = False
    tensors: dict[str, Tensor]

    @property
    def root(self) -> str:
        """The fingerprint itself: ``sha256:<hex>`` over the leaves in order of name."""
        leaves = hashlib.sha256()
        for name in sorted(self.tensors):
            leaves.update(bytes.fromhex(self.tensors[name].leaf))
        return "sha256:" + leaves.hexdigest()

    @property
    def base(self) -> Base:
        """The same base as a manifest names it."""
        return Base(
            name=self.name,
            architecture=self.architecture,
            fingerprint=self.root,
            hidden_size=self.hidden_size,
            layers=self.layers,
            tokenizer=self.tokenizer,
        )


class Comparison(msgspec.Struct, frozen=True):
    """Whether two bases are one.

    ``same``: bit for bit. ``cast``: the same values in another dtype. ``structure``: one is quantised, only names and
    shapes could be compared. ``different``: not the same base.
    """

    verdict: Literal["same", "cast", "structure", "different"]
    differing: tuple[str, ...] = ()
    """tensors that both have, with other values or shapes"""
    missing: tuple[str, ...] = ()
    """tensors that only the expected one has"""
    surplus: tuple[str, ...] = ()
    """tensors that only the found one has"""

    @property
    def compatible(self) -> bool:
        """Whether an adapter of the one may run on the other."""
        return self.verdict != "different"

    @property
    def caution(self) -> str | None:
        """What to tell whoever goes on: of a quantised base not everything could be compared."""
        if self.verdict != "structure":
            return None
        return "a quantised base: only names, shapes and what is not quantised could be compared"

    @property
    def all_differing(self) -> tuple[str, ...]:
        """Every tensor that speaks against it."""
        return self.differing + self.missing + self.surplus

    def sentence(self, limit: int = 3) -> str:
        """The difference in words: the first few tensors, and how many more."""
        parts = [
            f"{len(names)} {what} ({', '.join(names[:limit])}{', ...' if len(names) > limit else ''})"
            for names, what in (
                (self.differing, "tensors differ"),
                (self.missing, "tensors are missing"),
                (self.surplus, "tensors are new"),
            )
            if names
        ]
        return "; ".join(parts) or "no tensor differs"


# ---------------------------------------------------------------- where fingerprints come from


def of_folder(folder: str | os.PathLike[str], *, cache: Path | None = None) -> Fingerprint:
    """Fingerprint the model in a folder, straight from its safetensors files.

    With ``cache``, a folder in which results are kept by the files' identity (place, size, time of change).

    Raises:
        BaseModelNotFound: There is no folder, no ``config.json`` or no safetensors file.
        Corrupt: A safetensors file is damaged.
    """
    folder = Path(folder)
    files = weight_files(folder)
    kept = cache / f"{_identity(files)}.json" if cache else None
    if kept and kept.is_file():
        return read(kept)
    config = _config(folder)
    with ExitStack() as open_files:
        tensors = chain.from_iterable(mapped(open_files, path) for path in files)
        found = _fingerprint(config, _display_name(folder), _tokenizer_digest(folder), tensors)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write(found, kept)
    return found


def of_model(model: Any, *, name: str | None = None) -> Fingerprint:  # noqa: ANN401
    """Fingerprint a loaded ``transformers`` model, on whatever device it is.

    Raises:
        UsageError: An adapter is folded into its weights, which are not those of the base then.
    """
    folded = getattr(model, "folded_adapter", None)
    if isinstance(folded, str):
        raise UsageError(
            f"The adapter {folded!r} is folded into the model's weights, which are not the base's now.",
            hint="unfold it first: `adapted.unfold()`",
        )
    config = model.config.to_dict()
    place = (
        name or getattr(model.config, "_name_or_path", "") or config.get("model_type", "unknown")
    )
    folder = Path(place)
    tokenizer = _tokenizer_digest(folder) if folder.is_dir() else None
    tensors = (live(key, value) for key, value in model.named_parameters())
    return _fingerprint(
        config, _display_name(folder) if folder.is_dir() else place, tokenizer, tensors
    )


def read(path: str | os.PathLike[str]) -> Fingerprint:
    """Read a fingerprint that was written with its leaves.

    Raises:
        Corrupt: The file is not one.
    """
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Fingerprint)
    except msgspec.DecodeError as error:
        raise Corrupt(f"'{path}' is no fingerprint: {error}.") from error


def write(fingerprint: Fingerprint, path: str | os.PathLike[str]) -> None:
    """Write a fingerprint with its leaves; the same base gives the same bytes."""
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    unfinished.write_bytes(msgspec.json.encode(fingerprint, order="deterministic"))
    unfinished.replace(target)


def compare(expected: Fingerprint, found: Fingerprint) -> Comparison:
    """Say whether ``found`` is the base that ``expected`` describes, and which tensors are not."""
    if expected.root == found.root and expected.tensors:
        return Comparison("same")
    ours, theirs = expected.tensors, found.tensors
    common = sorted(ours.keys() & theirs.keys())
    missing = tuple(sorted(ours.keys() - theirs.keys()))
    surplus = tuple(sorted(theirs.keys() - ours.keys()))
    quantised = expected.quantised or found.quantised
    differing = tuple(
        name for name in common if not _same_values(ours[name], theirs[name], quantised=quantised)
    )
    if differing or ((missing or surplus) and not quantised) or not common:
        return Comparison("different", differing, missing, surplus)
    return Comparison("structure" if quantised else "cast", (), missing, surplus)


def canonical_names(architecture: str, names: Iterable[str]) -> dict[str, str]:
    """Map the names of a state dict to canonical ones; what is no part of the backbone is left out."""
    names = list(names)
    prefix = PREFIXES.get(architecture, architecture) + "."
    # DistilBERT's and others' bare models have inner modules, but never one with the prefix of all
    inside = [name for name in names if name.startswith(prefix)]
    backbone = {name: name.removeprefix(prefix) for name in (inside or names)}
    result = {}
    for name, bare in backbone.items():
        if bare.partition(".")[0] in HEADS or BUFFERS.search(bare):
            continue
        for legacy, current in LEGACY_SUFFIXES.items():
            bare = bare.removesuffix(legacy) + current if bare.endswith(legacy) else bare  # noqa: PLW2901
        result[name] = bare
    return result


# ---------------------------------------------------------------- leaves


def _fingerprint(
    config: Mapping[str, Any], name: str, tokenizer: str | None, tensors: Iterable[Raw]
) -> Fingerprint:
    found = {raw.name: raw for raw in tensors}
    architecture = str(config.get("model_type", "unknown"))
    backbone = canonical_names(architecture, found)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets go of the interpreter's lock
        leaves = pool.map(lambda item: _leaf(item[1], found[item[0]]), backbone.items())
        hashed = dict(zip(backbone.values(), leaves, strict=True))
    quantised = "quantization_config" in config or any(
        tensor.dtype in QUANTISED_DTYPES for tensor in hashed.values()
    )
    return Fingerprint(
        name=name,
        architecture=architecture,
        hidden_size=_first(config, "hidden_size", "dim", "n_embd", "d_model"),
        layers=_first(config, "num_hidden_layers", "n_layers", "n_layer", "num_layers"),
        tokenizer=tokenizer,
        quantised=quantised,
        tensors=hashed,
    )


def _leaf(name: str, raw: Raw) -> Tensor:
    leaf = hashlib.sha256(
        json.dumps([name, raw.dtype, raw.shape], separators=(",", ":")).encode() + b"\n"
    )
    leaf.update(raw.data)
    return Tensor(leaf.hexdigest(), raw.dtype, raw.shape, _sample(raw))


def _sample(raw: Raw) -> list[float]:
    if raw.dtype not in _FLOATS:
        return []
    width, form, _ = _FLOATS[raw.dtype]
    count = len(raw.data) // width
    places = (
        sorted({count * step // SAMPLED_VALUES for step in range(SAMPLED_VALUES)}) if count else []
    )
    pieces = (bytes(raw.data[place * width : (place + 1) * width]) for place in places)
    if form is None:  # bfloat16 is the upper half of a float32
        pieces, form = (b"\0\0" + piece for piece in pieces), "<f"
    return [float(struct.unpack(form, piece)[0]) for piece in pieces]


def _same_values(expected: Tensor, found: Tensor, *, quantised: bool) -> bool:
    if expected.shape != found.shape:
        return quantised and (expected.dtype not in _FLOATS or found.dtype not in _FLOATS)
    if expected.dtype == found.dtype:
        return expected.leaf == found.leaf
    if expected.dtype not in _FLOATS or found.dtype not in _FLOATS:
        return quantised
    tolerance = max(_FLOATS[expected.dtype][2], _FLOATS[found.dtype][2])
    tiny = (
        2.0**-24 if "F16" in {expected.dtype, found.dtype} else 0.0
    )  # where float16 has no exponent left
    return all(
        abs(one - other) <= tolerance * max(abs(one), abs(other)) + tiny
        for one, other in zip(expected.sample, found.sample, strict=True)
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise Corrupt(f"'{folder / 'config.json'}' is not JSON: {error}.") from error
    if not isinstance(config, dict):
        raise Corrupt(f"'{folder / 'config.json'}' holds no object.")
    return config


def _identity(files: Sequence[Path]) -> str:
    """What changes when a file that counts is replaced, even by one of the same size and date."""
    folder = files[0].parent
    others = [folder / name for name in ("config.json", *TOKENIZER_FILES)]
    parts = []
    for path in [*files, *(other for other in others if other.is_file())]:
        found = path.stat()
        parts.append(
            (
                str(path.resolve()),
                found.st_size,
                found.st_mtime_ns,
                found.st_ctime_ns,
                found.st_ino,
                found.st_dev,
            )
        )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _tokenizer_digest(folder: Path) -> str | None:
    """Digest the first tokenizer file there is: a fast tokenizer's one file says everything."""
    for name in TOKENIZER_FILES:
        path = folder / name
        if path.is_file():
            return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    return None


def _display_name(folder: Path) -> str:
    """A name for people: the hub name of a cached snapshot, else the folder's own."""
    folder = folder.resolve()
    for part in folder.parts:
        if part.startswith("models--"):
            return part.removeprefix("models--").replace("--", "/")
    return folder.parent.name.replace("_", "-") if folder.name in {"model", "base"} else folder.name


def _first(config: Mapping[str, Any], *keys: str) -> int | None:
    return next((int(config[key]) for key in keys if isinstance(config.get(key), int)), None)
