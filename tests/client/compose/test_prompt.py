"""Prompt tuning: what is put among the embeddings, and that masks and heads know of it."""

import pytest
import torch
import transformers

from adapterhub_client import compose
from adapterhub_client.errors import CompositionError

from .conftest import hidden, make_adapted, make_model

PROMPT = "prompt_tuning[prompt_length=4]"
AFTER = "prompt_tuning[prompt_length=3, combine='prefix_after_bos']"
METHODS = [pytest.param(PROMPT, id="before"), pytest.param(AFTER, id="after the first token")]


@pytest.mark.parametrize("method", METHODS)
def test_it_is_as_if_the_embeddings_were_longer(method, inputs):
    adapted = make_adapted("bert", [method])
    model, module = adapted.model, adapted.adapters["a"].places["prompt"]
    at, stop = module.place.start, module.place.stop
    with torch.no_grad():
        embedded = model.embeddings(input_ids=inputs["input_ids"])
        prompt = module.embeddings.expand(3, -1, -1)
        longer = torch.cat([embedded[:, :at], prompt, embedded[:, at:]], dim=1)
        mask = inputs["attention_mask"]
        mask = torch.cat([mask[:, :at], torch.ones(3, stop - at), mask[:, at:]], dim=1)
        shown = torch.where(mask[:, None, None].bool(), 0.0, torch.finfo(torch.float32).min)
        expected = model.encoder(longer, attention_mask=shown).last_hidden_state

    adapted.activate("a")

    torch.testing.assert_close(hidden(adapted, inputs), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_padding_changes_nothing(architecture, method, inputs):
    adapted = make_adapted(architecture, [method])
    adapted.activate("a")
    short = {name: value[1:2, :7] for name, value in inputs.items()}

    padded = hidden(adapted, {name: value[1:2] for name, value in inputs.items()})
    without = hidden(adapted, {"input_ids": short["input_ids"]})

    torch.testing.assert_close(padded[:, :-3], hidden(adapted, short), atol=1e-5, rtol=0)
    torch.testing.assert_close(hidden(adapted, short), without, atol=1e-5, rtol=0)


def test_a_mask_is_taken_without_its_name(inputs):
    adapted = make_adapted("bert", [PROMPT])
    adapted.activate("a")
    named = hidden(adapted, inputs)

    with torch.no_grad():
        positional = adapted(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
        unmasked = adapted(inputs["input_ids"], None).last_hidden_state

    assert torch.equal(positional, named)
    assert unmasked.shape == named.shape


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("masked", [True, False])
def test_a_row_of_parallel_branches_is_its_branch_alone(architecture, method, masked, inputs):
    adapted = make_adapted(architecture, [method, method])
    if not masked:
        del inputs["attention_mask"]
    alone = []
    for name in "ab":
        adapted.activate(name)
        alone.append(hidden(adapted, inputs))

    adapted.activate("parallel(a, b)")
    parallel = hidden(adapted, inputs)
    adapted.activate("batchsplit(a, b; batch_sizes=[2, 1])")
    split = hidden(adapted, inputs)

    torch.testing.assert_close(parallel, torch.cat(alone), atol=1e-5, rtol=0)
    torch.testing.assert_close(split, torch.cat([alone[0][:2], alone[1][2:]]), atol=1e-5, rtol=0)


def test_it_stands_under_a_bottleneck_in_a_stack(inputs):
    adapted = make_adapted("bert", [PROMPT, "seq_bn"])
    adapted.activate("a")
    alone = hidden(adapted, inputs)

    adapted.activate("stack(a, b)")

    stacked = hidden(adapted, inputs)
    assert stacked.shape == alone.shape
    assert (stacked - alone).abs().max() > 0.1


def test_heads_of_tokens_answer_for_the_tokens_of_the_input(inputs):
    adapted = make_adapted("bert", [AFTER])
    adapted.add_head("a", kind="tagging", labels=["x", "y"])
    adapted.activate("a", head=False)
    states = hidden(adapted, inputs)
    adapted.activate("a")

    with torch.no_grad():
        output = adapted(**inputs, labels=torch.zeros(3, 10, dtype=torch.long))
        kept = torch.cat([states[:, :1], states[:, 4:]], dim=1)
        expected = adapted.heads["a"].layers(kept)

    torch.testing.assert_close(output.logits, expected)
    assert output.loss.isfinite()


def test_gradients_reach_it_alone(inputs):
    adapted = make_adapted("bert", [PROMPT])
    adapted.activate("a")
    adapted.trainable("a")

    adapted(**inputs).last_hidden_state.square().mean().backward()

    reached = [name for name, p in adapted.named_parameters() if p.grad is not None]
    assert len(reached) == 1
    assert reached[0].endswith("embeddings")


def test_its_gradient_is_that_of_finite_differences(inputs):
    adapted = make_adapted("bert", [PROMPT])
    adapted.double()
    adapted.activate("a")
    weight = adapted.adapters["a"].places["prompt"].embeddings
    adapted.trainable("a")
    adapted.eval()

    def loss():
        return adapted(**inputs).last_hidden_state.square().mean()

    loss().backward()
    with torch.no_grad():
        weight[1, 2] += 1e-5
        higher = loss()
        weight[1, 2] -= 2e-5
        lower = loss()

    torch.testing.assert_close(weight.grad[1, 2], (higher - lower) / 2e-5, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_it_comes_back_from_a_folder_bit_for_bit(architecture, method, tmp_path, inputs):
    adapted = make_adapted(architecture, [method])
    adapted.activate("a")
    before = hidden(adapted, inputs)
    adapted.save("a", tmp_path / "a")

    again = compose.attach(make_model(architecture))
    again.load(tmp_path / "a", name="other")
    again.activate("other")

    assert torch.equal(hidden(again, inputs), before)


def test_detaching_gives_the_base_back_bit_for_bit(inputs):
    adapted = make_adapted("bert", [PROMPT])
    before = hidden(adapted, inputs)
    adapted.activate("a")
    hidden(adapted, inputs)

    model = adapted.detach()

    with torch.no_grad():
        assert torch.equal(model(**inputs).last_hidden_state, before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())  # noqa: SLF001


@pytest.mark.parametrize(
    ("composition", "message"),
    [
        pytest.param("parallel(a, b)", "one length", id="two lengths"),
        pytest.param("parallel(a, c)", "one length", id="one without"),
        pytest.param("average(a, c)", "cannot take", id="average"),
        pytest.param("split(a, c; splits=[5, 5])", "cannot take", id="split"),
    ],
)
def test_compositions_without_a_meaning_are_refused(composition, message, inputs):
    adapted = make_adapted("bert", [PROMPT, AFTER, "seq_bn"])
    before = hidden(adapted, inputs)

    with pytest.raises(CompositionError, match=message):
        adapted.activate(composition)

    assert torch.equal(hidden(adapted, inputs), before)


def test_a_mask_of_another_shape_is_refused(inputs):
    adapted = make_adapted("bert", [PROMPT])
    adapted.activate("a")

    with pytest.raises(CompositionError, match="shape"):
        adapted(inputs["input_ids"], attention_mask=torch.ones(3, 1, 10, 10))


def test_fresh_prompts_are_uniform_and_follow_a_seed():
    adapted = make_adapted("bert")
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        adapted.add(name, f"prompt_tuning[prompt_length=50, init_weights_seed={seed}]")

    first, second, other = (adapted.adapters[n].places["prompt"].embeddings for n in "abc")

    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert 0.49 < first.abs().max() <= 0.5


@pytest.mark.filterwarnings("ignore:Deprecated in 0.9.0")  # older versions of the tokenizer
def test_a_prompt_can_start_as_a_text(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb")
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    model = make_model()
    model.config._name_or_path = str(tmp_path)  # noqa: SLF001 - where a saved model came from
    adapted = compose.attach(model)

    adapted.add(
        "a", "prompt_tuning[prompt_length=6, prompt_init='from_string', prompt_init_text='a b']"
    )

    words = model.embeddings.word_embeddings.weight
    started = adapted.adapters["a"].places["prompt"].embeddings
    assert torch.equal(started[4:], started[:2])
    distances = torch.cdist(started, words)
    assert distances.min(dim=1).values.max() < 1e-3


@pytest.mark.parametrize(
    ("method", "message"),
    [
        pytest.param("prompt_tuning[prompt_init='from_string']", "prompt_init_text", id="no text"),
        pytest.param(
            "prompt_tuning[prompt_init='from_string', prompt_init_text='x']",
            "no tokenizer",
            id="no tokenizer",
        ),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(method, message):
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match=message):
        adapted.add("a", method)

    assert not adapted.adapters
