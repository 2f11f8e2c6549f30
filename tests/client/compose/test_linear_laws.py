"""Compositions of adapters at linear layers, tested by laws."""

import pytest
import torch

from adapterhub_client import compose
from adapterhub_client.errors import CompositionError

from .conftest import hidden, make_adapted, make_model, randomise
from .test_linear_layers import METHODS, loss_of, on_gpt2

# Three of one kind, of one kind and several ranks, and of several kinds.
MIXES = [
    *(pytest.param([method.values[0]] * 3, id=method.id) for method in METHODS),
    pytest.param(["lora[r=2]", "lora[r=5, alpha=3]", "vera"], id="ranks"),
    pytest.param(["lora", "ia3", "dora"], id="kinds"),
    pytest.param(["lora", "lora[use_gating=True]", "seq_bn"], id="gates and a bottleneck"),
    pytest.param(["lora", "lora[attn_matrices=['k'], leave_out=[0]]", "seq_bn"], id="places"),
]
TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}


def alone(adapted, name, inputs):
    adapted.activate(name)
    return hidden(adapted, inputs)


@pytest.mark.parametrize("methods", MIXES)
def test_a_stack_of_one_is_the_one(methods, inputs):
    adapted = make_adapted("bert", methods)
    expected = alone(adapted, "a", inputs)

    adapted.activate("stack(a)")

    assert torch.equal(hidden(adapted, inputs), expected)


@pytest.mark.parametrize("methods", MIXES)
def test_each_copy_of_a_parallel_batch_is_as_alone(architecture, methods, inputs):
    adapted = make_adapted(architecture, methods)
    expected = torch.cat([alone(adapted, name, inputs) for name in "abc"])

    adapted.activate("parallel(a, b, c)")

    torch.testing.assert_close(hidden(adapted, inputs), expected, **TOLERANCE)


@pytest.mark.parametrize("methods", MIXES)
@pytest.mark.parametrize("sizes", [[1, 1, 1], [2, 1, 0]])
def test_a_batchsplit_is_its_rows_put_together(methods, sizes, inputs):
    adapted = make_adapted("bert", methods)
    parts = []
    for name, begin, size in zip("abc", (0, sizes[0], sizes[0] + sizes[1]), sizes, strict=True):
        rows = {key: tensor[begin : begin + size] for key, tensor in inputs.items()}
        parts += [alone(adapted, name, rows)] if size else []

    adapted.activate(f"batchsplit(a, b, c; batch_sizes={sizes})")

    torch.testing.assert_close(hidden(adapted, inputs), torch.cat(parts), **TOLERANCE)


@pytest.mark.parametrize("methods", [[m.values[0]] for m in METHODS])
def test_the_average_of_equals_is_the_equal(methods, inputs):
    adapted = make_adapted("bert", methods)
    expected = alone(adapted, "a", inputs)

    adapted.activate("average(a, a; weights=[0.3, 0.7])")

    torch.testing.assert_close(hidden(adapted, inputs), expected, **TOLERANCE)


@pytest.mark.parametrize("methods", MIXES)
def test_an_average_with_all_the_weight_on_one_is_the_one(methods, inputs):
    if "seq_bn" in methods:
        methods = [*methods[:2], "lora"]
    adapted = make_adapted("bert", methods)
    expected = alone(adapted, "b", inputs)

    adapted.activate("average(a, b, c; weights=[0, 1, 0])")

    torch.testing.assert_close(hidden(adapted, inputs), expected, **TOLERANCE)


@pytest.mark.parametrize("method", ["lora", "vera", "ia3", "lora[use_gating=True]"])
def test_blocks_of_blocks_are_their_parts(method, inputs):
    adapted = make_adapted("bert", [method] * 4)
    adapted.activate("stack(a, b)")
    stacked = hidden(adapted, inputs)
    adapted.activate("average(c, d)")
    averaged = hidden(adapted, inputs)
    rows = {key: torch.cat([tensor, tensor]) for key, tensor in inputs.items()}

    adapted.activate("batchsplit(stack(a, b), average(c, d); batch_sizes=[3, 3])")

    torch.testing.assert_close(hidden(adapted, rows), torch.cat([stacked, averaged]), **TOLERANCE)


