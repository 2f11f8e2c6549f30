"""Arithmetic on weights: its laws, and what the papers' and other libraries' formulas give."""

import json
import os
import subprocess

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from adapterhub_client.compose.weights import lowrank, merging, thinning
from adapterhub_client.errors import CompositionError

from .conftest import hidden, make_adapted, randomise

PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
KINDS = [
    pytest.param("seq_bn[reduction_factor=4, ln_before=True, scaling='channel']", id="bottleneck"),
    pytest.param("lora[r=4, alpha=8, intermediate_lora=True]", id="lora"),
    pytest.param("dora[r=4]", id="dora"),
    pytest.param("vera[r=4]", id="vera"),
    pytest.param("ia3", id="ia3"),
    pytest.param("compacter[phm_dim=2, reduction_factor=4]", id="compacter"),
    pytest.param("seq_bn_inv[reduction_factor=4]", id="invertible"),
    pytest.param("loreft[r=2]", id="reft"),
    pytest.param("prefix_tuning[prefix_length=3, bottleneck_size=8]", id="prefix"),
    pytest.param("unipelt", id="unipelt"),
    pytest.param("bitfit", id="bitfit"),
]
METHODS = ["linear", "ties", "dare_linear", "dare_ties", "svd", "negate_b"]
LORA = "lora[r=4, alpha=8]"
FINITE = st.floats(-4, 4, allow_nan=False, width=32)


def values(adapter):
    return {name: parameter.detach().clone() for name, parameter in adapter.named_parameters()}


def products(adapter):
    """B A at each place, with its scale."""
    return {
        key: (module.lora_B.double() @ module.lora_A.double()).detach() * module.config.scale
        for key, module in adapter.places.items()
    }


def never_trained(adapter):
    return {
        f"{path}.{name}" if path else name
        for path, module in adapter.named_modules()
        for name in getattr(module, "never_trained", ())
    }


def two(method):
    """Two adapters with different weights, but for what is never trained."""
    adapted = make_adapted("bert", [method, method])
    first, second = (adapted.adapters[name] for name in "ab")
    with torch.no_grad():
        for name in never_trained(first):
            second.get_parameter(name).copy_(first.get_parameter(name))
    return adapted


@pytest.mark.parametrize("method", KINDS)
def test_all_weight_on_the_first_gives_the_first(method, inputs):
    adapted = two(method)

    adapted.merge("m", ["a", "b"], [1, 0])

    first = values(adapted.adapters["a"])
    for name, merged in values(adapted.adapters["m"]).items():
        assert torch.equal(merged, first[name])
    adapted.activate("a")
    expected = hidden(adapted, inputs)
    adapted.activate("m")
    assert torch.equal(hidden(adapted, inputs), expected)


@pytest.mark.parametrize("method", KINDS)
def test_the_average_of_equals_is_the_equal(method):
    adapted = two(method)

    adapted.merge("m", ["a", "a", "a"])

    first = values(adapted.adapters["a"])
    for name, merged in values(adapted.adapters["m"]).items():
        assert torch.equal(merged, first[name])


@pytest.mark.parametrize("method", KINDS)
def test_a_negative_weight_takes_away(method):
    adapted = two(method)

    adapted.merge("m", ["a", "b"], [2, -0.5])

    a, b = values(adapted.adapters["a"]), values(adapted.adapters["b"])
    for name, merged in values(adapted.adapters["m"]).items():
        expected = a[name]
        if name not in never_trained(adapted.adapters["a"]):
            expected = (2 * a[name].double() - 0.5 * b[name].double()).float()
        assert torch.equal(merged, expected)


def test_weights_are_divided_by_their_sum_only_when_asked():
    adapted = two("seq_bn")

    adapted.merge("plain", ["a", "b"], [3, 1])
    adapted.merge("normal", ["a", "b"], [3, 1], normalize=True)

    plain, normal = (values(adapted.adapters[name]) for name in ("plain", "normal"))
    for name, merged in plain.items():
        torch.testing.assert_close(merged, normal[name] * 4)


