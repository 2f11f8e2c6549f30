"""Generation with what is active: with a cache as without one, and each row as alone."""

import pytest
import torch
import transformers

from adapterhub_client import compose
from adapterhub_client.errors import CompositionError

from .small_models import T5_HAS_PREFIXES, model_of
from .test_cache import CAUSAL, FIRST, WITH_ENCODER, language_model, padded, tokens

KINDS = ["seq_bn", "par_bn", "invertible", "lora", "ia3", "prefix", FIRST]
BOTH = [
    (architecture, kind)
    for architecture in (*CAUSAL, *WITH_ENCODER)
    for kind in KINDS
    if T5_HAS_PREFIXES or (architecture, kind) != ("t5", "prefix")
]
STEPS = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def batch(architecture):
    """Two rows, of which the second is shorter."""
    ids, mask, _ = padded(tokens())
    if architecture in WITH_ENCODER:
        ids, mask = ids.flip(1), mask.flip(1)
    return {"input_ids": ids, "attention_mask": mask}


def said(adapted, inputs, **options):
    """The logits of each step, (rows, steps, tokens)."""
    asked = {"return_dict_in_generate": True, "output_logits": True}
    return torch.stack(adapted.generate(**inputs, **STEPS, **asked, **options).logits, dim=1)


@pytest.mark.parametrize(("architecture", "kind"), BOTH)
def test_a_cache_changes_nothing(architecture, kind):
    adapted, inputs = language_model(architecture, [kind]), batch(architecture)
    bare = said(adapted, inputs)
    adapted.activate("a")

    cached = said(adapted, inputs)

    torch.testing.assert_close(cached, said(adapted, inputs, use_cache=False), atol=1e-4, rtol=0)
    static = said(adapted, inputs, cache_implementation="static", disable_compile=True)
    torch.testing.assert_close(cached, static, atol=1e-4, rtol=0)
    assert not torch.allclose(cached[:, 0], bare[:, 0], atol=1e-3)


@pytest.mark.parametrize(("architecture", "kind"), BOTH)
def test_a_row_is_what_it_is_alone(architecture, kind):
    adapted, inputs = language_model(architecture, [kind]), batch(architecture)
    is_real = inputs["attention_mask"][1] == 1
    alone = {name: value[1:, is_real] for name, value in inputs.items()}
    adapted.activate("a")

    together = said(adapted, inputs)[1:]

    torch.testing.assert_close(together, said(adapted, alone), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "kind"), [pair for pair in BOTH if pair[0] in ("llama", "t5")]
)
def test_a_batch_split_is_its_rows_alone(architecture, kind):
    adapted, inputs = language_model(architecture, [kind, kind]), batch(architecture)
    inputs = {"input_ids": inputs["input_ids"].clamp_min(5)}
    parts = []
    for row, name in enumerate("ab"):
        adapted.activate(name)
        parts.append(said(adapted, {"input_ids": inputs["input_ids"][row : row + 1]}))
    adapted.activate("batchsplit(a, b; batch_sizes=[1, 1])")

    torch.testing.assert_close(said(adapted, inputs), torch.cat(parts), atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", ["llama", "t5"])
def test_rows_name_their_adapters(architecture):
    adapted, inputs = language_model(architecture, ["seq_bn", "seq_bn"]), batch(architecture)
    parts = []
    for name in "ba":
        adapted.activate(name)
        parts.append(said(adapted, inputs)[len(parts) :][:1])
    adapted.activate_rows(["a", "b"])

    rows = said(adapted, inputs, adapters=["b", "a"])

    torch.testing.assert_close(rows, torch.cat(parts), atol=1e-4, rtol=0)
    numbers = said(adapted, inputs, adapters=adapted.row_numbers(["b", "a"]))
    torch.testing.assert_close(numbers, rows, atol=0, rtol=0)
    with pytest.raises(CompositionError, match="wait to be named"):
        adapted.model(**inputs)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "no adapters are named"),
        ({"adapters": ["a"]}, "1 adapters are named"),
        ({"adapters": ["a", "c"]}, "'c' is not resident"),
        ({"adapters": ["a", "b"], "num_beams": 2}, "num_beams=2"),
        (
            {
                "adapters": ["a", "b"],
                "generation_config": transformers.GenerationConfig(num_beams=3),
            },
            "num_beams=3",
        ),
        (
            {"adapters": ["a", "b"], "do_sample": True, "num_return_sequences": 2},
            "num_return_sequences=2",
        ),
    ],
)
def test_rows_that_are_not_named_one_by_one_are_refused(options, fault):
    adapted = language_model("llama", ["seq_bn", "seq_bn"])
    adapted.activate_rows(["a", "b"])

    with pytest.raises(CompositionError, match=fault):
        adapted.generate(**batch("llama"), max_new_tokens=2, **options)


def test_beams_of_one_adapter_are_those_without_a_cache():
    adapted, inputs = language_model("llama", ["seq_bn"]), batch("llama")
    adapted.activate("a")

    cached, whole = (
        adapted.generate(**inputs, **STEPS, num_beams=3, use_cache=use) for use in (True, False)
    )

    assert cached.tolist() == whole.tolist()


def test_tokens_can_be_given_without_a_name():
    adapted, ids = language_model("gpt2", ["seq_bn"]), tokens()
    adapted.activate("a")

    assert torch.equal(adapted.generate(ids, **STEPS), adapted.generate(input_ids=ids, **STEPS))


@pytest.mark.parametrize(
    "method",
    ["gated", "gated lora", "prefix_tuning[prefix_length=2, bottleneck_size=4, use_gating=True]"],
)
def test_gates_are_refused_with_a_cache_only(method):
    adapted, inputs = language_model("llama", [method]), batch("llama")
    adapted.activate("a")

    with pytest.raises(CompositionError, match="mean over all tokens") as refused:
        adapted.generate(**inputs, **STEPS)

    assert "use_cache=False" in str(refused.value.hint)
    assert adapted.generate(**inputs, **STEPS, use_cache=False).shape == (2, 14)
    adapted.model.generation_config.use_cache = False
    assert adapted.generate(**inputs, **STEPS).shape == (2, 14)


def test_copies_of_a_batch_are_refused():
    adapted = language_model("llama", ["seq_bn", "seq_bn"])
    adapted.activate("parallel(a, b)")

    with pytest.raises(CompositionError, match="makes copies of a batch") as refused:
        adapted.generate(**batch("llama"), **STEPS)

    assert "batchsplit" in str(refused.value.hint)


@pytest.mark.parametrize(("architecture", "kind"), [("gpt2", "causal_lm"), ("t5", "seq2seq_lm")])
def test_heads_beside_the_model_s_own_are_refused(architecture, kind):
    adapted = language_model(architecture, ["seq_bn"])
    adapted.add_head("other", kind)
    adapted.activate("a", head="other")

    with pytest.raises(CompositionError, match="Heads are active"):
        adapted.generate(**batch(architecture), **STEPS)

    adapted.activate("a", head=False)
    assert adapted.generate(**batch(architecture), **STEPS).shape[0] == 2


def test_names_without_resident_adapters_are_refused():
    adapted = language_model("llama", ["seq_bn"])
    adapted.activate("a")

    with pytest.raises(CompositionError, match="none are resident"):
        adapted.generate(**batch("llama"), adapters=["a", None])


def test_a_model_that_does_not_generate_is_refused():
    adapted = compose.attach(model_of("bert"))

    with pytest.raises(CompositionError, match="BertModel does not generate"):
        adapted.generate(tokens())
