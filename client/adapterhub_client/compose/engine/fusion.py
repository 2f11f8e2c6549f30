"""AdapterFusion over several bottlenecks, in two forms that give the same numbers.

With h_n the activated bottleneck of adapter n, u_n(h) = U_n h + b_n its up-projection and q the query's source,

    score_n = (W_k u_n)·(W_q q + b_q)      p = softmax(score / T)      z = W_v sum_n p_n u_n

The key's bias adds the same to every score and cancels; W_v is linear without bias, so it is applied once.

**Folded**, while W_q, W_k, W_v are trained on few tokens: k = W_kᵀ(W_q q + b_q), score_n = h_n·(U_nᵀ k) + b_n·k. No
adapter's output of full width is ever formed, and there are three D x D products whatever the number of adapters.

**Compiled**: score_n = h_n·(A_n q + a_n) + c_n·q + d_n and z = sum_n p_n (B_n h_n + v_n), with
A_n = U_nᵀ W_kᵀ W_q, a_n = U_nᵀ W_kᵀ b_q, c_n = W_qᵀ W_k b_n, d_n = b_n·W_kᵀ b_q, B_n = W_v U_n, v_n = W_v b_n: two
products of N*m x D per token and none of D x D. Formed once and kept while nothing is trained; or, in training, once
a step with autograd through it, when the batch has enough tokens for that to pay.

Source: Pfeiffer et al. 2021, section 3; the compiled form is ours.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_client.compose.engine import products
from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.engine.stream import Stream
from adapterhub_client.compose.methods.bottleneck import NORMAL_STD, BottleneckAdapter
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Fusion

HOTTEST = 50.0
COOLING = 0.05


class FusionLayer(nn.Module):
    """The projections of one fusion at one place; starts as the mean of what it mixes.

    Shapes:
        query, key, value: (features, features); the value has no bias
    """

    temperature: Tensor

    def __init__(
        self,
        config: Fusion,
        features: int,
        dropout: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        if not (config.query or config.key or config.value):
            raise CompositionError("A fusion without query, key and value is not supported.")
        self.config, self.features, self.dropout = config, features, dropout

        def linear(*, bias: bool) -> nn.Linear:
            return nn.Linear(features, features, bias=bias, device=device, dtype=dtype)

        self.query = linear(bias=True) if config.query else None
        self.key = linear(bias=True) if config.key else None
        self.value = linear(bias=False) if config.value else None
        if config.temperature:
            self.register_buffer("temperature", torch.tensor(HOTTEST))

    @torch.no_grad()
    def initialise(self) -> None:
        """Small random queries and keys; a value map near the identity."""
        for linear in (self.query, self.key, self.value):
            if linear is not None:
                nn.init.normal_(linear.weight, std=NORMAL_STD)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)
        if self.value is not None and self.config.value_initialized:
            self.value.weight.fill_(1e-6).fill_diagonal_(1.0)

    def weights(self, scores: Tensor) -> Tensor:
        """Scores to weights that sum to one; the softmax is taken in float32 at least.

        Shapes:
            scores, result: (..., adapters)
        """
        scores = functional.dropout(scores, self.dropout, self.training)
        if self.config.temperature:
            scores = scores / self.temperature.clone()
            if self.training:
                self.temperature.sub_(COOLING).clamp_(min=1.0)
        wide = torch.promote_types(scores.dtype, torch.float32)
        return scores.softmax(-1, dtype=wide).to(scores.dtype)

    def keyed(self, query: Tensor) -> Tensor:
        """Compute k = W_kᵀ (W_q q + b_q)."""
        if self.query is not None:
            query = self.query(query)
        return query if self.key is None else products.linear(query, self.key.weight.T)

    def valued(self, mixture: Tensor) -> Tensor:
        """Apply the value map, where there is one."""
        return mixture if self.value is None else self.value(mixture)

    def times_keyed(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """R W_kᵀ W_q and R W_kᵀ b_q for rows R (any, features)."""
        if self.key is not None:
            rows = products.linear(rows, self.key.weight)
        if self.query is None:
            return rows, rows.new_zeros(rows.shape[0])
        return products.linear(rows, self.query.weight.T), rows @ self.query.bias


class Member(NamedTuple):
    """One child of a fusion: the adapter whose output is mixed, its name, and what a stack runs before it."""

    name: str
    adapter: BottleneckAdapter
    before: Callable[[Stream], Stream] | None = None

    @property
    def shares_input(self) -> bool:
        """Whether it reads the very tensor the others read."""
        return self.before is None and self.adapter.norm_before is None


class Stacked(NamedTuple):
    """The projections of all members, one below the other.

    Shapes:
        down: (shared widths, features)
        rows: (widths + adapters, features), the transposed U_n of all members, then their b_n
        owner: (widths, adapters), one where a feature belongs to an adapter; only where the widths differ
    """

    down: Tensor
    down_bias: Tensor
    rows: Tensor
    owner: Tensor | None


class Compiled(NamedTuple):
    """The fusion multiplied into its members.

    Shapes:
        into: (shared widths + widths + adapters, features), the rows of down, A and c; bias: d and the like
        out: (widths + adapters, features), the rows of Bᵀ and v
    """

    into: Tensor
    bias: Tensor
    out: Tensor
    owner: Tensor | None


class Mixture:
    """One fusion at one place: its members side by side, in an order that groups what can be computed together."""

    def __init__(self, layer: FusionLayer, members: Sequence[Member]) -> None:
        self.layer = layer
        self.names = tuple(member.name for member in members)
        self.last = members[-1].adapter
        self.order = sorted(range(len(members)), key=lambda n: _group(members[n]))
        self.members = [members[n] for n in self.order]
        self.shared = [member.adapter for member in self.members if member.shares_input]
        self.apart = [member for member in self.members if not member.shares_input]
        self.widths = [member.adapter.width for member in self.members]
        self.activations = [
            (adapters[0].act, sum(adapter.width for adapter in adapters))
            for adapters in (list(group) for _, group in groupby(self.shared, key=_activation))
        ]
        own = [p for member in self.members for p in member.adapter.sources()]
        self.stacked = Frozen(own, self._stack)
        self.compiled = Frozen([*own, *layer.parameters()], self._compile)
        self.seen: Tensor | None = None

    def mix(self, hidden: Tensor, query: Tensor, apart: Sequence[Tensor]) -> Tensor:
        """Compute z of the module's docstring; the weights are kept for whoever asks.

        Shapes:
            hidden, query: (batch, length, features); apart: the inputs of members with one of their own
            result: as ``hidden``
        """
        if not self.compiled.needs_gradient():
            return self._from_compiled(hidden, query, apart)
        self.compiled.drop()  # a step may follow that no version counter tells of
        if self._pays_to_fold(hidden):
            return self._folded(hidden, query, apart)
        return self._formed(hidden, query, apart)

    def forget(self) -> None:
        """Drop what was formed from parameters that may have changed since."""
        self.stacked.drop()
        self.compiled.drop()

    def attention(self) -> Tensor:
        """The weights of the last batch, in the order of `names`.

        Shapes:
            result: (batch, length, adapters)
        """
        if self.seen is None:
            raise LookupError("Nothing has been mixed yet.")
        places = [self.order.index(member) for member in range(len(self.order))]
        return self.seen[..., places]

    def _folded(self, hidden: Tensor, query: Tensor, apart: Sequence[Tensor]) -> Tensor:
        down, down_bias, rows, owner = self.stacked()
        code = self._code(products.linear(hidden, down, down_bias), apart)
        keyed = products.linear(self.layer.keyed(query), rows)
        return self.layer.valued(self._mixed(code, keyed, rows, owner))

    def _formed(self, hidden: Tensor, query: Tensor, apart: Sequence[Tensor]) -> Tensor:
        """Compute the compiled form in training; the members' own matrices stay apart, as most are frozen."""
        down, down_bias, rows, owner = self.stacked()
        keys, offsets = self.layer.times_keyed(rows)
        code = self._code(products.linear(hidden, down, down_bias), apart)
        keyed = products.linear(query, keys, offsets)
        return self._mixed(code, keyed, self.layer.valued(rows), owner)

    def _from_compiled(self, hidden: Tensor, query: Tensor, apart: Sequence[Tensor]) -> Tensor:
        into, bias, out, owner = self.compiled()
        begin = sum(adapter.width for adapter in self.shared)
        if query is hidden:
            rows = products.linear(hidden, into, bias)
            down, keyed = rows[..., :begin], rows[..., begin:]
        else:
            down = products.linear(hidden, into[:begin], bias[:begin])
            keyed = products.linear(query, into[begin:], bias[begin:])
        return self._mixed(self._code(down, apart), keyed, out, owner)

    def _mixed(self, code: Tensor, keyed: Tensor, out: Tensor, owner: Tensor | None) -> Tensor:
        """Scores, weights and their mixture, from the code and what the query says to each of its features."""
        width = code.shape[-1]
        scores = self._per_member(code * keyed[..., :width], owner) + keyed[..., width:]
        weights = self._weights(scores)
        mixed = torch.cat([self._spread(code, weights, owner), weights], dim=-1)
        return products.linear(mixed, out.T)

    def _code(self, down: Tensor, apart: Sequence[Tensor]) -> Tensor:
        codes, begin = [], 0
        for act, width in self.activations:
            codes.append(act(down[..., begin : begin + width]))
            begin += width
        for member, hidden in zip(self.apart, apart, strict=True):
            codes.append(member.adapter.encode(hidden))
        return codes[0] if len(codes) == 1 else torch.cat(codes, dim=-1)

    def _weights(self, scores: Tensor) -> Tensor:
        weights = self.layer.weights(scores)
        if not torch.compiler.is_exporting():  # which runs on tensors without values
            self.seen = weights.detach()
        return weights

    def _per_member(self, values: Tensor, owner: Tensor | None) -> Tensor:
        """Sum over each member's features: (..., widths) to (..., adapters)."""
        if owner is not None:
            return values @ owner
        return values.reshape(*values.shape[:-1], len(self.widths), -1).sum(-1)

    def _spread(self, code: Tensor, weights: Tensor, owner: Tensor | None) -> Tensor:
        """Each member's features times its weight: (..., widths)."""
        if owner is not None:
            return code * (weights @ owner.T)
        parts = code.reshape(*code.shape[:-1], len(self.widths), -1)
        return (parts * weights.unsqueeze(-1)).flatten(-2)

    def _pays_to_fold(self, hidden: Tensor) -> bool:
        """Whether forming the compiled matrices in training would cost more than it saves.

        With frozen members, in units of 2 D: forming costs 7 M D forward and backward, M being all widths, and each
        token then saves 9 D - 2 M.
        """
        features, widths = self.layer.features, sum(self.widths)
        tokens = hidden.numel() // features
        return tokens * (9 * features - 2 * widths) < 7 * widths * features

    def _stack(self) -> Stacked:
        ups = [member.adapter.scaled_up() for member in self.members]
        like = ups[0][0]
        downs = [adapter.down for adapter in self.shared]
        owners = [like.new_ones(width, 1) for width in self.widths]
        return Stacked(
            torch.cat([like.new_empty(0, self.layer.features), *(d.weight for d in downs)]),
            torch.cat([like.new_empty(0), *(d.bias for d in downs)]),
            torch.cat([*(weight.T for weight, _ in ups), *(bias.unsqueeze(0) for _, bias in ups)]),
            torch.block_diag(*owners) if len(set(self.widths)) > 1 else None,  # type: ignore[no-untyped-call]
        )

    def _compile(self) -> Compiled:
        down, down_bias, rows, owner = self.stacked()
        keys, offsets = self.layer.times_keyed(rows)
        return Compiled(
            torch.cat([down, keys]),
            torch.cat([down_bias, offsets]),
            self.layer.valued(rows),
            owner,
        )


def _group(member: Member) -> tuple[bool, str]:
    return not member.shares_input, _activation(member.adapter)


def _activation(adapter: BottleneckAdapter) -> str:
    return adapter.config.non_linearity.lower()
