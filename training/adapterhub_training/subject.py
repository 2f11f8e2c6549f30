"""What the loop trains and evaluates: modules on a base, one set of them for each seed, and a pass through them.

Several seeds go through the base in one pass: each its own rows of the batch, over stacked weights.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose import Adapted
from adapterhub_client.compose.expression import BatchSplit, Leaf
from adapterhub_training import activations
from adapterhub_training.batches import Batch, Split

if TYPE_CHECKING:
    from adapterhub_training.activations import Lower, States

TENSOR_CORES = 8
"""lengths on CUDA are multiples of this"""


class Member(NamedTuple):
    """The modules of one seed: what is active for each task, and what is trained."""

    seed: int
    compositions: dict[str, str | None]
    """for each task, an adapter or a fusion; None for the base alone"""
    heads: dict[str, str]
    parameters: list[nn.Parameter]


class Part(NamedTuple):
    """Rows of a batch that go through the modules of one member."""

    member: Member
    rows: Sequence[int]


class Answer(NamedTuple):
    """What the head of a part put out, beside what it should have."""

    output: Any
    targets: dict[str, Tensor]


class Streams:
    """The random numbers of each seed's head, as if that seed were trained alone.

    A head draws for its dropout. In a pass of several seeds each is given its own stream before, which is kept after.
    """

    def __init__(
        self, adapted: Adapted, members: Sequence[Member], begin: dict[int, Tensor]
    ) -> None:
        self.states = dict(begin)
        self._adapted = adapted
        self._handles = [
            handle
            for member in members
            for name in sorted(set(member.heads.values()))
            for handle in self._watch(adapted.heads[name].layers, member.seed)
        ]

    def close(self) -> None:
        """Let heads draw as they did."""
        for handle in self._handles:
            handle.remove()

    def _watch(self, layers: nn.Module, seed: int) -> Iterator[RemovableHandle]:
        before: list[Tensor] = []
        device = self._adapted.backbone.reference_parameter.device

        def begin(module: nn.Module, _args: object) -> None:
            if module.training:
                before.append(random_state(device))
                set_random_state(device, self.states[seed])

        def end(module: nn.Module, _args: object, _output: object) -> None:
            if module.training:
                self.states[seed] = random_state(device)
                set_random_state(device, before.pop())

        yield layers.register_forward_pre_hook(begin)
        yield layers.register_forward_hook(end)


class Subject:
    """A base with the modules of its members."""

    def __init__(  # noqa: PLR0913
        self,
        adapted: Adapted,
        members: Sequence[Member],
        *,
        dropout: bool = True,
        skip_layers: Sequence[int] = (),
        compiled: bool = False,
        checkpointed: bool = False,
        streams: Streams | None = None,
    ) -> None:
        self.adapted, self.members, self.streams = adapted, tuple(members), streams
        self.states: dict[int, States] = {}
        self.lower: Lower | None = None
        self._dropout, self._skipped = dropout, tuple(skip_layers)
        self._checkpointed = checkpointed
        self._composed: object = None
        self._reference = adapted.backbone.reference_parameter
        self._call = torch.compile(adapted, dynamic=True) if compiled else adapted

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._reference.device

    @property
    def multiple(self) -> int:
        """What lengths are rounded up to."""
        return TENSOR_CORES if self.device.type == "cuda" else 1

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [p for p in self.adapted.parameters() if p.requires_grad]

    @property
    def value_maps(self) -> list[Tensor]:
        """The trained value maps of a fusion, which are pulled to the identity and so must not decay to zero."""
        layers = [layer for fusion in self.adapted.fusions.values() for layer in fusion.layers()]
        maps = [layer.value.weight for layer in layers if layer.value is not None]
        return [value for value in maps if value.requires_grad]

    def train(self) -> None:
        """Get ready to train; without dropout only what is trained has any."""
        self.adapted.train()
        if not self._dropout:
            self.adapted.model.eval()
            if self._checkpointed:  # only a layer that is trained computes its activations again
                for layer in self.adapted.backbone.layers:
                    layer.training = True

    def eval(self) -> None:
        """Get ready to evaluate."""
        self.adapted.eval()

    def regularization(self) -> Tensor:
        """What pulls a fusion's value maps towards the identity."""
        return self.adapted.regularization()

    def compose(self, task: str, parts: Sequence[tuple[Member, int]]) -> None:
        """Put the modules of members into effect, each for so many sequences."""
        wanted = task, [(member.seed, size) for member, size in parts]
        if len(parts) == 1:
            wanted = task, [(parts[0][0].seed, 0)]
        if wanted == self._composed:
            return
        heads = [member.heads[task] for member, _ in parts]
        compositions = [member.compositions[task] for member, _ in parts]
        if len(parts) == 1:
            self.adapted.activate(compositions[0], head=heads[0], skip_layers=self._skipped)
        else:
            leaves = tuple(Leaf(str(name)) for name in compositions)
            together = BatchSplit(leaves, tuple(size for _, size in parts))
            self.adapted.activate(together, head=heads, skip_layers=self._skipped)
        self._composed = wanted

    def forget_composition(self) -> None:
        """Something else was active meanwhile."""
        self._composed = None

    def batch(self, split: Split, parts: Sequence[Part], *, draw: int = 0) -> Batch:
        """The rows of all parts, one part after the other, where the subject is."""
        rows = [row for part in parts for row in part.rows]
        return split.batch(rows, multiple=self.multiple, draw=draw).to(self.device)

    def forward(
        self, split: Split, task: str, parts: Sequence[Part], *, batch: Batch | None = None
    ) -> list[Answer]:
        """Let each part's rows go through its member's modules; `batch` is what they make where that is there."""
        batch = batch or self.batch(split, parts)
        sizes = [len(part.rows) for part in parts]
        choices = _choices(batch)
        self.compose(
            task, [(part.member, size * choices) for part, size in zip(parts, sizes, strict=True)]
        )
        with self._given(split, batch):
            output = self._call(**self._inputs(split, batch))
        if len(parts) == 1:
            return [Answer(output, batch.targets)]
        begins = [sum(sizes[:at]) for at in range(len(sizes))]
        return [
            Answer(own, {k: v[begin : begin + size] for k, v in batch.targets.items()})
            for own, begin, size in zip(output.heads, begins, sizes, strict=True)
        ]

    def _inputs(self, split: Split, batch: Batch) -> dict[str, Tensor]:
        first_only = id(split) in self.states and self.lower is not None and self.lower.first_only
        inputs = {k: v[..., :1] for k, v in batch.inputs.items()} if first_only else batch.inputs
        # Without padding there is nothing to mask, and attention takes its quickest way.
        return {k: v for k, v in inputs.items() if k != "attention_mask" or not batch.is_full}

    def _given(self, split: Split, batch: Batch) -> Any:  # noqa: ANN401  a context manager
        states = self.states.get(id(split))
        if states is None or self.lower is None:
            return nullcontext()
        values = states.of(batch.rows, multiple=self.multiple, like=self._reference)
        return activations.given(self.lower, values)


def random_state(device: torch.device) -> Tensor:
    """Where the device's random numbers are."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Go on from there."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _choices(batch: Batch) -> int:
    ids = batch.inputs["input_ids"]
    return ids.shape[1] if ids.dim() > 2 else 1  # noqa: PLR2004
