"""What is active as a model that the pipelines of transformers take."""

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto

from adapterhub_client.compose.heads import Head
from adapterhub_client.errors import CompositionError

if TYPE_CHECKING:
    from adapterhub_client.compose.attachment import Adapted


class Purpose(NamedTuple):
    """What a kind of head is for, in the words of transformers."""

    task: str
    mapping: str
    """names the classes that do this"""
    problem: str | None = None


PURPOSES = {
    "classification": Purpose(
        "text-classification",
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        "single_label_classification",
    ),
    "multilabel_classification": Purpose(
        "text-classification",
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        "multi_label_classification",
    ),
    "tagging": Purpose("token-classification", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"),
    "image_classification": Purpose(
        "image-classification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"
    ),
    "masked_lm": Purpose("fill-mask", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
}


class Piped(nn.Module):
    """An adapted model with what a pipeline asks of a model; its config has the labels of the active head."""

    def __init__(self, adapted: "Adapted", head: Head, purpose: Purpose) -> None:
        super().__init__()
        self.adapted, self._head = adapted, head
        config: Any = copy.copy(adapted.model.config)
        if head.labels:
            config.id2label = dict(enumerate(head.labels))
            config.label2id = {label: at for at, label in enumerate(head.labels)}
        config.problem_type = purpose.problem
        if purpose.problem and len(head.labels or ()) == 1:
            config.problem_type = "regression"
        self.config = config
        self.input_modalities = getattr(adapted.model, "input_modalities", "text")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.adapted.backbone.reference_parameter.device

    @property
    def dtype(self) -> torch.dtype:
        """In what it computes."""
        return self.adapted.backbone.reference_parameter.dtype

    def can_generate(self) -> bool:
        """A head answers; it does not go on writing."""
        return False

    def forward(self, **inputs: Any) -> Any:  # noqa: ANN401  the model's own inputs and output
        """Run the model with what was active when the pipeline was made.

        Raises:
            CompositionError: Another head is active by now.
        """
        if list(self.adapted.active_heads) != [self._head]:
            raise CompositionError(
                "Another head is active than the one this pipeline was made for.",
                hint="call `pipeline()` again",
            )
        return self.adapted(**inputs)


def pipeline(adapted: "Adapted", processor: Any, options: dict[str, Any]) -> Any:  # noqa: ANN401
    """A pipeline of transformers for the one head that is active.

    Raises:
        CompositionError: No head is active, or several, or one of a kind that no pipeline is for.
    """
    active = adapted.active_heads
    if len(active) != 1:
        raise CompositionError(
            f"A pipeline needs one head, and {len(active) or 'none'} {'are' if active else 'is'} active.",
            hint='say which when you activate: `adapted.activate("name", head="name")`',
        )
    purpose = PURPOSES.get(active[0].kind)
    if purpose is None:
        raise CompositionError(
            f"transformers has no pipeline for a head of the kind `{active[0].kind}`.",
            hint=f"kinds with one: {', '.join(PURPOSES)}; call the model itself",
        )
    adapted.eval()
    # A pipeline knows by the name of a model's class whether it does this task.
    names = getattr(modeling_auto, purpose.mapping)
    config: Any = adapted.model.config
    known = names.get(config.model_type) or next(iter(names.values()))
    own = type(known if isinstance(known, str) else known[0], (Piped,), {})
    kind = "image_processor" if purpose.task.startswith("image") else "tokenizer"
    found: Any = transformers.pipeline
    return found(
        purpose.task, model=own(adapted, active[0], purpose), **{kind: processor}, **options
    )
