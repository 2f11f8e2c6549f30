"""What each kind of head reads and how it is compared with what was passed for it."""

import pytest
import torch
import transformers
from torch.nn import functional

from adapterhub_client import compose
from adapterhub_client.compose import heads
from adapterhub_client.compose.heads import PredictionContext
from adapterhub_client.errors import CompositionError

from .conftest import hidden, make_adapted, make_model, randomise

KINDS = [kind for kind in heads.KINDS if kind not in {"image_classification", "seq2seq_lm"}]
LANGUAGE = ["masked_lm", "causal_lm"]


def gpt2():
    options = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40, "vocab_size": 96}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return transformers.GPT2Model(transformers.GPT2Config(**options, **ends)).eval()


def bart():
    sizes = {"d_model": 32, "vocab_size": 96, "max_position_embeddings": 40}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 4, f"{side}_ffn_dim": 64}
    return transformers.BartModel(transformers.BartConfig(**sizes)).eval()


def with_head(kind, model=None, **options):
    adapted = compose.attach(model or make_model())
    adapted.add("a")
    randomise(adapted.adapters["a"], seed=1)
    adapted.add_head("top", kind, **options)
    if not adapted.heads["top"].tied():
        randomise(adapted.heads["top"], seed=5)
    adapted.activate("a", head="top")
    return adapted


def call_of(kind, inputs):
    """The inputs that a kind of head asks for."""
    if kind == "multiple_choice":
        return {name: value.repeat(2, 1).view(2, 3, 10) for name, value in inputs.items()}
    if kind == "dependency_parsing":
        return inputs | {"word_starts": torch.tensor([[1, 3, 4, 8, 0, 0]] * 3)}
    return inputs


def run(adapted, **inputs):
    with torch.no_grad():
        return adapted(**inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_head_comes_back_with_equal_bits(kind, inputs, tmp_path):
    adapted = with_head(kind)
    call = call_of(kind, inputs)
    expected = run(adapted, **call)
    adapted.save_head("top", tmp_path)

    name = adapted.load_head(tmp_path, name="again")
    adapted.activate("a", head=name)

    again = run(adapted, **call)
    assert all(torch.equal(again[field], expected[field]) for field in expected)
    assert adapted.heads["again"].to_dict() == adapted.heads["top"].to_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_takes_the_dtype_of_the_model(kind, inputs):
    adapted = compose.attach(make_model().to(torch.bfloat16))
    adapted.add_head("top", kind)
    adapted.activate(None, head="top")

    output = run(adapted, **call_of(kind, inputs))

    assert all(value.dtype == torch.bfloat16 for value in output.values())


def test_several_labels_are_compared_one_by_one(inputs):
    adapted = with_head("multilabel", labels=["fast", "small", "exact"])
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]])

    output = run(adapted, **inputs, labels=labels)

    expected = functional.binary_cross_entropy_with_logits(output.logits, labels.float())
    torch.testing.assert_close(output.loss, expected)


