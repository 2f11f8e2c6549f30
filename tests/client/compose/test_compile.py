"""`torch.compile` takes a composition whole, without a break in the graph."""

import logging
import shutil

import pytest
import torch

from adapterhub_client.errors import CompositionError

from .conftest import fused, hidden, make_adapted
from .small_models import adapted_of, batch_of

METHODS = [
    "seq_bn[reduction_factor=2]",
    "seq_bn[reduction_factor=4, non_linearity='gelu']",
    "double_seq_bn[reduction_factor=2]",
]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()  # noqa: SLF001
    logging.getLogger("torch.__trace").setLevel(logging.WARNING)  # pytest would collect it


@pytest.fixture
def adapted():
    adapted = make_adapted("bert", METHODS)
    fused(adapted, "a", "b")
    adapted.add_head("top", labels=["no", "yes"])
    return adapted


def compiled(adapted):
    return torch.compile(adapted, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize(
    "expression", ["a", "c", "stack(a, b)", "stack(c, a)", "fuse(a, b)", "stack(c, fuse(a, b))"]
)
def test_a_compiled_composition_gives_the_same(adapted, inputs, expression):
    adapted.activate(expression)
    expected = hidden(adapted, inputs)

    torch.testing.assert_close(hidden(compiled(adapted), inputs), expected, atol=1e-5, rtol=0)


def test_a_compiled_model_follows_a_new_activation(adapted, inputs):
    base = hidden(adapted, inputs)
    adapted.activate("a")
    function = compiled(adapted)
    hidden(function, inputs)

    adapted.activate("c")
    other = hidden(function, inputs)
    adapted.deactivate()

    torch.testing.assert_close(hidden(function, inputs), base, atol=1e-5, rtol=0)
    adapted.activate("c")
    torch.testing.assert_close(hidden(adapted, inputs), other, atol=1e-5, rtol=0)


def test_compiled_training_gives_the_same_gradients(adapted, inputs):
    labels = torch.tensor([0, 1, 0])
    adapted.activate("fuse(a, b)", head="top")
    adapted.trainable("fuse(a, b)", heads=["top"])
    adapted(**inputs, labels=labels).loss.backward()
    expected = {n: p.grad.clone() for n, p in adapted.named_parameters() if p.requires_grad}
    adapted.zero_grad()

    compiled(adapted)(**inputs, labels=labels).loss.backward()

    for name, parameter in adapted.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4)


def test_an_uncompiled_call_after_training_is_not_stale(adapted, inputs):
    adapted.activate("fuse(a, b)")
    before = hidden(compiled(adapted), inputs)
    with torch.no_grad():
        for layer in adapted.fusions["a,b"].layers():
            layer.value.weight.mul_(-1)

    assert (hidden(adapted, inputs) - before).abs().max() > 1e-2


