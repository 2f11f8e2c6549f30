"""Prefixes and prompts of PEFT: its numbers here and ours there, for which positions and norms have to be PEFT's."""

import copy

import pytest
import torch
import transformers
from safetensors.torch import save_file

from adapterhub_client import compose
from adapterhub_client.compose import IncompatibleAdapter
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method as formats

from .conftest import CONFIGS, hidden, make_adapted, make_model, randomise
from .peft_folders import (
    CLASSIFIER,
    GPT2,
    LLAMA,
    TOLERANCE,
    answer,
    both_ways,
    edit,
    gpt2,
    llama,
    options,
    peft,
    same_bits,
    weights,
    written_by_peft,
)

# PEFT's own, on the newest transformers; nothing here gives a cause for any.
pytestmark = pytest.mark.filterwarnings("ignore")

MODELS = {name: lambda name=name: make_model(name) for name in CONFIGS} | {
    "gpt2": gpt2,
    "llama": llama,
}
# PEFT does not find them in every config by itself.
BERT = {"num_attention_heads": 4, "token_dim": 32}
PREFIXED = [name for name in MODELS if name != "distilbert"]
PREFIX = "prefix_tuning_flat[prefix_length=3, counts_positions=True]"
PROMPT = "prompt_tuning[prompt_length=3, is_input=True]"
METHODS = [pytest.param(PREFIX, id="prefix"), pytest.param(PROMPT, id="prompt")]


def sized(config, **changes):
    settings = {"task_type": "FEATURE_EXTRACTION", "num_virtual_tokens": 3} | changes
    return config(**settings)


def prefix_of(**changes):
    return sized(peft.PrefixTuningConfig, **changes)


def prompt_of(**changes):

    return sized(peft.PromptTuningConfig, **(BERT | changes))


def p_tuning_of(**changes):
    return sized(peft.PromptEncoderConfig, **(BERT | changes))


