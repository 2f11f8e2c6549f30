"""What adapters and heads must have in common to be merged, said where they do not have it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.heads import Head
from adapterhub_client.compose.methods import method as methods
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method as formats

Named = Sequence[tuple[str, LoadedAdapter]]

# Adapters that differ in these only are of one kind: nothing of what they compute depends on them.
_IGNORED = {"dropout", "init_weights", "init_weights_seed"}


def require_one_kind(named: Named) -> None:
    """Refuse adapters of several kinds.

    Raises:
        CompositionError: Says what the configs differ in, or that there is no adapter.
    """
    if not named:
        raise CompositionError("There is nothing to merge.", hint="name at least one")
    first_name, first = named[0]
    telling = _telling(first.config.to_dict())
    for name, other in named[1:]:
        theirs = _telling(other.config.to_dict())
        if formats.config_id(theirs) != formats.config_id(telling):
            raise CompositionError(
                f"The adapters {first_name!r} and {name!r} are of different kinds: "
                f"{_difference(telling, theirs)}.",
                hint="only adapters of one config can be merged; `average` takes any",
            )


def require_like_heads(named: Sequence[tuple[str, Any]]) -> None:
    """Refuse heads that differ in their kind, layers or labels.

    Raises:
        CompositionError: Says what they differ in.
    """
    if not named:
        raise CompositionError("There is nothing to merge.", hint="name at least one")
    for name, head in named:
        if not isinstance(head, Head):
            raise CompositionError(
                f"The head {name!r} is the model's own kind, which cannot be merged."
            )
    first_name, first = named[0]
    for name, other in named[1:]:
        if other.to_dict() != first.to_dict():
            raise CompositionError(
                f"The heads {first_name!r} and {name!r} are of different kinds: "
                f"{_difference(first.to_dict(), other.to_dict())}."
            )


def never_trained(named: Named, entries: Sequence[Sequence[Entry]]) -> dict[str, Tensor]:
    """The tensors a method draws once and never trains, which a sum would turn into others.

    Raises:
        CompositionError: The adapters have different ones.
    """
    frozen = {
        id(module.get_parameter(name))
        for module in named[0][1].modules()
        for name in getattr(module, "never_trained", ())
    }
    fixed: dict[str, Tensor] = {}
    for same in zip(*entries, strict=True):
        own = same[0].tensor.detach()
        if id(same[0].tensor) not in frozen:
            continue
        for (name, _), entry in zip(named, same, strict=True):
            if not torch.equal(entry.tensor.detach(), own):
                raise CompositionError(
                    f"The adapters {named[0][0]!r} and {name!r} have different random maps at "
                    f"{entry.keys[0]!r}, so a sum of what is trained between them means nothing.",
                    hint="merge adapters that began with the same ones",
                )
        fixed[same[0].keys[0]] = own
    return fixed


def require_changes(config: Any) -> None:  # noqa: ANN401
    """Refuse TIES and DARE for adapters that are no changes from zero.

    Raises:
        CompositionError: Names the method.
    """
    for part in methods.parts(config):
        is_change = isinstance(part, formats.Bottleneck) and not part.phm_layer
        if isinstance(part, formats.Lora):
            is_change = part.composition_mode == "add" and not (part.use_dora or part.is_vera)
        if not is_change:
            raise CompositionError(
                "TIES and DARE leave values out, which means no change only where values start at "
                f"zero; those of {formats.method_name(part.to_dict())!r} do not.",
                hint="merge them with method='linear'",
            )


def plain_lora(config: Any, method: str) -> formats.Lora:  # noqa: ANN401
    """The config of LoRA that only adds a product.

    Raises:
        CompositionError: It is of anything else.
    """
    if (
        not isinstance(config, formats.Lora)
        or config.composition_mode != "add"
        or config.use_dora
        or config.use_gating
        or config.is_vera
    ):
        raise CompositionError(
            f"{method!r} merges LoRA alone, not {formats.method_name(config.to_dict())!r}, gates or others.",
            hint="merge them with method='linear'",
        )
    return config


def _telling(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config makes the kind of an adapter."""
    telling = {key: value for key, value in config.items() if key not in _IGNORED}
    if isinstance(telling.get("configs"), list):
        telling["configs"] = [_telling(part) for part in telling["configs"]]
    return telling


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    keys = [key for key in [*ours, *theirs] if ours.get(key) != theirs.get(key)]
    sides = [
        ", ".join(f"{key}={side.get(key)!r}" for key in dict.fromkeys(keys))
        for side in (ours, theirs)
    ]
    return f"the one has {sides[0]}, the other {sides[1]}"
