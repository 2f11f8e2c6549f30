"""What it costs to leave members out of a fusion: in the output, in a head's score, and in what is computed."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from adapterhub_client.compose.lookup import Heads
from adapterhub_client.compose.shelf import LoadedFusion
from adapterhub_client.compose.weights.attended import Batch, fusion_of, measure, running
from adapterhub_client.compose.weights.pruning import member_at, only, require_same_reading

if TYPE_CHECKING:
    from adapterhub_client.compose.attachment import Adapted

IGNORED = -100


class Cost(NamedTuple):
    """What a fusion of fewer members costs: the change of the output against all of them, and what is computed."""

    kept: tuple[str, ...]
    change: float
    """mean absolute difference of logits, or of the last hidden state"""
    cosine: float
    """mean cosine of the same"""
    loss: float | None
    accuracy: float | None
    """of labels, where a head predicts them"""
    fusion_work: float
    """the products of the fusion, over those with all members"""
    work: float
    """the products of model and fusion for a token, over those of the model without"""


def report(
    adapted: "Adapted", name: str, batches: Iterable[Batch], head: Heads = None
) -> list[Cost]:
    """What it costs to keep the N, N - 1, ..., 1 most attended members of a fusion.

    Each batch may have labels, where a head is there for them.

    Raises:
        CompositionError: There is no such fusion or no batch, or something is active.
    """
    fusion = fusion_of(adapted, name)
    adapted.activation.require_idle()
    listed = list(batches)
    tree = fusion.tree(name)
    adapted.activate(tree, head)
    try:
        attended = measure(adapted, name, listed)
    finally:
        adapted.deactivate()
    full: list[Tensor] = []
    costs = []
    for count in range(len(fusion.members), 0, -1):
        kept = attended.most(count)
        require_same_reading(adapted, fusion, kept)
        adapted.activate(only(tree, name, kept, name), head)
        try:
            answers = list(_answers(adapted, name, listed))
        finally:
            adapted.deactivate()
        full = full or [answer.output for answer in answers]
        costs.append(_cost(adapted, fusion, kept, answers, full))
    return costs


class _Answer(NamedTuple):
    output: Tensor
    loss: float | None
    right: int
    labels: int


def _answers(adapted: "Adapted", name: str, batches: Sequence[Batch]) -> Iterator[_Answer]:
    """What the model says to each batch: logits, or the real tokens of the last hidden state."""
    with running(adapted, name):
        for batch in batches:
            output = adapted(**batch)
            logits = output.get("logits")
            told = output.last_hidden_state if logits is None else logits
            mask = batch.get("attention_mask")
            if logits is None and mask is not None and mask.shape == told.shape[:2]:
                told = told[mask.bool()]
            loss = output.get("loss")
            right, count = _right(logits, batch.get("labels"))
            yield _Answer(
                told.detach().double().cpu(), None if loss is None else float(loss), right, count
            )


def _right(logits: Tensor | None, labels: Tensor | None) -> tuple[int, int]:
    """How many labels are predicted, and how many there are, where they are classes."""
    if logits is None or labels is None or labels.shape != logits.shape[:-1]:
        return 0, 0
    real = labels != IGNORED
    return int((logits.argmax(-1) == labels)[real].sum()), int(real.sum())


def _cost(
    adapted: "Adapted",
    fusion: LoadedFusion,
    kept: Sequence[str],
    answers: Sequence[_Answer],
    full: Sequence[Tensor],
) -> Cost:
    ours = torch.cat([answer.output.flatten(0, -2) for answer in answers])
    all_of_it = torch.cat([output.flatten(0, -2) for output in full])
    losses = [answer.loss for answer in answers if answer.loss is not None]
    labels = sum(answer.labels for answer in answers)
    own, whole = (_work(adapted, fusion, names) for names in (kept, fusion.members))
    base = sum(
        module.weight.numel()
        for layer in adapted.backbone.layers
        for module in layer.modules()
        if isinstance(module, (nn.Linear, Conv1D))
    )
    return Cost(
        tuple(kept),
        float((ours - all_of_it).abs().mean()),
        float(functional.cosine_similarity(ours, all_of_it, dim=-1).mean()),
        sum(losses) / len(losses) if losses else None,
        sum(answer.right for answer in answers) / labels if labels else None,
        own / whole,
        1 + own / base,
    )


def _work(adapted: "Adapted", fusion: LoadedFusion, names: Iterable[str]) -> int:
    """The multiplications of the compiled form for a token: 3 rows for each feature of a bottleneck, 2 a member."""
    widths = [
        module.width
        for name in names
        for place in fusion.places
        if (module := member_at(adapted, fusion, place, name)) is not None
    ]
    return adapted.backbone.hidden_size * sum(3 * width + 2 for width in widths)
