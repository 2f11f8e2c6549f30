"""What is refused comes with what to do instead."""

import pytest

from adapterhub_client.errors import CompositionError

from .conftest import make_adapted
from .small_models import adapted_of, batch_of

ENDINGS = ["seq_bn", "seq_bn[original_ln_after=False]", "seq_bn"]


@pytest.mark.parametrize(
    ("composition", "cure"),
    [
        pytest.param("average(a, b)", "average those with `original_ln_after`", id="average"),
        pytest.param("stack(parallel(a, b), c)", "put it last", id="stack"),
    ],
)
def test_parts_that_end_differently(composition, cure):
    adapted = make_adapted("bert", ENDINGS)

    with pytest.raises(CompositionError, match="original_ln_after") as refused:
        adapted.activate(composition)

    assert cure in refused.value.hint


def test_residents_that_end_differently():
    adapted = make_adapted("bert", ENDINGS)

    with pytest.raises(CompositionError, match="Resident adapters have to end alike") as refused:
        adapted.activate_rows("ab")

    assert "a `batchsplit` takes both" in refused.value.hint


def test_a_state_of_something_else():
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    adapted.trainable("a")
    state = adapted.state_dict()
    adapted.trainable("b")

    with pytest.raises(CompositionError, match="The state is of something else") as refused:
        adapted.load_state_dict(state)

    assert "with `trainable`" in refused.value.hint


@pytest.mark.parametrize(
    ("splits", "whose"), [("[4, 6]", "the decoder's input"), ("[2, 4]", "the encoder's input")]
)
def test_splits_name_the_stack_whose_tokens_they_are_not(splits, whose):
    adapted = adapted_of("bart", ["seq_bn", "seq_bn"])
    inputs = batch_of("bart")
    inputs["decoder_input_ids"] = inputs["decoder_input_ids"][:, :6]
    adapted.activate(f"split(a, b; splits={splits})")

    with pytest.raises(CompositionError, match=f"but {whose} has") as refused:
        adapted(**inputs)

    assert refused.value.hint == f"give splits that sum to the tokens of {whose}"