def test_a_compiled_evaluation_between_training_steps_is_not_stale(adapted, inputs):
    adapted.activate("fuse(a, b)")
    adapted.trainable("fuse(a, b)")
    function = compiled(adapted)
    hidden(function, inputs)
    with torch.no_grad():
        for layer in adapted.fusions["a,b"].layers():
            layer.value.weight.mul_(-1)

    torch.testing.assert_close(hidden(function, inputs), hidden(adapted, inputs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("turn", ["eval", "trainable", "load_state_dict"])
def test_what_was_kept_before_a_silent_change_is_not_traced(adapted, inputs, turn):
    adapted.activate("fuse(a, b)", head=False)
    adapted.trainable("fuse(a, b)")
    before = hidden(adapted, inputs)
    for layer in adapted.fusions["a,b"].layers():
        layer.value.weight.data.mul_(-1)
    adapted.requires_grad_(requires_grad=False)

    {
        "eval": adapted.eval,
        "trainable": adapted.trainable,
        "load_state_dict": lambda: adapted.load_state_dict(adapted.state_dict()),
    }[turn]()

    after = hidden(compiled(adapted), inputs)
    assert (after - before).abs().max() > 1e-2
    torch.testing.assert_close(after, hidden(adapted, inputs), atol=1e-5, rtol=0)


COMPOSITIONS = [
    pytest.param(["par_bn"], "a", id="parallel bottleneck"),
    pytest.param(["gated"], "a", id="gated"),
    pytest.param(["seq_bn", "double_seq_bn"], "parallel(a, b)", id="parallel of two kinds"),
    pytest.param(["seq_bn", "seq_bn"], "batchsplit(a, b; batch_sizes=[1, 2])", id="batchsplit"),
    pytest.param(["seq_bn", "double_seq_bn"], "split(a, b; splits=[4, 6])", id="split"),
    pytest.param(["seq_bn", "double_seq_bn"], "average(a, b)", id="average"),
    pytest.param(["gated lora"] * 2, "batchsplit(a, b; batch_sizes=[1, 2])", id="rows of LoRA"),
    *(
        pytest.param([method], "a", id=method)
        for method in ("invertible", "lora", "dora", "prefix", "prompt", "loreft", "bitfit")
    ),
]


def one_graph(adapted, **options):
    return torch.compile(adapted, fullgraph=True, backend="eager", **options)


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]  # noqa: SLF001


@pytest.mark.parametrize(("methods", "expression"), COMPOSITIONS)
def test_every_composition_is_one_graph(methods, expression):
    adapted, batch = adapted_of("bert", methods), batch_of()
    adapted.activate(expression)

    found = hidden(one_graph(adapted), batch)

    torch.testing.assert_close(found, hidden(adapted, batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("expression", ["parallel(a, c)", "stack(c, fuse(a, b))", "d", "e"])
def test_architectures_are_one_graph(architecture, expression):
    adapted = adapted_of(architecture, ["seq_bn", "seq_bn", "double_seq_bn", "lora", "prefix"])
    fused(adapted, "a", "b")
    adapted.trainable()
    adapted.activate(expression)
    batch = batch_of(architecture)
    expected = hidden(adapted, batch)

    torch.testing.assert_close(hidden(one_graph(adapted), batch), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "expression", ["a", "fuse(a, b)", "parallel(a, b)", "parallel(a, c)", "parallel(d, e)", "f"]
)
@pytest.mark.parametrize(
    ("dynamic", "expected"),
    [pytest.param(True, 1, id="asked for"), pytest.param(None, 2, id="found out")],
)
def test_batches_of_all_sizes_share_a_graph(expression, dynamic, expected):
    adapted = adapted_of("bert", ["seq_bn", "seq_bn", "double_seq_bn", "lora", "lora", "prefix"])
    fused(adapted, "a", "b")
    adapted.trainable()
    adapted.activate(expression)
    function = one_graph(adapted, dynamic=dynamic)
    before = graphs()

    for rows, length in ((7, 11), (5, 12), (2, 9), (6, 15)):
        batch = batch_of(rows=rows, length=length)
        torch.testing.assert_close(
            hidden(function, batch), hidden(adapted, batch), atol=1e-5, rtol=0
        )

    assert graphs() - before == expected


def test_rows_by_number_share_a_graph_whatever_they_name():
    adapted, batch = adapted_of("bert", ["seq_bn", "seq_bn", "double_seq_bn"]), batch_of()
    adapted.activate_rows("abc")
    function = one_graph(adapted)
    before = graphs()

    for rows in (["a", "b", "c"], [None, "c", "c"], ["b", "a", None]):
        with torch.no_grad():
            found = function(**batch, adapters=adapted.row_numbers(rows)).last_hidden_state
            named = adapted(**batch, adapters=rows).last_hidden_state
        torch.testing.assert_close(found, named, atol=1e-5, rtol=0)

    assert graphs() - before == 1


def test_rows_by_number_need_residents_and_no_heads():
    adapted, batch = adapted_of("bert"), batch_of()
    with pytest.raises(CompositionError, match="No adapters are resident"):
        adapted.row_numbers(["a"])
    adapted.add_head("a")
    adapted.activate_rows("a")

    with pytest.raises(CompositionError, match="do not say whose head answers"):
        adapted(**batch, adapters=adapted.row_numbers(["a", "a", "a"]))
    with pytest.raises(CompositionError, match="3 rows, but 1 adapters are named"):
        adapted(**batch, adapters=adapted.row_numbers(["a"]))


def test_what_was_kept_before_a_cast_is_not_traced():
    adapted, batch = adapted_of("bert", ["seq_bn", "seq_bn"]), batch_of()
    fused(adapted, "a", "b")
    adapted.trainable()
    adapted.activate("fuse(a, b)")
    expected = hidden(adapted, batch)

    adapted.double()

    found = hidden(one_graph(adapted), batch)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected.double(), atol=1e-5, rtol=0)


def test_attention_is_there_after_a_compiled_call():
    adapted, batch = adapted_of("bert", ["seq_bn", "seq_bn"]), batch_of()
    fused(adapted, "a", "b")
    adapted.activate("fuse(a, b)")
    hidden(adapted, batch)
    expected = [seen.weights for seen in adapted.attention()]
    hidden(adapted, batch_of(rows=2))

    hidden(one_graph(adapted), batch)

    found = [seen.weights for seen in adapted.attention()]
    for compiled_weights, weights in zip(found, expected, strict=True):
        torch.testing.assert_close(compiled_weights, weights)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("expression", ["fuse(a, b)", "parallel(a, b)"])
def test_the_default_compiler_gives_the_same(expression):
    adapted, batch = adapted_of("bert", ["seq_bn", "seq_bn"], num_hidden_layers=1), batch_of()
    fused(adapted, "a", "b")
    adapted.trainable()
    adapted.activate(expression)
    expected = hidden(adapted, batch)

    found = hidden(torch.compile(adapted, fullgraph=True), batch)

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
