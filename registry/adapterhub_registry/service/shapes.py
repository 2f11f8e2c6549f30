"""Whether the tensors of an adapter fit one another, its config, its labels and its base; known by their shapes alone.

Only what holds for every method and architecture is held against a file: a rule that is not sure says nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from adapterhub_client import wire

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_DOWN = re.compile(r"(.+)\.adapter_down\.[0-9]+\.weight")
_LOW_RANK = re.compile(r"(.+?)\.lora_([AB])((?:\.[^.]+)?\.weight)?")
_PROJECTION = re.compile(r"(.+)\.(query|key|value)\.weight")
_HEAD = re.compile(r"heads\.(.+)\.([0-9]+)\.weight")
_PEFT_PREFIX = "base_model.model."
_MATRIX = 2
_LABELLED = frozenset(["classification", "multilabel_classification", "tagging"])
_PROMPTS = frozenset(["PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING"])


def faults(manifest: wire.Manifest, files: Mapping[str, Shapes], base: Shapes) -> list[str]:
    """Everything that does not fit, as clauses; `files` by path, `base` the shapes of the base's tensors if known."""
    found: list[str] = []
    for path, shapes in files.items():
        rules = (
            # a compiled fusion keeps of its members the first halves alone
            iter(()) if manifest.composition else _bottlenecks(shapes, manifest),
            _low_rank(shapes, manifest),
            _bases(shapes, manifest, base),
            _projections(shapes) if "fusion" in path else iter(()),
            _prompts(shapes, manifest),
            _heads(shapes, manifest),
        )
        found += [f"{path}: {fault}" for rule in rules for fault in rule]
    return found