def test_the_result_is_an_adapter_like_any_other(inputs, tmp_path):
    adapted = two("seq_bn[reduction_factor=4]")
    adapted.merge("m", ["a", "b"])
    adapted.activate("m")
    expected = hidden(adapted, inputs)
    adapted.save("m", tmp_path)
    again = make_adapted("bert")

    again.load(tmp_path)
    again.activate("m")

    assert torch.equal(hidden(again, inputs), expected)
    assert adapted.adapters["m"].pin is None
    assert not any(p.requires_grad for p in adapted.adapters["m"].parameters())


def test_adapters_that_differ_in_dropout_and_initialisation_are_of_one_kind():
    adapted = make_adapted("bert", ["seq_bn", "seq_bn[dropout=0.1, init_weights='mam_adapter']"])

    assert adapted.merge("m", ["a", "b"]) == "m"


def test_the_order_of_weights_in_half_precision_is_rounded_once():
    adapted = two("seq_bn[reduction_factor=4]")
    adapted.bfloat16()

    adapted.merge("m", ["a", "b"], [0.3, 0.7])

    a, b = values(adapted.adapters["a"]), values(adapted.adapters["b"])
    for name, merged in values(adapted.adapters["m"]).items():
        assert merged.dtype == torch.bfloat16
        assert torch.equal(merged, (0.3 * a[name].double() + 0.7 * b[name].double()).bfloat16())


# ---------------------------------------------------------------- TIES and DARE


@settings(max_examples=60, deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=24), st.floats(0.05, 1))
def test_ties_of_one_is_the_one_trimmed(numbers, density):
    tensor = torch.tensor(numbers, dtype=torch.float64)[None]
    trimmed = thinning.trimmed(tensor, density)

    merged = thinning.of_elected_sign(trimmed, torch.ones(1, dtype=torch.float64))

    assert torch.equal(merged, trimmed[0])
    assert int((trimmed != 0).sum()) <= int(density * len(numbers))
    left_out = tensor.where(trimmed == 0, 0.0).abs().max()
    assert (trimmed[trimmed != 0].abs() >= left_out).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=24), st.integers(1, 5))
def test_ties_of_equals_keeps_what_trimming_keeps(numbers, count):
    tensor = torch.tensor(numbers, dtype=torch.float64).repeat(count, 1)
    trimmed = thinning.trimmed(tensor, 0.5)

    merged = thinning.of_elected_sign(trimmed, torch.ones(count, dtype=torch.float64))

    torch.testing.assert_close(merged, trimmed[0])


def test_ties_takes_the_mean_of_those_with_the_heavier_sign():
    stacked = torch.tensor([[3.0, -1.0, 0.0], [1.0, -2.0, 5.0], [-2.0, 4.0, 0.0]])

    merged = thinning.of_elected_sign(stacked, torch.ones(3))

    assert merged.tolist() == [2.0, 4.0, 5.0]


def test_dare_drops_by_chance_and_keeps_the_mean():
    stacked = torch.ones(2, 20_000, dtype=torch.float64)

    kept = thinning.dropped(stacked, 0.25, torch.Generator().manual_seed(1))

    assert set(kept.unique().tolist()) == {0.0, 4.0}
    assert kept.mean() == pytest.approx(1, abs=0.05)
    assert not torch.equal(kept[0], kept[1])


def test_dare_is_repeated_by_its_seed():
    adapted = two(LORA)

    adapted.merge("once", ["a", "b"], method="dare_ties", seed=3)
    adapted.merge("again", ["a", "b"], method="dare_ties", seed=3)
    adapted.merge("other", ["a", "b"], method="dare_ties", seed=4)

    once, again, other = (values(adapted.adapters[n]) for n in ("once", "again", "other"))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not all(torch.equal(once[name], other[name]) for name in once)


