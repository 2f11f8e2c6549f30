"""Heads on top of the backbone."""

import json

import pytest
import torch
from torch.nn import functional

from adapterhub_client.errors import CompositionError

from .conftest import hidden, make_adapted, randomise

LABELS = torch.tensor([0, 1, 2])


@pytest.fixture
def adapted():
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.add_head("a", labels=["neg", "neu", "pos"])
    randomise(adapted.heads["a"], seed=5)
    return adapted


def logits(adapted, inputs):
    with torch.no_grad():
        return adapted(**inputs).logits


def test_a_classification_head_reads_the_first_token(adapted, inputs):
    adapted.activate("a", head=False)
    first = hidden(adapted, inputs)[:, 0]

    adapted.activate("a", head="a")

    with torch.no_grad():
        expected = adapted.heads["a"].layers(first)
    assert torch.equal(logits(adapted, inputs), expected)


def test_with_labels_the_output_has_the_cross_entropy(adapted, inputs):
    adapted.activate("a", head="a")

    output = adapted(**inputs, labels=LABELS)

    torch.testing.assert_close(output.loss, functional.cross_entropy(output.logits, LABELS))


def test_one_label_is_a_regression(adapted, inputs):
    adapted.add_head("score", num_labels=1)
    adapted.activate("a", head="score")

    output = adapted(**inputs, labels=LABELS)

    torch.testing.assert_close(
        output.loss, functional.mse_loss(output.logits[:, 0], LABELS.float())
    )


def test_the_head_of_the_adapters_name_is_used_unless_another_is_asked_for(adapted, inputs):
    adapted.activate("a")
    assert logits(adapted, inputs).shape == (3, 3)

    adapted.activate("a", head=False)

    assert "logits" not in adapted(**inputs)


def test_a_head_can_be_active_without_an_adapter(adapted, inputs):
    adapted.activate(None, head="a")

    assert logits(adapted, inputs).shape == (3, 3)


def test_hidden_states_come_through_a_head(adapted, inputs):
    adapted.activate("a")

    output = adapted(**inputs, output_hidden_states=True)

    assert len(output.hidden_states) == 3


def test_a_pooled_head_reads_the_pooler(adapted, inputs):
    adapted.add_head("pooled", layers=1, use_pooler=True)
    adapted.activate("a", head=False)
    with torch.no_grad():
        pooled = adapted(**inputs).pooler_output
        expected = adapted.heads["pooled"].layers(pooled)

    adapted.activate("a", head="pooled")

    assert torch.equal(logits(adapted, inputs), expected)


def test_a_pooled_head_needs_a_pooler(inputs):
    adapted = make_adapted("distilbert", ["seq_bn"])
    adapted.add_head("pooled", use_pooler=True)
    adapted.activate("a", head="pooled")

    with pytest.raises(CompositionError, match="this model has no pooler"):
        adapted(**inputs)


def test_the_labels_of_a_head_are_in_the_order_of_its_outputs(adapted, tmp_path):
    adapted.save_head("a", tmp_path)
    path = tmp_path / "head_config.json"
    saved = json.loads(path.read_text())
    assert saved["config"]["label2id"] == {"neg": 0, "neu": 1, "pos": 2}
    saved["config"]["label2id"] = {"pos": 0, "neg": 2, "neu": 1}
    path.write_text(json.dumps(saved))

    adapted.load_head(tmp_path, name="other")

    assert adapted.heads["other"].labels == ["pos", "neu", "neg"]


def test_an_unknown_kind_is_refused_with_the_known_ones(adapted):
    with pytest.raises(CompositionError, match="kind 'poetry' are not supported") as error:
        adapted.add_head("tags", kind="poetry")

    assert "multiple_choice" in error.value.hint


def test_dropout_of_a_head_comes_from_the_model_where_the_head_has_none():
    adapted = make_adapted("distilbert")
    adapted.add_head("own", dropout_prob=0.4)
    adapted.add_head("models")

    assert adapted.heads["own"].layers[0].p == 0.4
    assert adapted.heads["models"].layers[0].p == 0.2


def test_an_adapter_whose_head_cannot_be_loaded_is_not_loaded_either(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.add_head("a", labels=["no", "yes"])
    adapted.save("a", tmp_path)
    adapted.activate(None, head="a")
    before = dict(adapted.adapters)

    with pytest.raises(CompositionError, match="head 'a' is active"):
        adapted.load(tmp_path)

    assert adapted.adapters == before
    assert adapted.shelf.parts["adapter a"] is before["a"]
