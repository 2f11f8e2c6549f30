"""Makes one adapter, or one head, of several of a kind, by arithmetic on their weights.

| method | result | source |
|---|---|---|
| `linear` | sum_i w_i t_i for every tensor t | Ilharco et al. 2023 |
| `ties` | trimmed, one sign elected for each value, the mean of those that have it | Yadav et al. 2023 |
| `dare_linear`, `dare_ties` | values dropped at random and the rest rescaled, then as above | Yu et al. 2024 |
| `svd` | LoRA: the product of some rank that is nearest to sum_i w_i B_i A_i | |
| `negate_b` | LoRA: A = sum_i abs(w_i) A_i, B = sum_i w_i B_i: a product is negated once | Zhang et al. 2023 |

All is done in float64 and rounded once, to the dtype of the model.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from adapterhub_client.compose import heads
from adapterhub_client.compose.files import checkpoint
from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.heads import Head
from adapterhub_client.compose.methods import method as methods
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.compose.weights import likeness, lowrank, thinning
from adapterhub_client.errors import CompositionError

MergeMethod = Literal["linear", "ties", "dare_linear", "dare_ties", "svd", "negate_b"]
Tensors = dict[str, Tensor]

_NAME = "merged"


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a merge."""

    normalize: bool = False
    """divide the weights by their sum"""
    density: float = 0.5
    """TIES and DARE: which part of the values is kept"""
    seed: int = 0
    """DARE: of the choice which values are dropped"""
    rank: int | None = None
    """SVD: of the result; None takes the members' own"""


class Group(NamedTuple):
    """What is merged: tensors by their names in a file, those of all adapters stacked.

    Shapes:
        tensors: each (adapters, *shape), float64, on the CPU
        weights: (adapters)
    """

    config: Any
    tensors: Tensors
    weights: Tensor
    recipe: Recipe
    factors: frozenset[str]
    """the tensors that start at one, such as norms and scalings, and so are no changes from zero"""


def merge(
    named: Sequence[tuple[str, LoadedAdapter]],
    weights: Sequence[float] | None,
    method: str,
    options: Mapping[str, Any],
    backbone: Backbone,
) -> LoadedAdapter:
    """A new adapter made of others of one kind, each with its weight.

    Without ``weights`` all count alike: 1 / N each in sums, 1 each with TIES, which takes a mean by itself.

    Raises:
        CompositionError: The adapters differ in kind, or the method or an option does not fit them.
    """
    recipe = _recipe(method, options)
    likeness.require_one_kind(named)
    entries = [list(checkpoint.adapter_entries(own, backbone, _NAME)) for _, own in named]
    fixed = likeness.never_trained(named, entries)
    stacked = {
        same[0].keys[0]: torch.stack([entry.tensor.detach().cpu().double() for entry in same])
        for same in zip(*entries, strict=True)
        if same[0].keys[0] not in fixed
    }
    is_sum = method not in ("ties", "dare_ties")
    shares = _weights([name for name, _ in named], weights, is_sum=is_sum, recipe=recipe)
    factors = frozenset(entry.keys[0] for entry in entries[0] if _is_factor(entry))
    config, tensors = MERGES[method](Group(named[0][1].config, stacked, shares, recipe, factors))
    adapter = checkpoint.new_adapter(methods.read(config, backbone), backbone, empty=True)
    written = checkpoint.adapter_entries(adapter, backbone, _NAME)
    checkpoint.fill(written, fixed | tensors, backbone, Path(_NAME))
    return adapter


def merge_heads(
    named: Sequence[tuple[str, Any]], weights: Sequence[float] | None, backbone: Backbone
) -> Head:
    """A new head, the weighted sum of others that are alike.

    Raises:
        CompositionError: They differ in their kind, layers or labels, or one is the model's own.
    """
    likeness.require_like_heads(named)
    first = named[0][1]
    shares = _weights([name for name, _ in named], weights, is_sum=True, recipe=Recipe())
    merged = heads.build(first.to_dict(), backbone, empty=False)
    own = dict(merged.layers.named_parameters())
    for name, head in named:
        if {leaf for leaf, _ in head.layers.named_parameters()} != own.keys():
            raise CompositionError(
                f"The head {name!r} has an output embedding of its own, which cannot be merged."
            )
    with torch.no_grad():
        for name, parameter in own.items():
            stacked = torch.stack(
                [head.layers.get_parameter(name).detach().cpu().double() for _, head in named]
            )
            parameter.copy_(weighted_sum(stacked, shares))
    return merged