def test_dare_without_dropping_is_the_sum():
    adapted = two(LORA)

    adapted.merge("dare", ["a", "b"], [0.5, 2], method="dare_linear", density=1.0)
    adapted.merge("sum", ["a", "b"], [0.5, 2])

    dare, total = (values(adapted.adapters[n]) for n in ("dare", "sum"))
    assert all(torch.equal(dare[name], total[name]) for name in total)


def test_what_starts_at_one_is_averaged_and_never_left_out():
    adapted = two("seq_bn[ln_before=True, scaling='channel']")

    adapted.merge("m", ["a", "b"], method="ties", density=0.1)

    places = [adapted.adapters[name].places["0 output_adapter"] for name in "abm"]
    for path in ("norm_before.weight", "scaling"):
        a, b, merged = (place.get_parameter(path) for place in places)
        torch.testing.assert_close(merged, (a + b) / 2)


@pytest.mark.parametrize("strategy", ["ties", "dare_linear", "dare_ties"])
@pytest.mark.parametrize("density", [0.3, 0.75])
def test_thinning_is_that_of_peft(strategy, density, monkeypatch):
    peft = pytest.importorskip("peft.utils.merge_utils")
    stacked = torch.randn(3, 24, 10, generator=torch.Generator().manual_seed(5))
    weights = torch.tensor([0.7, 0.7, 0.7])
    # The same values dropped on both sides: theirs draws each adapter's by the global generator.
    drawn = torch.bernoulli(
        torch.full(stacked.shape, density), generator=torch.Generator().manual_seed(0)
    )
    masks = iter(drawn)
    monkeypatch.setattr(torch, "bernoulli", lambda *_given, **_options: next(masks))
    theirs = getattr(peft, strategy)(list(stacked), weights, density)
    monkeypatch.undo()

    adapted = two("lora[r=10]")
    group = merging.Group(
        adapted.adapters["a"].config,
        {"lora_A": stacked.double()},
        weights.double(),
        merging.Recipe(density=density),
        frozenset(),
    )
    ours = merging.MERGES[strategy](group)[1]["lora_A"]

    torch.testing.assert_close(ours.float(), theirs, atol=1e-6, rtol=1e-6)


# ---------------------------------------------------------------- LoRA


@pytest.mark.parametrize("rank", [8, 12])
def test_svd_at_full_rank_is_the_sum_of_the_products(rank):
    adapted = two(LORA)

    adapted.merge("m", ["a", "b"], [0.6, -1.2], method="svd", rank=rank)

    a, b, merged = (products(adapted.adapters[name]) for name in "abm")
    for key, product in merged.items():
        torch.testing.assert_close(product, 0.6 * a[key] - 1.2 * b[key], atol=1e-5, rtol=1e-4)
    assert adapted.adapters["m"].config.r == rank


def test_svd_keeps_the_scale_of_the_members():
    adapted = two(LORA)

    adapted.merge("m", ["a", "b"], method="svd", rank=3)

    config = adapted.adapters["m"].config
    assert (config.r, config.alpha) == (3, 6)
    assert config.scale == adapted.adapters["a"].config.scale


def test_svd_is_the_nearest_product_of_its_rank():
    adapted = two(LORA)
    whole = {
        key: 0.5 * (a + b)
        for (key, a), b in zip(
            products(adapted.adapters["a"]).items(),
            products(adapted.adapters["b"]).values(),
            strict=True,
        )
    }

    adapted.merge("m", ["a", "b"], method="svd", rank=2)

    for key, product in products(adapted.adapters["m"]).items():
        left_over = torch.linalg.svdvals(whole[key])[2:]
        distance = torch.linalg.matrix_norm(whole[key] - product)
        assert distance == pytest.approx(float(left_over.norm()), rel=1e-4)


