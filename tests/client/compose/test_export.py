"""`torch.export` takes what is active whole, for batches of any size and length."""

import logging
import operator

import pytest
import torch
from torch.export import Dim

from adapterhub_client.errors import CompositionError

from .conftest import fused
from .small_models import adapted_of, batch_of

METHODS = ["seq_bn", "double_seq_bn", "seq_bn", "lora", "lora", "prefix", "prompt", "loreft"]
COMPOSITIONS = [
    "a",
    "fuse(a, b, c)",
    "parallel(a, c)",
    "average(a, c)",
    "d",
    "parallel(d, e)",
    "f",
    "g",
    "h",
]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()  # noqa: SLF001
    logging.getLogger("torch.__trace").setLevel(logging.WARNING)  # pytest would collect it


def prepared(architecture):
    adapted = adapted_of(architecture, METHODS)
    fused(adapted, "a", "b", "c")
    adapted.trainable()
    return adapted


def exported(adapted, batch, *, strict=False, rows=()):
    module = adapted.exportable(*batch)
    shape = {0: Dim("batch", min=2, max=64), 1: Dim("length", min=2, max=32)}
    shapes = tuple({0: shape[0]} if name in rows else shape for name in batch)
    with torch.no_grad():
        return torch.export.export(
            module, tuple(batch.values()), dynamic_shapes=(shapes,), strict=strict
        ).module()


def assert_equal_outputs(program, adapted, batch):
    with torch.no_grad():
        found, expected = program(*batch.values()), adapted(**batch)
    assert found.keys() == {
        name for name, value in expected.items() if isinstance(value, torch.Tensor)
    }
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
@pytest.mark.parametrize("expression", COMPOSITIONS)
def test_an_exported_composition_takes_other_batches(architecture, expression):
    adapted = prepared(architecture)
    adapted.activate(expression)

    program = exported(adapted, batch_of(rows=4, length=10))

    for rows, length in ((3, 13), (2, 8)):
        assert_equal_outputs(program, adapted, batch_of(rows=rows, length=length))


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.parametrize("expression", ["fuse(a, b, c)", "parallel(d, e)"])
def test_the_strict_exporter_takes_it_too(expression):
    adapted = prepared("bert")
    adapted.activate(expression)

    program = exported(adapted, batch_of(rows=4, length=10), strict=True)

    assert_equal_outputs(program, adapted, batch_of(rows=3, length=13))


def test_a_decoder_is_exported_without_its_cache():
    adapted, batch = adapted_of("gpt2"), batch_of("gpt2", rows=4)
    adapted.activate("a")

    program = exported(adapted, batch)

    other = batch_of("gpt2", rows=3, length=12)
    with torch.no_grad():
        found, expected = program(*other.values()), adapted(**other).last_hidden_state
    assert list(found) == ["last_hidden_state"]
    torch.testing.assert_close(found["last_hidden_state"], expected, atol=1e-5, rtol=0)


def test_rows_by_number_are_an_input():
    adapted = prepared("bert")
    adapted.activate_rows("abc")
    batch = batch_of(rows=4) | {"adapters": adapted.row_numbers(["a", None, "b", "c"])}

    program = exported(adapted, batch, rows=("adapters",))

    other = batch_of(rows=3, length=7) | {"adapters": adapted.row_numbers(["c", "c", None])}
    assert_equal_outputs(program, adapted, other)


def test_heads_answer_by_name():
    adapted = prepared("bert")
    for name in "ac":
        adapted.add_head(name, labels=["no", "yes"])
    adapted.activate("parallel(a, c)", head=["a", "c"])

    program = exported(adapted, batch_of(rows=4))

    other = batch_of(rows=3, length=7)
    with torch.no_grad():
        found, expected = program(*other.values()), adapted(**other)
    for number in range(2):
        torch.testing.assert_close(
            found[f"heads.{number}.logits"], expected.heads[number].logits, atol=1e-5, rtol=0
        )


def test_a_fusion_goes_into_the_graph_compiled_and_not_its_projections():
    adapted = prepared("bert")
    adapted.activate("fuse(a, b, c)")
    adapted.trainable("fuse(a, b, c)")

    program = exported(adapted, batch_of(rows=4))

    used = [
        operator.attrgetter(n.target)(program)
        for n in program.graph.nodes
        if n.op == "get_attr" and n.users
    ]
    last = adapted.fusions["a,b,c"].places["1 output_adapter"]
    assert any(tuple(tensor.shape) == (2 * 3 * 8 + 3, 32) for tensor in used)
    assert not any(tensor is last.query.weight or tensor is last.value.weight for tensor in used)


def test_exporting_leaves_no_trace():
    adapted, batch = prepared("bert"), batch_of()
    adapted.activate("fuse(a, b, c)")
    with torch.no_grad():
        before = adapted(**batch).last_hidden_state
        seen = [weights.weights for weights in adapted.attention()]

        exported(adapted, batch_of(rows=4))

        for weights, own in zip(adapted.attention(), seen, strict=True):
            assert torch.equal(weights.weights, own)
        assert torch.equal(adapted(**batch).last_hidden_state, before)


@pytest.mark.parametrize(
    ("names", "mode", "fault"),
    [
        pytest.param(["input_ids"], True, "this is being trained", id="in training"),
        pytest.param([], False, "needs its inputs by name", id="no inputs"),
    ],
)
def test_what_cannot_be_exported_is_refused(names, mode, fault):
    adapted = adapted_of("bert").train(mode)

    with pytest.raises(CompositionError, match=fault):
        adapted.exportable(*names)