def weighted_sum(stacked: Tensor, weights: Tensor) -> Tensor:
    """Compute sum_i w_i t_i over the first dimension."""
    total: Tensor = torch.tensordot(weights, stacked, dims=1)
    return total


def _linear(group: Group) -> tuple[Any, Tensors]:
    merged = {key: weighted_sum(own, group.weights) for key, own in group.tensors.items()}
    return group.config, merged


def _thinned(group: Group, *, at_random: bool, elects: bool) -> tuple[Any, Tensors]:
    """TIES and DARE; what starts at one is averaged, since nothing of it can be left out."""
    likeness.require_changes(group.config)
    if not 0 < group.recipe.density <= 1:
        raise CompositionError(f"The density is {group.recipe.density}, not above 0 and at most 1.")
    generator = torch.Generator().manual_seed(group.recipe.seed)
    mean = torch.full_like(group.weights, 1 / len(group.weights))
    merged: Tensors = {}
    for key, stacked in sorted(group.tensors.items()):
        if key in group.factors:
            merged[key] = weighted_sum(stacked, mean)
            continue
        if at_random:
            kept = thinning.dropped(stacked, group.recipe.density, generator)
        else:
            kept = thinning.trimmed(stacked, group.recipe.density)
        combine = thinning.of_elected_sign if elects else weighted_sum
        merged[key] = combine(kept, group.weights)
    return group.config, merged


def _svd(group: Group) -> tuple[Any, Tensors]:
    config = likeness.plain_lora(group.config, "svd")
    rank = config.r if group.recipe.rank is None else group.recipe.rank
    if rank < 1:
        raise CompositionError(f"The rank is {rank}; it has to be 1 at least.")
    merged: Tensors = {}
    for key, down in group.tensors.items():
        if key.endswith("lora_A"):
            partner = key.removesuffix("A") + "B"
            pair = lowrank.nearest(down, group.tensors[partner], group.weights, config.r, rank)
            merged[key], merged[partner] = pair
    # The product is multiplied by alpha / r: alpha follows the rank, so that this stays the same.
    return msgspec.structs.replace(config, r=rank, alpha=_number(config.scale * rank)), merged


def _negate_b(group: Group) -> tuple[Any, Tensors]:
    config = likeness.plain_lora(group.config, "negate_b")
    signs = {"lora_A": group.weights.abs(), "lora_B": group.weights}
    merged = {
        key: weighted_sum(own, signs[key.rpartition(".")[2]]) for key, own in group.tensors.items()
    }
    return config, merged


MERGES: dict[str, Callable[[Group], tuple[Any, Tensors]]] = {
    "linear": _linear,
    "ties": lambda group: _thinned(group, at_random=False, elects=True),
    "dare_linear": lambda group: _thinned(group, at_random=True, elects=False),
    "dare_ties": lambda group: _thinned(group, at_random=True, elects=True),
    "svd": _svd,
    "negate_b": _negate_b,
}


def _recipe(method: str, options: Mapping[str, Any]) -> Recipe:
    if method not in MERGES:
        raise CompositionError(
            f"There is no way to merge named {method!r}.", hint="known: " + ", ".join(MERGES)
        )
    try:
        return msgspec.convert(dict(options), Recipe)
    except msgspec.ValidationError as error:
        raise CompositionError(f"An option of the merge is malformed: {error}.") from error


def _weights(
    names: Sequence[str], weights: Sequence[float] | None, *, is_sum: bool, recipe: Recipe
) -> Tensor:
    """The weights as a tensor, one for each of what is merged.

    Raises:
        CompositionError: They are not as many, not finite, or cannot be divided by their sum.
    """
    usual = 1 / len(names) if is_sum and names else 1.0
    given = [usual] * len(names) if weights is None else list(weights)
    if len(given) != len(names):
        raise CompositionError(
            f"There are {len(names)} to merge ({', '.join(names)}), but {len(given)} weights."
        )
    shares = torch.tensor(given, dtype=torch.float64)
    if not shares.isfinite().all():
        raise CompositionError(f"A weight is not finite: {', '.join(map(str, given))}.")
    if not recipe.normalize:
        return shares
    if shares.sum() == 0:
        raise CompositionError(
            "The weights sum to 0, so they cannot be divided by their sum.",
            hint="leave out `normalize`",
        )
    return shares / shares.sum()


def _is_factor(entry: Entry) -> bool:
    path, _, leaf = entry.name.rpartition(".")
    is_norm = isinstance(entry.owner.get_submodule(path), nn.LayerNorm) and leaf == "weight"
    return is_norm or leaf == "scaling"


def _number(value: float) -> float:
    return int(value) if float(value).is_integer() else value
