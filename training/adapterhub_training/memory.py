"""What the frozen base makes of each example, remembered: for training a head, it has to be computed only once.

Right only where the base is a fixed function of its input: nothing in it is trained or active, and it has no dropout.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from adapterhub_client.compose import Adapted
from adapterhub_client.compose.heads import PredictionContext
from adapterhub_training.batches import Batch


class Memory:
    """The first token's output and the pooled output of every example seen, by its tokens."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Tensor, Tensor | None]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def forward(self, adapted: Adapted, batch: Batch) -> Any:  # noqa: ANN401  a ModelOutput; each kind has its own fields
        """What the active head makes of a batch; the base runs only if it has not seen all of it."""
        keys = [_key(batch, row) for row in range(len(batch.rows))]
        if not all(key in self._known for key in keys):
            self._learn(adapted, batch, keys)
        first, pooled = zip(*(self._known[key] for key in keys), strict=True)
        outputs = SimpleNamespace(
            last_hidden_state=torch.stack(first).unsqueeze(1),  # (batch, 1, features)
            pooler_output=None if pooled[0] is None else torch.stack(pooled),
            hidden_states=None,
            attentions=None,
        )
        context = PredictionContext(arguments={"labels": batch.labels})
        return adapted.active_heads[0].predict(outputs, context)

    @torch.no_grad()
    def _learn(self, adapted: Adapted, batch: Batch, keys: list[bytes]) -> None:
        with torch.inference_mode(mode=False):
            outputs = adapted.backbone.module(**batch.inputs, return_dict=True)
        first, pooled = outputs.last_hidden_state[:, 0], getattr(outputs, "pooler_output", None)
        for row, key in enumerate(keys):
            self._known[key] = first[row].clone(), None if pooled is None else pooled[row].clone()


def _key(batch: Batch, row: int) -> bytes:
    """The tokens of an example without its padding, and their types."""
    real = batch.inputs["attention_mask"][row].bool()
    return b"|".join(tensor[row][real].cpu().numpy().tobytes() for tensor in batch.inputs.values())
