"""What of an adapted model is trained, the state of that, and the penalty on value maps."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from adapterhub_client.compose.lookup import Lookup
from adapterhub_client.compose.shelf import LoadedFusion, Shelf
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError

VALUE_PENALTY = 0.01


def chosen(lookup: Lookup, names: Sequence[str], heads: Sequence[str] | None) -> list[nn.Module]:
    """The modules that are trained by these names; without ``heads``, the heads of the same names too.

    Raises:
        CompositionError: A name is not loaded.
    """
    modules: list[nn.Module] = [lookup.head(name) for name in heads or ()]
    for name in names:
        modules += lookup.modules(name, with_head=heads is None)
    return modules


def make_base_head_trainable(
    model: nn.Module, backbone: Backbone, lookup: Lookup, names: Sequence[str]
) -> None:
    """Train the model's own head, and remember with what, since it is saved along."""
    prefix = f"{backbone.prefix}."
    for name, parameter in model.named_parameters():
        if not name.startswith(prefix):
            parameter.requires_grad = True
    for owner in map(lookup.owner, names):
        if owner is not None:
            owner.trained_with_base_head = True


def regularization(fusions: Iterable[LoadedFusion], backbone: Backbone) -> Tensor:
    """0.01 times the squared distance of every trained value map from the identity.

    Source: Pfeiffer et al. 2021, section 3; the sum over all places as the reference library has it.
    """
    values = [
        layer.value.weight
        for fusion in fusions
        for layer in fusion.layers()
        if layer.value is not None and layer.value.weight.requires_grad
    ]
    total = backbone.reference_parameter.new_zeros(())
    for value in values:
        identity = torch.eye(len(value), device=value.device, dtype=value.dtype)
        total = total + VALUE_PENALTY * (identity - value).square().sum()
    return total


def state(adapted: nn.Module, shelf: Shelf) -> dict[str, Tensor]:
    """What is trainable now, and the temperatures of fusions, by name."""
    own: dict[str, Tensor] = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    return own | dict(shelf.named_buffers(prefix="shelf"))


def load_state(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy a state over what is trainable now.

    Raises:
        CompositionError: Names or shapes differ.
    """
    differing = sorted(set(own) ^ set(state))
    differing += [n for n in own if n in state and own[n].shape != state[n].shape]
    if differing:
        raise CompositionError(
            f"The state is of something else: {', '.join(differing)}.",
            hint="make trainable what was trainable when the state was taken, with `trainable`",
        )
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
