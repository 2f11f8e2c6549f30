"""What kinds that read a text, or a pair of them, share."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from adapterhub_training.kinds.kind import Encoded, Example, Limits, Row


def text_fault(row: Row) -> str | None:
    """What is wrong with the text of a row, as a clause."""
    if row.text is not None and (row.text_a is not None or row.text_b is not None):
        return "`text` and `text_a`, `text_b` exclude each other"
    for key in ("text_a", "text_b") if row.text is None else ("text",):
        value = getattr(row, key)
        if value is None:
            return f"there is no `{key}`" if row.text_a or row.text_b else "there is no text"
        if not value.strip():
            return f"`{key}` is empty"
    return None


def read(row: Row, target: Any = None) -> Example:  # noqa: ANN401  each kind has its own
    """A row with its target."""
    return Example(str(row.text if row.text is not None else row.text_a), row.text_b, target)


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], limits: Limits
) -> Encoded:
    """Tokenise once; what is too long is cut, of a pair the longer part first."""
    pairs = [example.pair for example in examples]
    has_pairs = pairs[0] is not None
    encoding = tokenizer(
        [example.text for example in examples],
        pairs if has_pairs else None,
        truncation="longest_first" if has_pairs else True,
        max_length=limits.max_length,
    )
    inputs = model_inputs(tokenizer, encoding)
    return Encoded(
        inputs=inputs,
        targets=[example.target for example in examples],
        examples=list(range(len(examples))),
        padding=padding(tokenizer, inputs),
        pad_left=tokenizer.padding_side == "left",
        truncated=sum(cut(encoding)),
    )


def cut(encoding: Any) -> list[bool]:  # noqa: ANN401
    """Which texts did not fit; where a tokenizer does not say, none."""
    return [bool(own.overflowing) for own in encoding.encodings or ()]


def model_inputs(tokenizer: PreTrainedTokenizerBase, encoding: Any) -> dict[str, list[Any]]:  # noqa: ANN401
    """Of what a tokenizer made, what the model reads."""
    return {key: encoding[key] for key in tokenizer.model_input_names if key in encoding}


def padding(tokenizer: PreTrainedTokenizerBase, inputs: dict[str, list[Any]]) -> dict[str, int]:
    """What fills up each key."""
    fillers = {
        "input_ids": int(tokenizer.pad_token_id or 0),
        "token_type_ids": int(tokenizer.pad_token_type_id),
    }
    return {key: fillers.get(key, 0) for key in inputs}
