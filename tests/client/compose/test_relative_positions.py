"""DeBERTa sends the embeddings of relative positions through the queries and keys of the batch."""

import pytest

from adapterhub_client.errors import CompositionError

from .conftest import hidden
from .small_models import adapted_of, batch_of


@pytest.mark.parametrize("method", ["lora[r=2]", "ia3", "bitfit", "vera", "dora"])
@pytest.mark.parametrize("composition", ["parallel(a, b)", "batchsplit(a, b; batch_sizes=[1, 2])"])
def test_a_divided_batch_is_refused_at_layers_that_take_positions_too(method, composition):
    adapted = adapted_of("deberta-v2", [method, method])
    adapted.activate("b")

    with pytest.raises(CompositionError, match="embeddings of relative positions") as refused:
        adapted.activate(composition)

    assert refused.value.hint
    assert str(adapted.expression) == "b"


@pytest.mark.parametrize("method", ["lora[r=2]", "ia3", "vera"])
def test_rows_of_their_own_are_refused_too(method):
    adapted = adapted_of("deberta-v2", [method, method])

    with pytest.raises(CompositionError, match="`rows` cannot give 'a' rows of its own"):
        adapted.activate_rows("ab")

    assert adapted.expression is None


def test_values_take_no_positions_and_a_divided_batch():
    adapted = adapted_of("deberta-v2", ["lora[attn_matrices=['v']]"] * 2)
    inputs = batch_of("deberta-v2")

    adapted.activate("batchsplit(a, b; batch_sizes=[1, 2])")

    assert hidden(adapted, inputs).shape == (3, 10, 32)


def test_positions_with_projections_of_their_own_leave_the_others_to_the_batch():
    adapted = adapted_of("deberta-v2", ["lora[r=2]"] * 2, share_att_key=False)
    inputs = batch_of("deberta-v2")

    adapted.activate("batchsplit(a, b; batch_sizes=[1, 2])")

    assert hidden(adapted, inputs).shape == (3, 10, 32)