def calls(inputs):
    """A batch with a mask, with padding, without a mask, and with positions of its own."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    yield inputs
    yield {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}
    yield {"input_ids": ids}
    yield {"input_ids": ids, "position_ids": torch.arange(ids.shape[1]).unsqueeze(0)}


def loaded(model, folder):
    adapted = compose.attach(copy.deepcopy(model))
    adapted.activate(adapted.load(folder, name="x"), head=False)
    return adapted


@pytest.mark.parametrize(
    ("name", "config"),
    [pytest.param(name, prefix_of, id=f"prefix of {name}") for name in PREFIXED]
    + [pytest.param(name, prompt_of, id=f"prompt of {name}") for name in MODELS],
)
def test_it_is_lossless_both_ways(name, config, tmp_path, inputs):
    errors = both_ways(MODELS[name](), config(), tmp_path, inputs)

    assert max(errors) <= TOLERANCE
    assert same_bits(tmp_path)
    before, after = options(tmp_path), options(tmp_path / "back")
    telling = {"num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim", "task_type"}
    assert {key: after[key] for key in telling} == {key: before[key] for key in telling}


@pytest.mark.parametrize(
    ("name", "config"),
    [pytest.param(name, prefix_of, id=f"prefix of {name}") for name in PREFIXED]
    + [pytest.param(name, prompt_of, id=f"prompt of {name}") for name in MODELS],
)
def test_padding_masks_and_positions_are_taken_as_by_peft(name, config, tmp_path, inputs):
    model = MODELS[name]()
    theirs = written_by_peft(tmp_path, model, config())
    adapted = loaded(model, tmp_path)

    for call in calls(inputs):
        if name == "distilbert":
            call.pop("position_ids", None)
        assert (answer(adapted, call) - answer(theirs, call)).abs().max() <= TOLERANCE


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(lambda: prefix_of(prefix_projection=True), id="prefix of a network"),
        pytest.param(p_tuning_of, id="p-tuning"),
        pytest.param(
            lambda: p_tuning_of(encoder_reparameterization_type="LSTM"), id="p-tuning of an lstm"
        ),
    ],
)
def test_what_a_network_made_comes_as_what_it_made(config, tmp_path, inputs):
    errors = both_ways(make_model(), config(), tmp_path, inputs)

    assert max(errors) <= TOLERANCE
    assert same_bits(tmp_path)


def test_a_prefix_of_our_network_goes_as_what_it_makes(tmp_path, inputs):
    adapted = make_adapted("bert", ["prefix_tuning[prefix_length=3, counts_positions=True]"])
    adapted.activate("a")

    adapted.save("a", tmp_path, format="peft")

    theirs = peft.PeftModel.from_pretrained(make_model(), tmp_path).eval()
    assert (answer(theirs, inputs) - hidden(adapted, inputs)).abs().max() <= TOLERANCE
    assert options(tmp_path)["prefix_projection"] is False


@pytest.mark.parametrize("config", [prefix_of, prompt_of], ids=["prefix", "prompt"])
@pytest.mark.parametrize(
    ("auto", "task"),
    [
        pytest.param(CLASSIFIER, "SEQ_CLS", id="classifier"),
        pytest.param(
            transformers.AutoModelForTokenClassification, "TOKEN_CLS", id="classifier of tokens"
        ),
    ],
)
def test_a_head_of_the_model_itself_goes_along(config, auto, task, tmp_path, inputs):
    whole = make_model(auto=auto)
    theirs = written_by_peft(tmp_path, whole, config(task_type=task))
    adapted = compose.attach(copy.deepcopy(whole))

    adapted.activate(adapted.load(tmp_path, name="x"), head="x")

    assert (answer(adapted, inputs) - answer(theirs, inputs)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("config", [prefix_of, prompt_of], ids=["prefix", "prompt"])
def test_a_classifier_that_was_trained_along_comes_as_a_head(config, tmp_path, inputs):
    whole = make_model(auto=CLASSIFIER)
    theirs = written_by_peft(tmp_path, whole, config(task_type="SEQ_CLS"))
    adapted = compose.attach(copy.deepcopy(whole.base_model))

    adapted.activate(adapted.load(tmp_path, name="x"), head="x")

    assert (answer(adapted, inputs) - answer(theirs, inputs)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("method", METHODS)
def test_a_head_that_was_trained_here_goes_to_peft(method, tmp_path, inputs):
    adapted = compose.attach(make_model(auto=CLASSIFIER))
    adapted.add("x", method)
    randomise(adapted.adapters["x"])
    adapted.trainable("x", base_head=True)
    adapted.activate("x")
    with torch.no_grad():
        adapted.model.classifier.bias.add_(1)

    adapted.save("x", tmp_path, format="peft")

    theirs = peft.PeftModel.from_pretrained(make_model(auto=CLASSIFIER), tmp_path).eval()
    assert (answer(theirs, inputs) - answer(adapted, inputs)).abs().max() <= TOLERANCE
    assert options(tmp_path)["task_type"] == "SEQ_CLS"


@pytest.mark.parametrize("method", METHODS)
def test_without_its_head_it_goes_to_a_classifier_too(method, tmp_path, inputs):
    adapted = compose.attach(make_model(auto=CLASSIFIER))
    adapted.add("x", method)
    randomise(adapted.adapters["x"])
    adapted.activate("x")

    adapted.save("x", tmp_path, format="peft")

    theirs = peft.PeftModel.from_pretrained(make_model(auto=CLASSIFIER), tmp_path).eval()
    assert (answer(theirs, inputs) - answer(adapted, inputs)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_texts_are_generated_as_by_peft(method, kind, tmp_path, inputs):
    torch.manual_seed(7)
    config = (
        transformers.LlamaConfig(**LLAMA) if kind == "llama" else transformers.GPT2Config(**GPT2)
    )
    config.pad_token_id, config.eos_token_id = 0, None
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    adapted = compose.attach(copy.deepcopy(model))
    adapted.add("x", method)
    randomise(adapted.adapters["x"])
    adapted.activate("x")
    adapted.save("x", tmp_path, format="peft")
    theirs = peft.PeftModel.from_pretrained(model, tmp_path).eval()
    # Texts of different lengths end at the same place.
    call = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"].flip(1)}
    asked = {"max_new_tokens": 6, "do_sample": False}

    expected = theirs.generate(**call, **asked)

    assert torch.equal(adapted.model.generate(**call, **asked), expected)
    assert torch.equal(adapted.model.generate(**call, **asked, use_cache=False), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "llama"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_row_of_parallel_branches_is_its_branch_alone(method, name, masked, inputs):
    if not masked:
        inputs = {"input_ids": inputs["input_ids"]}
    adapted = compose.attach(MODELS[name]())
    alone = []
    for number, own in enumerate("ab"):
        adapted.add(own, method)
        randomise(adapted.adapters[own], seed=number)
        adapted.activate(own)
        alone.append(hidden(adapted, inputs))

    adapted.activate("parallel(a, b)")
    together = hidden(adapted, inputs)

    assert (together - torch.cat(alone)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "llama"])
def test_it_compiles_whole(method, name, inputs):
    torch.compiler.reset()
    adapted = compose.attach(MODELS[name]())
    adapted.add("a", method)
    randomise(adapted.adapters["a"])
    adapted.activate("a")
    expected = hidden(adapted, inputs)
    compiled = torch.compile(adapted, fullgraph=True, backend="eager")

    with torch.no_grad():
        found = compiled(**inputs).last_hidden_state

    assert (found - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_split_is_its_runs_joined(method, inputs):
    adapted = make_adapted("bert", [method, method])
    alone = []
    for name, rows in (("a", slice(0, 2)), ("b", slice(2, 3))):
        adapted.activate(name)
        alone.append(hidden(adapted, {key: value[rows] for key, value in inputs.items()}))

    adapted.activate("batchsplit(a, b; batch_sizes=[2, 1])")

    assert (hidden(adapted, inputs) - torch.cat(alone)).abs().max() <= TOLERANCE


def test_in_a_stack_positions_count_on_from_all_prefixes(inputs):
    adapted = make_adapted("bert", [PREFIX, "prefix_tuning_flat[prefix_length=3]", "seq_bn"])
    adapted.activate("stack(a, b, c)")
    moved = hidden(adapted, inputs)

    positions = 3 + torch.arange(10).unsqueeze(0)
    other = make_adapted("bert", ["prefix_tuning_flat[prefix_length=3]"] * 2 + ["seq_bn"])
    other.activate("stack(a, b, c)")

    assert torch.equal(moved, hidden(other, inputs | {"position_ids": positions}))


@pytest.mark.parametrize(
    ("methods", "fact"),
    [
        pytest.param([PREFIX, "prefix_tuning_flat[prefix_length=3]"], "at 0 and 3", id="prefixes"),
        pytest.param([PROMPT, "prompt_tuning[prompt_length=3]"], "prompts of one", id="prompts"),
    ],
)
def test_kinds_do_not_go_side_by_side(methods, fact, inputs):
    adapted = make_adapted("bert", methods)

    with pytest.raises(CompositionError, match=fact):
        adapted.activate("parallel(a, b)")

    assert hidden(adapted, inputs).shape == (3, 10, 32)


@pytest.mark.parametrize("method", METHODS)
def test_it_comes_back_from_our_own_folder_bit_for_bit(method, tmp_path, inputs):
    adapted = make_adapted("bert", [method])
    adapted.activate("a")
    adapted.save("a", tmp_path)
    again = make_adapted("bert")

    again.activate(again.load(tmp_path), head=False)

    assert torch.equal(hidden(again, inputs), hidden(adapted, inputs))


@pytest.mark.parametrize("method", METHODS)
def test_detaching_gives_the_base_back_bit_for_bit(method, inputs):
    model = make_model()
    before = answer(model, inputs)
    adapted = compose.attach(model)
    adapted.add("x", method)
    adapted.activate("x")

    adapted.detach()

    assert torch.equal(answer(model, inputs), before)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_it_alone(method, inputs):
    adapted = make_adapted("bert", [method])
    adapted.trainable("a")
    adapted.activate("a")

    adapted(**inputs).last_hidden_state.square().sum().backward()

    reached = [p for p in adapted.model.parameters() if p.grad is not None]
    own = list(adapted.adapters["a"].parameters())
    assert {id(p) for p in reached} <= {id(p) for p in own}
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in own)


def test_tokens_that_a_head_reads_are_those_of_the_input(inputs):
    adapted = make_adapted("bert", [PROMPT])
    adapted.add_head("x", kind="tagging", labels=["b", "o"])

    adapted.activate("a", head="x")

    assert adapted(**inputs).logits.shape == (3, 10, 2)


def test_types_of_tokens_stay_with_their_tokens(inputs):
    adapted = make_adapted("bert", [PROMPT])
    adapted.activate("a")
    types = torch.zeros_like(inputs["input_ids"])

    without = hidden(adapted, inputs)

    assert torch.equal(hidden(adapted, inputs | {"token_type_ids": types}), without)
    assert not torch.equal(hidden(adapted, inputs | {"token_type_ids": types + 1}), without)


@pytest.mark.parametrize("method", ["prefix_tuning", "prefix_tuning_flat", "prompt_tuning", "lora"])
def test_keys_of_ours_are_written_only_where_they_are_set(method):
    plain = formats.parse(method).to_dict()

    assert not {"counts_positions", "is_input", "scaled_inputs"} & set(plain)


@pytest.mark.parametrize("method", METHODS)
def test_keys_of_ours_are_read_again(method):
    config = formats.parse(method)

    assert formats.read(config.to_dict()) == config
    assert {"counts_positions", "is_input"} & set(config.to_dict())


@pytest.mark.parametrize(
    ("method", "fact"),
    [
        pytest.param("prefix_tuning_flat", "counts_positions=False", id="our positions"),
        pytest.param("prompt_tuning", "is_input=False", id="behind the embeddings"),
        pytest.param(
            "prompt_tuning[is_input=True, combine='prefix_after_bos']", "combine", id="after a token"
        ),
        pytest.param(
            "prefix_tuning[use_gating=True, counts_positions=True]", "use_gating", id="gated"
        ),
        pytest.param(
            "prefix_tuning[leave_out=[0], counts_positions=True]", "leave_out", id="some layers"
        ),
        pytest.param("prefix_tuning[dropout=0.5, counts_positions=True]", "dropout", id="dropout"),
    ],
)  # fmt: skip
def test_what_peft_cannot_express_is_refused_and_nothing_is_written(method, fact, tmp_path):
    adapted = make_adapted("bert", [method])

    with pytest.raises(CompositionError, match=fact):
        adapted.save("a", tmp_path, format="peft")

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        pytest.param({"num_transformer_submodules": 2}, "num_transformer_submodules=2", id="two"),
        pytest.param({"num_layers": 3}, "num_layers=3.* have 2", id="layers"),
        pytest.param({"num_attention_heads": 8}, "num_attention_heads=8.* have 4", id="heads"),
        pytest.param({"use_tomorrow": 3}, "use_tomorrow=3", id="an option of tomorrow"),
    ],
)
def test_a_prefix_of_something_else_is_refused_and_nothing_is_loaded(changes, fact, tmp_path):
    written_by_peft(tmp_path, make_model(), prefix_of())
    edit(tmp_path, **changes)
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match=fact):
        adapted.load(tmp_path)

    assert not adapted.adapters


@pytest.mark.parametrize("config", [prefix_of, prompt_of], ids=["prefix", "prompt"])
@pytest.mark.parametrize(
    ("change", "fact"),
    [
        pytest.param(lambda t: t.pop("prompt_embeddings"), "1 missing: prompt_embeddings", id="missing"),
        pytest.param(lambda t: t.update(more=torch.ones(1)), "1 unexpected: more", id="extra"),
        pytest.param(
            lambda t: t.update(prompt_embeddings=t["prompt_embeddings"][:, 1:]), "asks for", id="shape"
        ),
        pytest.param(
            lambda t: t.update(prompt_embeddings=t["prompt_embeddings"] * float("nan")), "NaN", id="nan"
        ),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused_and_nothing_is_loaded(config, change, fact, tmp_path):
    written_by_peft(tmp_path, make_model(), config())
    tensors = weights(tmp_path)
    change(tensors)
    save_file(
        {key: value.contiguous() for key, value in tensors.items()} or {"no": torch.ones(1)},
        tmp_path / "adapter_model.safetensors",
    )
    adapted = make_adapted("bert")

    with pytest.raises(IncompatibleAdapter, match=fact):
        adapted.load(tmp_path)

    assert not adapted.adapters


@pytest.mark.parametrize(
    ("model", "method", "fact"),
    [
        pytest.param(lambda: make_model("distilbert"), PREFIX, "do not take positions", id="no cache"),
        pytest.param(
            lambda: transformers.AutoModel.from_config(transformers.MistralConfig(**LLAMA)),
            PREFIX, "slides past", id="sliding windows",
        ),
        pytest.param(
            lambda: transformers.AutoModelForSequenceClassification.from_config(
                transformers.LlamaConfig(**LLAMA)
            ),
            PROMPT, "reads by the tokens", id="a head at the last token",
        ),
        pytest.param(
            lambda: transformers.AutoModel.from_config(
                transformers.T5Config(vocab_size=96, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
            ),
            PROMPT, "not known", id="an encoder-decoder",
        ),
        pytest.param(
            lambda: transformers.AutoModel.from_config(
                transformers.T5Config(vocab_size=96, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
            ),
            PREFIX, "the decoder alone", id="a prefix of an encoder-decoder",
        ),
    ],
)  # fmt: skip
def test_models_that_cannot_do_the_same_are_refused(model, method, fact):
    adapted = compose.attach(model())

    with pytest.raises(CompositionError, match=fact):
        adapted.add("x", method)

    assert not adapted.adapters