@pytest.mark.parametrize("method", ["lora", "ia3", "mtl_lora"])
def test_a_block_inside_a_stack_hands_on_what_its_parts_do(method, inputs):
    adapted = make_adapted("bert", [method] * 3)
    parts = []
    for name, rows in (("a", slice(0, 1)), ("b", slice(1, 3))):
        adapted.activate(f"stack({name}, c)")
        parts.append(hidden(adapted, {key: tensor[rows] for key, tensor in inputs.items()}))

    adapted.activate("stack(batchsplit(a, b; batch_sizes=[1, 2]), c)")

    torch.testing.assert_close(hidden(adapted, inputs), torch.cat(parts), **TOLERANCE)


def test_a_stack_feeds_each_change_to_the_next(inputs):
    adapted = make_adapted("bert", ["lora[attn_matrices=['q']]", "lora[attn_matrices=['q']]"])
    layer = adapted.model.encoder.layer[0].attention.self.query
    one, two = (adapted.adapters[name].places["0 query"] for name in "ab")
    given = torch.randn(2, 5, 32)
    plain = layer(given)

    adapted.activate("stack(a, b)")

    expected = given @ one.lora_A.T @ one.lora_B.T @ two.lora_A.T @ two.lora_B.T
    torch.testing.assert_close(layer(given) - plain, expected, atol=1e-4, rtol=1e-4)


def test_adapters_without_a_module_somewhere_are_passed_over(inputs):
    adapted = make_adapted("bert", ["lora", "lora[attn_matrices=['k']]"])
    adapted.activate("stack(a, b)")
    both = hidden(adapted, inputs)

    adapted.activate("average(a, b; weights=[1, 1])")

    # At no place are there both, so their order and their sum are the same.
    torch.testing.assert_close(hidden(adapted, inputs), both, **TOLERANCE)


def test_skipped_layers_have_no_hooks(inputs):
    adapted = make_adapted("bert", ["lora", "lora[leave_out=[0]]"])
    with torch.no_grad():
        for one, two in zip(
            adapted.adapters["b"].parameters(),
            adapted.adapters["a"].places["1 query"].parameters(),
            strict=False,
        ):
            one.copy_(two)
        adapted.adapters["b"].load_state_dict(
            {
                key: value
                for key, value in adapted.adapters["a"].state_dict().items()
                if key.startswith("places.1")
            }
        )
    expected = alone(adapted, "b", inputs)

    adapted.activate("a", skip_layers=[0])

    assert torch.equal(hidden(adapted, inputs), expected)