def _bottlenecks(shapes: Shapes, manifest: wire.Manifest) -> Iterator[str]:
    reduction = manifest.method.config.get("reduction_factor")
    for name, shape in shapes.items():
        match = _DOWN.fullmatch(name)
        if match is None or len(shape) != _MATRIX:
            continue
        up = shapes.get(f"{match[1]}.adapter_up.weight")
        width, features = shape
        if up is None:
            yield f"{name!r} has no adapter_up beside it"
        elif len(up) != _MATRIX or up[1] != width:
            yield f"{name!r} projects to {width}, its adapter_up has the shape {_told(up)}"
        yield from _biased(shapes, name, width)
        if manifest.base.hidden_size not in {None, features}:
            hidden = manifest.base.hidden_size
            yield f"{name!r} reads {features} features, the base has {hidden}"
        if isinstance(reduction, int | float) and reduction >= 1:
            expected = max(1, int(features // reduction))
            if width != expected:
                yield (
                    f"{name!r} projects to {width}, a reduction factor of {reduction} makes {expected}"
                )


def _biased(shapes: Shapes, weight: str, width: int) -> Iterator[str]:
    bias = shapes.get(weight.removesuffix("weight") + "bias")
    if bias is not None and bias != (width,):
        yield f"the bias of {weight!r} has the shape {_told(bias)}, not {width}"


def _low_rank(shapes: Shapes, manifest: wire.Manifest) -> Iterator[str]:
    config = manifest.method.config
    rank = config.get("r")
    fixed = isinstance(rank, int) and not config.get("rank_pattern") and _is_plain(config)
    for (module, rest), (down, up) in _pairs(shapes).items():
        name = f"{module}.lora_A{rest}"
        if down is None or up is None:
            # (IA)3 of the adapters library has vectors under the name of the second factor alone
            if up is None or up[-1:] != (1,):
                yield f"{module!r} has one factor of a low-rank pair, {'A' if up is None else 'B'}, not both"
            continue
        if len(down) < _MATRIX or len(up) < _MATRIX:
            yield f"{name!r} and its B are no matrices: {_told(down)} and {_told(up)}"
        elif up[-1] == 0 or down[0] % up[-1]:  # of layers that hold several, A has all their rows
            yield f"{name!r} has the rank {down[0]}, its B the rank {up[-1]}"
        elif fixed and up[-1] != rank:
            yield f"{name!r} has the rank {up[-1]}, the config says {rank}"


def _is_plain(config: Mapping[str, Any]) -> bool:
    """Whether a rank holds for all pairs: of the methods with pairs, AdaLoRA changes it while it trains."""
    return config.get("peft_type") in {None, "LORA"}


def _pairs(shapes: Shapes) -> dict[tuple[str, str], tuple[Shape | None, Shape | None]]:
    found: dict[tuple[str, str], dict[str, Shape]] = {}
    for name, shape in shapes.items():
        match = _LOW_RANK.fullmatch(name)
        if match is not None:
            found.setdefault((match[1], match[3] or ""), {})[match[2]] = shape
    return {place: (pair.get("A"), pair.get("B")) for place, pair in found.items()}


def _bases(shapes: Shapes, manifest: wire.Manifest, base: Shapes) -> Iterator[str]:
    """PEFT's pairs hang on a layer of the base by its name: both have its shape, either way round."""
    if not base or manifest.method.format != "peft":
        return
    known = {name.removesuffix(".weight"): shape for name, shape in base.items()}
    for (module, rest), (down, up) in _pairs(shapes).items():
        layer = _known_layer(module.removeprefix(_PEFT_PREFIX), known)
        if down is None or up is None or layer is None or len(layer) != _MATRIX:
            continue
        if sorted((down[-1], up[0])) != sorted(layer):
            yield (
                f"'{module}.lora_A{rest}' maps {down[-1]} features to {up[0]}, the base's layer has "
                f"the shape {_told(layer)}"
            )


def _known_layer(module: str, known: Mapping[str, Shape]) -> Shape | None:
    """A layer of the base, whose names lack the prefix that a model with a head puts before them."""
    while module not in known:
        _, dot, module = module.partition(".")
        if not dot:
            return None
    return known[module]


def _projections(shapes: Shapes) -> Iterator[str]:
    sizes: dict[str, set[Shape]] = {}
    kinds: dict[str, set[str]] = {}
    for name, shape in shapes.items():
        match = _PROJECTION.fullmatch(name)
        if match is not None:
            sizes.setdefault(match[1], set()).add(shape)
            kinds.setdefault(match[1], set()).add(match[2])
    for place, found in sizes.items():
        shape = next(iter(found))
        if kinds[place] >= {"query", "key"} and (len(found) > 1 or len(set(shape)) > 1):
            told = ", ".join(sorted(map(_told, found)))
            yield f"the projections of {place!r} are not square and alike: {told}"


def _prompts(shapes: Shapes, manifest: wire.Manifest) -> Iterator[str]:
    config = manifest.method.config
    tokens, length = config.get("num_virtual_tokens"), config.get("prompt_length")
    for name, shape in shapes.items():
        if name == "prompt_embeddings" and config.get("peft_type") in _PROMPTS:
            # an encoder and a decoder have their tokens one after the other
            if type(tokens) is int and (len(shape) != _MATRIX or tokens < 1 or shape[0] % tokens):
                yield f"{name!r} has the shape {_told(shape)}, the config says {tokens} tokens"
        elif name.endswith(".prompt_embedding.weight") and type(length) is int:
            faulty = shape[:1] != (length,)
            if faulty:
                yield f"{name!r} has the shape {_told(shape)}, the config says {length} tokens"


def _heads(shapes: Shapes, manifest: wire.Manifest) -> Iterator[str]:
    """The last layer of a head has a row for each label."""
    last: dict[str, tuple[int, str]] = {}
    for name, shape in shapes.items():
        match = _HEAD.fullmatch(name)
        if match is not None and len(shape) == _MATRIX:
            last[match[1]] = max((int(match[2]), name), last.get(match[1], (-1, "")))
    for head in manifest.heads:
        if head.type in _LABELLED and head.labels and head.name in last:
            name = last[head.name][1]
            if shapes[name][0] != len(head.labels):
                yield (
                    f"{name!r} has {shapes[name][0]} outputs, the head {head.name!r} "
                    f"has {len(head.labels)} labels"
                )


def _told(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "of a single number"