def test_a_regression_has_one_output_and_the_squared_error(inputs):
    adapted = with_head("regression")

    output = run(adapted, **inputs, labels=torch.tensor([1, 2, 3]))

    expected = functional.mse_loss(output.logits[:, 0], torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(output.loss, expected)
    assert adapted.heads["top"].kind == "classification"


def test_tags_of_padding_and_of_minus_hundred_do_not_count(inputs):
    adapted = with_head("tagging", labels=["O", "B", "I"])
    labels = torch.arange(30).reshape(3, 10) % 3
    labels[0, 4:] = -100

    output = run(adapted, **inputs, labels=labels)

    counted = (inputs["attention_mask"] == 1) & (labels != -100)
    expected = functional.cross_entropy(output.logits[counted], labels[counted])
    torch.testing.assert_close(output.loss, expected)


def test_an_answer_outside_the_input_does_not_count(inputs):
    adapted = with_head("qa")
    start, end = torch.tensor([1, 2, 50]), torch.tensor([3, 50, 50])

    output = run(adapted, **inputs, start_positions=start, end_positions=end)

    first = functional.cross_entropy(output.start_logits[:2], start[:2])
    last = functional.cross_entropy(output.end_logits[:1], end[:1])
    torch.testing.assert_close(output.loss, (first + last) / 2)
    assert start[2] == 50


def test_choices_become_rows_and_scores_become_a_row_per_example(inputs):
    adapted = with_head("multiple_choice", labels=["first", "second", "third"])
    choices = call_of("multiple_choice", inputs)

    output = run(adapted, **choices, labels=torch.tensor([0, 2]))

    flat = {name: value.flatten(0, 1) for name, value in choices.items()}
    torch.testing.assert_close(run(adapted, **flat).logits, output.logits)
    assert output.logits.shape == (2, 3)
    expected = functional.cross_entropy(output.logits, torch.tensor([0, 2]))
    torch.testing.assert_close(output.loss, expected)


def test_examples_may_have_more_choices_than_the_config_says(inputs):
    adapted = with_head("multiple_choice", num_choices=2)

    assert run(adapted, **call_of("multiple_choice", inputs)).logits.shape == (2, 3)


def test_rows_that_are_no_multiple_of_the_choices_are_refused(inputs):
    adapted = with_head("multiple_choice", num_choices=2)

    with pytest.raises(CompositionError, match="chooses among 2, but got 3 inputs"):
        adapted(**inputs)


def test_labels_of_a_causal_model_are_shifted_by_one(inputs):
    adapted = with_head("causal_lm")
    ids = inputs["input_ids"]
    labels = ids.masked_fill(inputs["attention_mask"] == 0, -100)

    output = run(adapted, **inputs, labels=labels)

    expected = functional.cross_entropy(
        output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    )
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize("kind", LANGUAGE)
def test_output_embeddings_are_the_models_and_stay_frozen(kind, inputs):
    adapted = with_head(kind)
    embeddings = adapted.model.get_input_embeddings().weight
    head = adapted.heads["top"]

    adapted.trainable("a", heads=["top"])
    run_loss = adapted(**inputs, labels=inputs["input_ids"]).loss
    run_loss.backward()

    assert head.tied()["3.weight"] is embeddings
    assert all(parameter is not embeddings for parameter in head.parameters())
    assert embeddings.grad is None
    assert not embeddings.requires_grad


def test_output_embeddings_of_other_embeddings_are_kept_and_the_model_is_not_changed(
    inputs, tmp_path
):
    theirs, ours = with_head("masked_lm"), make_adapted("bert", ["seq_bn"])
    with torch.no_grad():
        theirs.model.get_input_embeddings().weight.mul_(2)
    theirs.save_head("top", tmp_path)
    before = ours.model.get_input_embeddings().weight.detach().clone()

    name = ours.load_head(tmp_path)

    head = ours.heads[name]
    assert not head.tied()
    torch.testing.assert_close(head.layers[3].weight, before * 2)
    assert torch.equal(ours.model.get_input_embeddings().weight, before)


def test_output_embeddings_that_a_file_leaves_out_are_the_models(tmp_path):
    adapted = with_head("masked_lm")
    tied = adapted.heads["top"].without_tied({"heads.top.3.bias": torch.zeros(96)}, "heads.top.")

    assert list(tied) == ["heads.top.3.bias"]
    assert list(adapted.heads["top"].tied()) == ["3.weight"]


def test_a_model_without_tied_embeddings_has_heads_with_their_own():
    model = make_model(tie_word_embeddings=False)
    adapted = compose.attach(model)

    adapted.add_head("top", "masked_lm")

    assert adapted.heads["top"].layers[3].weight.shape == (96, 32)


@pytest.mark.parametrize("kind", LANGUAGE)
def test_invertible_adapters_are_undone_before_the_output_embedding(kind, inputs):
    adapted = with_head(kind)
    head = adapted.heads["top"]
    outputs = adapted.backbone.module(**inputs)
    *inner, last = head.layers

    undone = head.predict(outputs, PredictionContext(inverse=lambda states: states * 3)).logits

    states = outputs.last_hidden_state
    for layer in inner:
        states = layer(states)
    torch.testing.assert_close(undone, last(states * 3))


@pytest.mark.parametrize("kind", ["tagging", "question_answering", "masked_lm", "causal_lm"])
def test_positions_of_a_prompt_are_no_tokens(kind, inputs):
    head = with_head(kind).heads["top"]
    states = torch.randn(3, 14, 32, generator=torch.Generator().manual_seed(1))
    without = torch.cat([states[:, :1], states[:, 5:]], dim=1)

    cut, plain = (
        head.predict(outputs, PredictionContext(prompt=prompt))
        for outputs, prompt in (
            (transformers.modeling_outputs.BaseModelOutput(states), slice(1, 5)),
            (transformers.modeling_outputs.BaseModelOutput(without), slice(0, 0)),
        )
    )

    assert all(torch.equal(cut[field], plain[field]) for field in plain)


def test_words_of_a_parser_are_the_means_of_their_tokens(inputs):
    adapted = with_head("dependency_parsing", labels=["subj", "obj"])
    starts = torch.tensor([[1, 3, 4, 8, 0, 0]] * 3)
    states = hidden_without_head(adapted, inputs)
    words = [states[:, 1:3].mean(1), states[:, 3], states[:, 4:8].mean(1)]
    heads_of = torch.stack([states[:, 0], *words], dim=1)
    weights = adapted.heads["top"].layers["biaffine_arcs"].weight[0]
    dependents = torch.cat([heads_of[:, 1:], torch.ones(3, 3, 1)], dim=-1)

    output = run(adapted, **inputs, word_starts=starts)

    expected = dependents @ weights @ heads_of.transpose(1, 2)
    torch.testing.assert_close(output.arc_preds[:, :3, :4], expected)
    assert output.rel_preds.shape == (3, 10, 11, 2)


def hidden_without_head(adapted, inputs):
    adapted.activate("a", head=False)
    states = hidden(adapted, inputs)
    adapted.activate("a", head="top")
    return states


def test_a_parser_counts_arcs_and_their_labels(inputs):
    adapted = with_head("dependency_parsing", labels=["subj", "obj"])
    starts = torch.tensor([[1, 3, 4, 8, 0, 0]] * 3)
    arcs = torch.tensor([[2, 0, 2, -1, -1]] * 3)
    relations = torch.tensor([[0, 1, 1, -1, -1]] * 3)

    output = run(adapted, **inputs, word_starts=starts, labels_arcs=arcs, labels_rels=relations)

    chosen = output.rel_preds[:, torch.arange(3), arcs[0, :3]]
    expected = functional.cross_entropy(
        output.arc_preds[:, :3].flatten(0, 1), arcs[:, :3].flatten()
    )
    expected += functional.cross_entropy(chosen.flatten(0, 1), relations[:, :3].flatten())
    torch.testing.assert_close(output.loss, expected)


def test_a_parser_without_word_starts_is_refused(inputs):
    adapted = with_head("dependency_parsing")

    with pytest.raises(CompositionError, match="needs `word_starts`"):
        adapted(**inputs)


@pytest.mark.parametrize("padded", ["right", "left"])
def test_a_decoder_is_summed_up_by_its_last_token(padded):
    adapted = with_head("classification", gpt2(), labels=["no", "yes"])
    text, padding = torch.arange(5, 11)[None], torch.zeros(1, 4, dtype=torch.long)
    ids = torch.cat([text, padding] if padded == "right" else [padding, text], dim=1)
    position = 5 if padded == "right" else 9

    logits = run(adapted, input_ids=ids).logits

    adapted.activate("a", head=False)
    states = hidden(adapted, {"input_ids": ids})[:, position]
    torch.testing.assert_close(logits, adapted.heads["top"].layers(states))


@pytest.mark.parametrize(
    ("kind", "model", "expected"),
    [
        pytest.param("classification", make_model, True, id="classification"),
        pytest.param("classification", gpt2, False, id="of a decoder"),
        pytest.param("tagging", make_model, False, id="tagging"),
    ],
)
def test_a_head_says_whether_the_first_token_is_all_it_reads(kind, model, expected):
    assert with_head(kind, model()).heads["top"].reads_first_token is expected


def test_an_encoder_decoder_is_summed_up_by_its_last_end_token():
    adapted = with_head("classification", bart(), labels=["no", "yes"])
    ids = torch.arange(5, 15).repeat(2, 1)
    ids[0, 9] = ids[1, 7] = adapted.model.config.eos_token_id

    logits = run(adapted, input_ids=ids).logits

    adapted.activate("a", head=False)
    states = hidden(adapted, {"input_ids": ids})[[0, 1], [9, 7]]
    torch.testing.assert_close(logits, adapted.heads["top"].layers(states))


def test_an_input_without_an_end_token_is_refused():
    adapted = with_head("classification", bart())

    with pytest.raises(CompositionError, match="an input has none of id 2"):
        adapted(input_ids=torch.arange(5, 15)[None])


def test_inputs_without_names_are_known_to_heads(inputs):
    adapted = with_head("classification", gpt2())
    ids, mask = inputs["input_ids"].clone(), inputs["attention_mask"]
    ids[1, 7:] = 0
    expected = run(adapted, input_ids=ids, attention_mask=mask).logits

    with torch.no_grad():
        assert torch.equal(adapted(ids, attention_mask=mask).logits, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"kind": "tagging", "use_pooler": True}, "no option 'use_pooler'", id="option"
        ),
        pytest.param({"kind": "masked_lm", "labels": ["a"]}, "it has no labels", id="labels"),
        pytest.param({"kind": "qa", "labels": ["a", "b", "c"]}, "num_labels", id="three answers"),
        pytest.param({"layers": 0}, "layers", id="no layers"),
        pytest.param({"dropout_prob": 2.0}, "dropout_prob", id="dropout"),
        pytest.param({"activation_function": "wiggle"}, "no non-linearity", id="non-linearity"),
    ],
)
def test_what_a_kind_of_head_does_not_have_is_refused(options, message):
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match=message):
        adapted.add_head("top", **options)

    assert not adapted.heads


def test_labels_of_an_old_config_are_read_by_number():
    config = {"head_type": "tagging", "num_labels": 2, "id2label": {"0": "O", "1": "B"}}

    head = heads.build(config, make_adapted("bert").backbone, empty=True)

    assert head.labels == ["O", "B"]