@pytest.mark.parametrize("method", ["lora", "dora", "vera", "ia3", "lora[use_gating=True]"])
@pytest.mark.parametrize("tree", ["parallel(a, b)", "average(a, b)"])
def test_gradients_through_a_bank_are_those_of_each_alone(method, tree, inputs):
    adapted = make_adapted("bert", [method, method])
    found = {}
    for banked in (True, False):
        adapted.activate(tree if banked else tree.replace("a, b", "stack(a), stack(b)"))
        adapted.trainable("a", "b")
        loss_of(adapted, inputs).backward()
        found[banked] = {
            n: p.grad.clone() for n, p in adapted.shelf.named_parameters() if p.requires_grad
        }
        adapted.zero_grad()

    assert found[True]
    for name, gradient in found[True].items():
        torch.testing.assert_close(gradient, found[False][name], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(
    "method", ["lora", "ia3", "lora[use_gating=True, attn_matrices=['q','k','v']]"]
)
def test_merged_layers_compose_too(method, inputs):
    adapted = on_gpt2(method, method)
    expected = torch.cat([alone(adapted, name, inputs) for name in "ab"])

    adapted.activate("parallel(a, b)")

    torch.testing.assert_close(hidden(adapted, inputs), expected, **TOLERANCE)


@pytest.mark.parametrize(
    ("methods", "tree", "words"),
    [
        pytest.param(["lora", "lora"], "split(a, b; splits=[4, 6])", "attend to each other", id="split"),
        pytest.param(["lora", "ia3"], "stack(a, b)", "mixes adapters that add", id="kinds in a stack"),
        pytest.param(
            ["lora[intermediate_lora=True]"] * 2, "stack(a, b)", "64 features", id="stack of another width"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_composed_is_refused_and_nothing_changes(methods, tree, words, inputs):
    adapted = make_adapted("bert", methods)
    adapted.activate("a")
    before = hidden(adapted, inputs)

    with pytest.raises(CompositionError) as refused:
        adapted.activate(tree)

    assert words in str(refused.value)
    assert torch.equal(hidden(adapted, inputs), before)


def test_a_fusion_refuses_linear_layers():
    adapted = make_adapted("bert", ["seq_bn", "lora"])

    with pytest.raises(CompositionError, match="'b' has no bottleneck"):
        adapted.add_fusion("a", "b")


def test_a_batch_that_is_not_its_parts_is_refused(inputs):
    adapted = make_adapted("bert", ["lora", "lora"])
    adapted.activate("batchsplit(a, b; batch_sizes=[1, 1])")

    with pytest.raises(CompositionError, match="sum to 2, but the input has 3 rows"):
        adapted(**inputs)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "vera", "mtl_lora[use_gating=True]"])
@pytest.mark.parametrize("tree", ["a", "average(a, b)", "parallel(a, b)"])
def test_it_compiles_to_one_graph(method, tree, inputs):
    adapted = compose.attach(make_model())
    for name in "ab":
        adapted.add(name, method)
        randomise(adapted.adapters[name], seed=ord(name))
        adapted.adapters[name].requires_grad_(requires_grad=False)
    adapted.activate(tree)
    expected = hidden(adapted, inputs)

    torch.compiler.reset()
    compiled = torch.compile(adapted, fullgraph=True, backend="aot_eager")

    torch.testing.assert_close(hidden(compiled, inputs), expected, **TOLERANCE)


@pytest.mark.parametrize(
    "methods",
    [
        pytest.param(["lora", "lora[r=3, alpha=9]", "lora"], id="lora"),
        pytest.param(["lora", "ia3", "dora"], id="kinds"),
        pytest.param(["vera", "mtl_lora", "lora[use_gating=True]"], id="more kinds"),
        pytest.param(["lora", "seq_bn", "lora[leave_out=[0]]"], id="places"),
    ],
)
def test_rows_that_name_their_adapter_are_as_alone(methods, inputs):
    adapted = make_adapted("bert", methods)
    adapted.requires_grad_(requires_grad=False)
    adapted.eval()
    single = {name: alone(adapted, name, inputs) for name in "abc"}
    adapted.deactivate()
    single[None] = hidden(adapted, inputs)

    adapted.activate_rows(["a", "b", "c"])

    for rows in (["c", "a", "b"], ["b", None, "b"]):
        with torch.no_grad():
            found = adapted(**inputs, adapters=rows).last_hidden_state
        expected = torch.stack([single[name][row] for row, name in enumerate(rows)])
        torch.testing.assert_close(found, expected, **TOLERANCE)


def test_a_fusion_of_unions_with_linear_layers_is_refused_when_activated(inputs):
    adapted = make_adapted("bert", ["lora|seq_bn", "seq_bn"])
    adapted.add_fusion("a", "b")

    with pytest.raises(
        CompositionError, match=r"A fusion mixes the up-projections .* 'a' acts at linear"
    ):
        adapted.activate("fuse(a, b)")


def test_a_stack_beside_a_fusion_is_possible(inputs):
    adapted = make_adapted("bert", ["lora", "seq_bn", "seq_bn"])
    adapted.add_fusion("b", "c")
    adapted.activate("fuse(b, c)")
    without = hidden(adapted, inputs)

    adapted.activate("stack(a, fuse(b, c))")

    assert (hidden(adapted, inputs) - without).abs().max() > 0.05