def test_svd_of_a_merged_projection_approximates_query_key_and_value_apart():
    generator = torch.Generator().manual_seed(2)
    downs = torch.randn(2, 2 * 3, 10, generator=generator, dtype=torch.float64)
    ups = torch.randn(2, 2 * 5, 3, generator=generator, dtype=torch.float64)
    weights = torch.tensor([0.4, 0.9], dtype=torch.float64)

    down, up = lowrank.nearest(downs, ups, weights, 3, 6)

    assert (down.shape, up.shape) == ((12, 10), (10, 6))
    for part in range(2):
        own = up[part * 5 : part * 5 + 5] @ down[part * 6 : part * 6 + 6]
        expected = sum(
            weight * u[part * 5 : part * 5 + 5] @ d[part * 3 : part * 3 + 3]
            for weight, d, u in zip(weights, downs, ups, strict=True)
        )
        torch.testing.assert_close(own, expected)


def test_a_negative_weight_negates_a_product_once():
    adapted = two(LORA)

    adapted.merge("m", ["a"], [-1], method="negate_b")

    a, merged = products(adapted.adapters["a"]), products(adapted.adapters["m"])
    for key, product in merged.items():
        torch.testing.assert_close(product, -a[key])


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("method", METHODS)
def test_adapters_of_two_kinds_are_refused_with_both_configs(method):
    adapted = make_adapted("bert", ["lora[r=4]", "lora[r=8]"])

    with pytest.raises(CompositionError, match="the one has r=4, the other r=8"):
        adapted.merge("m", ["a", "b"], method=method)

    assert "m" not in adapted.adapters


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param({"names": []}, "nothing to merge", id="none"),
        pytest.param({"names": ["a", "z"]}, "Nothing named 'z' is loaded", id="unknown"),
        pytest.param({"name": "a"}, "'a' exists already", id="taken"),
        pytest.param({"weights": [1]}, "2 to merge .a, b., but 1 weights", id="too few weights"),
        pytest.param({"weights": [1, float("nan")]}, "not finite", id="no number"),
        pytest.param({"weights": [1, -1], "normalize": True}, "sum to 0", id="sum of zero"),
        pytest.param({"method": "slerp"}, "no way to merge named 'slerp'", id="method"),
        pytest.param({"temperature": 1}, "unknown field `temperature`", id="option"),
        pytest.param({"method": "ties", "density": 0.0}, "density is 0.0", id="density"),
        pytest.param({"method": "svd", "rank": 0}, "rank is 0", id="rank"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_new(change, sentence):
    adapted = two(LORA)

    with pytest.raises(CompositionError, match=sentence):
        adapted.merge(**({"name": "m", "names": ["a", "b"]} | change))

    assert set(adapted.adapters) == {"a", "b"}


@pytest.mark.parametrize("kind", ["dora", "vera", "ia3", "lora[use_gating=True]", "seq_bn"])
def test_svd_is_for_plain_lora(kind):
    adapted = two(kind)

    with pytest.raises(CompositionError, match="merges LoRA alone"):
        adapted.merge("m", ["a", "b"], method="svd")


@pytest.mark.parametrize("kind", ["dora", "vera", "ia3", "loreft"])
def test_thinning_is_for_changes_from_zero(kind):
    adapted = two(kind)

    with pytest.raises(CompositionError, match="TIES and DARE leave values out"):
        adapted.merge("m", ["a", "b"], method="ties")


def test_different_random_maps_are_refused():
    adapted = make_adapted("bert", ["vera[r=4]", "vera[r=4]"])
    randomise(adapted.adapters["b"], seed=9)

    with pytest.raises(CompositionError, match="'a' and 'b' have different random maps"):
        adapted.merge("m", ["a", "b"])


# ---------------------------------------------------------------- heads


def two_heads(**options):
    adapted = make_adapted("bert", [])
    for seed, name in enumerate("ab"):
        adapted.add_head(name, labels=["no", "yes"], **options)
        randomise(adapted.heads[name], seed=seed)
    return adapted


def test_a_merged_head_is_the_weighted_sum(inputs):
    adapted = two_heads()
    adapted.merge_heads("m", ["a", "b"], [0.25, 0.75])

    a, b, merged = (dict(adapted.heads[n].layers.named_parameters()) for n in "abm")

    assert adapted.heads["m"].labels == ["no", "yes"]
    for name, parameter in merged.items():
        torch.testing.assert_close(parameter, 0.25 * a[name] + 0.75 * b[name])
    adapted.activate(None, head="m")
    assert adapted(**inputs).logits.shape == (3, 2)


def test_heads_of_other_labels_are_refused():
    adapted = two_heads()
    adapted.add_head("c", labels=["no", "yes", "maybe"])

    with pytest.raises(CompositionError, match=r"'a' and 'c' are of different kinds: .*num_labels"):
        adapted.merge_heads("m", ["a", "c"])
    with pytest.raises(CompositionError, match="nothing to merge"):
        adapted.merge_heads("m", [])

    assert "m" not in adapted.heads


# ---------------------------------------------------------------- the reference library

SCRIPT = """
import json, sys
from pathlib import Path
from adapters import AutoAdapterModel

root = Path(sys.argv[1])
for job in json.loads(sys.stdin.read()):
    model = AutoAdapterModel.from_pretrained(root / job["kind"] / "base")
    for name in ("a", "b"):
        model.load_adapter(str(root / job["kind"] / name), with_head=False, use_safetensors=True)
    model.average_adapter(
        "m", ["a", "b"], weights=job["weights"], combine_strategy=job["strategy"],
        normalize_weights=job["normalize"], svd_rank=job["rank"],
    )
    model.save_adapter(str(root / job["out"]), "m", with_head=False, use_safetensors=True)
"""
JOBS = [
    ("seq_bn[reduction_factor=4]", "linear", "linear", [0.3, 0.9], True, None),
    ("lora[r=4, alpha=8]", "linear", "linear", [0.3, -0.9], False, None),
    ("lora[r=4, alpha=8]", "negate_b", "lora_linear_only_negate_b", [0.3, -0.9], False, None),
    ("lora[r=4, alpha=8]", "svd", "lora_delta_w_svd", [0.5, 1.5], False, 3),
    ("ia3", "linear", "linear", [1, 3], True, None),
]


@pytest.mark.skipif(not PEER, reason="ADAPTERS_PEER_PYTHON is not set")
def test_merges_are_those_of_the_reference_library(tmp_path):
    jobs = []
    adapted = {}
    for number, (kind, _, theirs, weights, normalize, rank) in enumerate(JOBS):
        own = adapted[kind] = two(kind)
        folder = tmp_path / kind.partition("[")[0]
        own.model.save_pretrained(folder / "base")
        for name in "ab":
            own.save(name, folder / name)
        jobs.append(
            {
                "kind": folder.name,
                "strategy": theirs,
                "weights": weights,
                "normalize": normalize,
                "rank": rank,
                "out": f"out{number}",
            }
        )
    ran = subprocess.run(
        [PEER, "-c", SCRIPT, str(tmp_path)],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]

    for number, (kind, method, _, weights, normalize, rank) in enumerate(JOBS):
        own = adapted[kind]
        options = {"normalize": normalize} | ({"rank": rank} if rank else {})
        own.merge("m", ["a", "b"], weights, method, **options)
        own.save("m", tmp_path / f"ours{number}")
        own.delete("m")
        ours = load_file(tmp_path / f"ours{number}" / "adapter.safetensors")
        theirs = load_file(tmp_path / f"out{number}" / "adapter.safetensors")
        assert ours.keys() == theirs.keys()
        if rank:
            # Singular vectors are unique but for their signs.
            ours, theirs = (
                {k: t[k.removesuffix("A") + "B"] @ t[k] for k in t if k.endswith("lora_A")}
                for t in (ours, theirs)
            )
        for key, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[key], atol=1e-5, rtol=1e-4)
