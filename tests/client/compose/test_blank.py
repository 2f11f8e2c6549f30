"""Copies of an empty adapter are adapters of their own."""

import pytest
import torch

from adapterhub_client import compose
from adapterhub_client.compose.files.blank import Blanks
from adapterhub_client.compose.methods import method

from .conftest import make_adapted, make_model

CONFIGS = ["seq_bn", "double_seq_bn[ln_before=True, use_gating=True]", "scaled_par_bn"]


@pytest.fixture
def blanks():
    return Blanks(compose.attach(make_model()).backbone)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_second_of_a_kind_is_like_the_first_and_shares_nothing(config, blanks):
    config = method.read(config, blanks.backbone)

    first, second = blanks.make(config, "a"), blanks.make(config, "b")

    assert not {id(m) for m in first.adapter.modules()} & {id(m) for m in second.adapter.modules()}
    assert [k.replace(".a.", ".b.") for e in first.entries for k in e.keys] == [
        k for e in second.entries for k in e.keys
    ]
    assert list(first.adapter.state_dict()) == list(second.adapter.state_dict())


def test_a_hook_on_one_copy_is_none_of_the_other(blanks):
    config = method.read("seq_bn", blanks.backbone)
    blanks.make(config, "a")
    first, second = blanks.make(config, "a").adapter, blanks.make(config, "b").adapter

    handle = first.register_forward_hook(lambda *_: None)

    assert vars(first)["_forward_hooks"]
    assert not vars(second)["_forward_hooks"]
    handle.remove()


def test_training_one_of_two_that_were_loaded_alike_leaves_the_other(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    adapted.load(tmp_path, name="b")
    adapted.load(tmp_path, name="c")

    adapted.trainable("b")
    for parameter in adapted.adapters["b"].parameters():
        parameter.data.add_(1)

    assert not any(p.requires_grad for p in adapted.adapters["c"].parameters())
    pairs = zip(adapted.adapters["a"].parameters(), adapted.adapters["c"].parameters(), strict=True)
    assert all(torch.equal(a, c) for a, c in pairs)


def test_every_further_config_is_built_though_few_are_kept(blanks):
    for width in range(1, 20):
        config = method.read(f"seq_bn[reduction_factor={width}]", blanks.backbone)

        made = blanks.make(config, "a").adapter

        assert next(iter(made.places.values())).width == max(1, 32 // width)
