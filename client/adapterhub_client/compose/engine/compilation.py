"""A fusion multiplied into its members, kept as it is: it mixes without its projections and without its members.

It holds what `fusion` calls the compiled form: at each place A, a, c, d, B and v, and the down-projections of its
members, of which a member is a few rows. So a file of it is small, and a member is left out by leaving out its rows.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.engine.fusion import Compiled, FusionLayer, Member, Mixture
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Fusion


class Matrices(NamedTuple):
    """What a compiled layer holds, member by member.

    Shapes:
        down: (widths, features); down_bias: (widths)
        keys: (widths + adapters, features), the rows of A and then of c; keys_bias: (widths + adapters), a and d
        values: (widths + adapters, features), the rows of Bᵀ and then of v
    """

    down: Tensor
    down_bias: Tensor
    keys: Tensor
    keys_bias: Tensor
    values: Tensor


class CompiledLayer(nn.Module):
    """One compiled fusion at one place; nothing of it is ever trained.

    ``members`` are the adapters it mixes, in the order of its rows, on the meta device: what they read and how they
    activate is known of them, and they have no weights.
    """

    def __init__(
        self,
        config: Fusion,
        members: Mapping[str, BottleneckAdapter],
        matrices: Matrices,
        temperature: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config, self.members = config, dict(members)
        self.temperature = temperature
        for name, tensor in matrices._asdict().items():
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))

    @classmethod
    def empty(
        cls,
        config: Fusion,
        members: Mapping[str, BottleneckAdapter],
        temperature: Tensor | None = None,
    ) -> "CompiledLayer":
        """One on the meta device, to be filled from a file."""
        widths = sum(adapter.width for adapter in members.values())
        features = next(iter(members.values())).features
        rows = widths + len(members)
        shapes = ((widths, features), (widths,), (rows, features), (rows,), (rows, features))
        blank = Matrices(*(torch.empty(shape, device="meta") for shape in shapes))
        return cls(config, members, blank, temperature)

    def mixture(self, names: Sequence[str]) -> Mixture:
        """What mixes these members as the fusion does.

        Raises:
            CompositionError: One of them is none of its members.
        """
        unknown = [name for name in names if name not in self.members]
        if unknown:
            raise CompositionError(
                f"The compiled fusion of {', '.join(self.members)} has no member {unknown[0]!r}."
            )
        first = self.members[names[0]]
        layer = FusionLayer(self.config, first.features, 0.0, torch.device("meta"), torch.float32)
        if self.temperature is not None:
            layer.temperature = self.temperature
        mixture = Mixture(layer.eval(), [Member(name, self.members[name]) for name in names])
        ordered = [member.name for member in mixture.members]
        mixture.compiled = Frozen(list(self.parameters()), partial(self._compiled, ordered))
        return mixture

    def of(self, names: Sequence[str]) -> "CompiledLayer":
        """The layer with these members only."""
        members = {name: self.members[name] for name in names}
        return CompiledLayer(self.config, members, self._rows(names), self.temperature)

    def _rows(self, names: Sequence[str]) -> Matrices:
        """The rows of these members, in this order."""
        held = Matrices(*(self.get_parameter(name).detach() for name in Matrices._fields))
        if list(names) == list(self.members):
            return held
        widths = [adapter.width for adapter in self.members.values()]
        starts = dict(zip(self.members, accumulate(widths, initial=0), strict=False))
        numbers = {name: sum(widths) + index for index, name in enumerate(self.members)}
        own = [starts[name] + n for name in names for n in range(self.members[name].width)]
        codes = torch.tensor(own, device=held.down.device)
        both = torch.tensor([*own, *(numbers[name] for name in names)], device=held.down.device)
        return Matrices(
            held.down[codes],
            held.down_bias[codes],
            held.keys[both],
            held.keys_bias[both],
            held.values[both],
        )

    def _compiled(self, names: Sequence[str]) -> Compiled:
        down, down_bias, keys, keys_bias, values = self._rows(names)
        widths = [self.members[name].width for name in names]
        owners = [down.new_ones(width, 1) for width in widths]
        return Compiled(
            torch.cat([down, keys]),
            torch.cat([down_bias, keys_bias]),
            values,
            torch.block_diag(*owners) if len(set(widths)) > 1 else None,  # type: ignore[no-untyped-call]
        )


def compile_layer(layer: FusionLayer, members: Mapping[str, BottleneckAdapter]) -> CompiledLayer:
    """The compiled form of a fusion over these members at one place, formed in float64."""
    wide = deepcopy(layer).double()
    ups = [deepcopy(adapter).double().scaled_up() for adapter in members.values()]
    rows = torch.cat([*(weight.T for weight, _ in ups), *(bias[None] for _, bias in ups)])
    keys, keys_bias = wide.times_keyed(rows)
    formed = (
        torch.cat([adapter.down.weight for adapter in members.values()]),
        torch.cat([adapter.down.bias for adapter in members.values()]),
        keys,
        keys_bias,
        wide.valued(rows),
    )
    dtype = formed[0].dtype
    blanks = {name: deepcopy(adapter).to("meta") for name, adapter in members.items()}
    temperature = layer.temperature.detach().clone() if layer.config.temperature else None
    matrices = Matrices(*(tensor.detach().to(dtype, copy=True) for tensor in formed))
    return CompiledLayer(layer.config, blanks, matrices, temperature)
