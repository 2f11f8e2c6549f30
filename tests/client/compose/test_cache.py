"""What acts gives the same numbers with a key-value cache as without one."""

import pytest
import torch
import transformers
from torch import nn

from adapterhub_client import compose
from adapterhub_client.compose import caches

from .conftest import randomise
from .peer_kinds import ARCHITECTURES
from .small_models import METHODS

CAUSAL = ("gpt2", "llama")
WITH_ENCODER = ("t5", "bart")
PROMPT = 6
FIRST = "noreft[r=2, prefix_positions=8, suffix_positions=0]"
LAST = "noreft[r=2, prefix_positions=1, suffix_positions=2]"


def language_model(architecture, methods, **changes):
    torch.manual_seed(7)
    class_name, settings, _ = ARCHITECTURES[architecture]
    config = getattr(transformers, class_name)(**settings)
    config.update({"use_cache": True, "decoder_start_token_id": 0} | changes)
    kind = transformers.AutoModelForCausalLM
    if architecture in WITH_ENCODER:
        kind = transformers.AutoModelForSeq2SeqLM
    model = kind.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    adapted = compose.attach(model.eval())
    for number, method in enumerate(methods):
        name = "abcd"[number]
        adapted.add(name, METHODS.get(method, method))
        randomise(adapted.adapters[name], seed=number + 1)
    return adapted


def tokens(rows=2, length=9, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, 90, (rows, length), generator=generator)


def padded(ids, pads=2):
    """A batch whose second row begins with padding."""
    mask = torch.ones_like(ids)
    mask[1, :pads] = 0
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    return ids * mask, mask, positions


def cache_of(kind, adapted, length=16):
    if kind == "static":
        return transformers.StaticCache(config=adapted.model.config, max_cache_len=length)
    return transformers.DynamicCache(config=adapted.model.config)


@torch.no_grad()
def in_steps(adapted, ids, kind, **of_all):
    """What is said to a prompt, and then to one token after the other."""
    cache = cache_of(kind, adapted)
    said = []
    for begin, end in [(0, PROMPT), *((n, n + 1) for n in range(PROMPT, ids.shape[1]))]:
        options = {}
        for name, value in of_all.items():
            options[name] = value[:, :end] if name == "attention_mask" else value[:, begin:end]
        inputs = {"input_ids": ids[:, begin:end], caches.NAME: cache, "use_cache": True}
        said.append(adapted(**inputs, **options).logits)
    return torch.cat(said, dim=1)


@pytest.mark.parametrize("architecture", CAUSAL)
@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("prompt_of", [1, PROMPT])
def test_first_tokens_are_counted_with_those_in_the_cache(
    architecture, kind, prompt_of, monkeypatch
):
    monkeypatch.setattr(f"{__name__}.PROMPT", prompt_of)
    adapted, ids = language_model(architecture, [FIRST]), tokens()
    adapted.activate("a")

    with torch.no_grad():
        whole = adapted(input_ids=ids, use_cache=False).logits

    torch.testing.assert_close(in_steps(adapted, ids, kind), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", CAUSAL)
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_first_tokens_are_counted_behind_padding(architecture, kind):
    adapted = language_model(architecture, [FIRST])
    ids, mask, positions = padded(tokens())
    adapted.activate("a")
    options = {"attention_mask": mask, "position_ids": positions}

    with torch.no_grad():
        whole = adapted(input_ids=ids, use_cache=False, **options).logits
    cached = in_steps(adapted, ids, kind, **options)

    torch.testing.assert_close(cached[mask == 1], whole[mask == 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", CAUSAL)
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_last_tokens_are_those_of_the_prompt(architecture, kind):
    method = "noreft[r=2, layers=[1], prefix_positions=0, suffix_positions=2]"
    adapted, ids = language_model(architecture, [method]), tokens()
    bare = in_steps(adapted, ids, kind)
    adapted.activate("a")

    moved = (in_steps(adapted, ids, kind) - bare).abs().amax((0, 2)) > 1e-4

    assert moved.tolist() == [False] * (PROMPT - 2) + [True] * 2 + [False] * (9 - PROMPT)


@pytest.mark.parametrize("architecture", WITH_ENCODER)
@pytest.mark.parametrize(("method", "is_masked"), [(FIRST, True), (FIRST, False), (LAST, True)])
def test_a_decoder_beside_an_encoder_counts_its_own_cache(architecture, method, is_masked):
    adapted, ids, answer = language_model(architecture, [method]), tokens(), tokens(seed=4)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    inputs = {"input_ids": ids} | ({"attention_mask": mask} if is_masked else {})
    adapted.activate("a")

    with torch.no_grad():
        whole = adapted(**inputs, decoder_input_ids=answer, use_cache=False).logits
        encoded = adapted.model.get_encoder()(**inputs)
        cache, said = None, []
        for at in range(answer.shape[1]):
            out = adapted(
                encoder_outputs=encoded,
                attention_mask=inputs.get("attention_mask"),
                decoder_input_ids=answer[:, at : at + 1],
                **{caches.NAME: cache},
                use_cache=True,
            )
            cache = out[caches.NAME]
            said.append(out.logits)

    torch.testing.assert_close(torch.cat(said, dim=1), whole, atol=1e-5, rtol=0)
