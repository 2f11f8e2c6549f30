"""Setups: a composition with all its parts in one folder, as the `adapters` library writes and reads it."""

import json

import pytest
import torch
import transformers

from adapterhub_client import compose
from adapterhub_client.compose import expression
from adapterhub_client.compose.expression import Fuse, Leaf
from adapterhub_client.errors import CompositionError, Corrupt, NotAnAdapter

from .conftest import fused, hidden, make_adapted, make_model, randomise

EXPRESSIONS = [
    pytest.param("a", id="one adapter"),
    pytest.param("stack(a, b)", id="stack"),
    pytest.param("average(a, b; weights=[0.3, 0.7])", id="average"),
    pytest.param("average(a, b; weights=[2, -1.5])", id="average of any weights"),
    pytest.param("split(a, b; splits=[4, 6])", id="split"),
    pytest.param("batchsplit(a, b; batch_sizes=[1, 2])", id="batchsplit"),
    pytest.param("parallel(stack(a, b), c)", id="stack in parallel"),
    pytest.param("stack(c, fuse(a, b))", id="fusion in a stack"),
    pytest.param("fuse(stack(c, a), b)", id="stack in a fusion"),
]


def parts():
    """Three adapters and a fusion of two."""
    adapted = make_adapted("bert", ["seq_bn", "seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    return adapted


def single(name):
    return {"type": "single", "children": [name]}


def write(folder, tree, heads=None, **more):
    folder.mkdir(exist_ok=True)
    setup = {"adapter_setup": tree, "head_setup": heads, "version": "adapters.1.3.0"} | more
    (folder / "adapter_setup.json").write_text(json.dumps(setup))


def written(folder):
    return json.loads((folder / "adapter_setup.json").read_text())


@pytest.mark.parametrize("text", EXPRESSIONS)
@pytest.mark.parametrize("compat", [None, "adapters"])
def test_a_saved_setup_comes_back_with_its_numbers(text, compat, tmp_path, inputs):
    adapted = parts()
    adapted.activate(text, head=False, compat=compat)
    before = hidden(adapted, inputs)
    adapted.save_setup(tmp_path)
    again = compose.attach(make_model())

    setup = again.load_setup(tmp_path)

    assert again.expression is None
    again.activate(setup.expression, head=False, compat=setup.compat)
    # Not to the bit: products of parts of a sequence depend on where it lies in memory.
    assert torch.allclose(hidden(again, inputs), before, atol=1e-6)


def test_the_heads_come_back_in_their_order(tmp_path, inputs):
    adapted = parts()
    for name in "ab":
        adapted.add_head(name, labels=["no", "yes"])
        randomise(adapted.heads[name], seed=3)
    adapted.activate("parallel(b, a)", head=["b", "a"])
    before = [head.logits for head in adapted(**inputs).heads]
    adapted.save_setup(tmp_path)
    again = compose.attach(make_model())

    setup = again.load_setup(tmp_path, activate=True)

    assert setup.heads == ("b", "a")
    assert all(map(torch.equal, [head.logits for head in again(**inputs).heads], before))


def test_the_models_own_head_comes_back(tmp_path, inputs):
    auto = transformers.AutoModelForSequenceClassification
    adapted = compose.attach(make_model(auto=auto))
    adapted.add("a")
    adapted.trainable("a", base_head=True)
    adapted.save("a", tmp_path / "a")
    adapted.load_head(tmp_path / "a", name="default")
    adapted.activate("a", head="default")
    adapted.save_setup(tmp_path / "setup")
    again = compose.attach(make_model(auto=auto))

    setup = again.load_setup(tmp_path / "setup", activate=True)

    assert written(tmp_path / "setup")["head_setup"] is True
    assert setup.heads == ("default",)
    assert torch.equal(again(**inputs).logits, adapted(**inputs).logits)


def test_the_file_is_as_the_reference_library_writes_it(tmp_path):
    adapted = parts()
    adapted.activate("batchsplit(a, stack(b, c); batch_sizes=[1, 2])", head=False)

    adapted.save_setup(tmp_path)

    assert written(tmp_path) == {
        "adapter_setup": {
            "type": "BatchSplit",
            "children": [
                single("a"),
                {"type": "Stack", "children": [single("b"), single("c")]},
            ],
            "kwargs": {"batch_sizes": [1, 2]},
        },
        "head_setup": None,
        "library": "adapterhub",
        "version": "adapters.1.3.0",
    }


def test_a_fusion_with_a_name_of_its_own_keeps_it(tmp_path):
    adapted = parts()
    adapted.add_fusion("a", "b", name="mine")
    adapted.activate(Fuse((Leaf("a"), Leaf("b")), "mine"), head=False)
    adapted.save_setup(tmp_path)
    again = compose.attach(make_model())

    setup = again.load_setup(tmp_path)

    assert setup.expression.fusion == "mine"
    assert list(again.fusions) == ["mine"]


def test_a_fusions_name_that_the_reference_left_out_is_found_by_its_members(tmp_path):
    adapted = parts()
    adapted.add_fusion("a", "b", name="mine")
    for name in "ab":
        adapted.save(name, tmp_path / name)
    adapted.save_fusion("mine", tmp_path / "mine")
    write(tmp_path, {"type": "Fuse", "children": [single("a"), single("b")]})

    setup = compose.attach(make_model()).load_setup(tmp_path)

    assert setup.expression == Fuse((Leaf("a"), Leaf("b")), "mine")


@pytest.mark.parametrize(
    ("node", "compat"),
    [
        pytest.param(
            {"type": "Average", "kwargs": {"weights": [0.5, 0.5]}}, "adapters", id="average"
        ),
        pytest.param({"type": "Stack"}, None, id="stack"),
    ],
)
def test_what_the_reference_wrote_is_to_be_activated_for_its_numbers(node, compat, tmp_path):
    adapted = parts()
    for name in "ab":
        adapted.save(name, tmp_path / name)
    write(tmp_path, node | {"children": [single("a"), single("b")]})

    assert compose.attach(make_model()).load_setup(tmp_path).compat == compat


def test_weights_of_an_average_sum_to_one_as_the_reference_reads_them(tmp_path):
    adapted = parts()
    for name in "ab":
        adapted.save(name, tmp_path / name)
    children = [single("a"), single("b")]
    write(tmp_path, {"type": "Average", "children": children, "kwargs": {"weights": [1, 3]}})

    setup = compose.attach(make_model()).load_setup(tmp_path)

    assert setup.expression == expression.parse("average(a, b; weights=[0.25, 0.75])")


@pytest.mark.parametrize(
    ("tree", "kind", "fact"),
    [
        pytest.param({"type": "MultiTask", "children": [single("a")]}, CompositionError, "'MultiTask'", id="multitask"),
        pytest.param({"type": "Blend", "children": [single("a")]}, CompositionError, "'Blend'", id="unknown block"),
        pytest.param({"type": "Stack", "children": []}, Corrupt, "a block with children", id="no children"),
        pytest.param({"type": "Stack"}, Corrupt, "a block with children", id="nothing"),
        pytest.param(None, Corrupt, "None", id="no tree"),
        pytest.param(
            {"type": "Stack", "children": [single("a"), single("z")]},
            NotAnAdapter, "z", id="an absent adapter",
        ),
        pytest.param(
            {"type": "Fuse", "children": [single("a"), single("b")]},
            CompositionError, "no fusion of a, b", id="an absent fusion",
        ),
        pytest.param({"type": "Stack", "children": [single("../a")]}, CompositionError, "'../a'", id="outside"),
        pytest.param({"type": "Stack", "children": [single("/root")]}, CompositionError, "'/root'", id="absolute"),
        pytest.param(
            {"type": "Fuse", "children": [{"type": "Parallel", "children": [single("a"), single("b")]}, single("b")]},
            CompositionError, "`parallel` cannot stand inside `fuse`", id="nesting",
        ),
        pytest.param(
            {"type": "Split", "children": [single("a"), single("b")], "kwargs": {"splits": [1]}},
            CompositionError, "2 parts, but 1 values", id="too few splits",
        ),
        pytest.param(
            {"type": "Average", "children": [single("a"), single("b")], "kwargs": {"weights": "many"}},
            Corrupt, "'many' as the weights", id="weights",
        ),
    ],
)  # fmt: skip
def test_a_setup_that_cannot_be_is_refused_and_leaves_nothing(tree, kind, fact, tmp_path):
    adapted = parts()
    for name in "ab":
        adapted.save(name, tmp_path / name)
    write(tmp_path, tree)
    again = compose.attach(make_model())

    with pytest.raises(kind, match=fact):
        again.load_setup(tmp_path)

    assert not {**again.adapters, **again.fusions, **again.heads}
    assert not list(again.shelf.parameters())


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_a_file_that_is_no_setup_is_corrupt(text, tmp_path):
    (tmp_path / "adapter_setup.json").write_text(text)

    with pytest.raises(Corrupt, match=r"adapter_setup\.json"):
        make_adapted("bert").load_setup(tmp_path)


def test_heads_that_are_no_names_are_corrupt(tmp_path):
    make_adapted("bert", ["seq_bn"]).save("a", tmp_path / "a")
    write(tmp_path, single("a"), heads=[3])

    with pytest.raises(Corrupt, match="'head_setup'"):
        make_adapted("bert").load_setup(tmp_path)


def test_a_folder_without_a_setup_says_what_is_missing(tmp_path):
    with pytest.raises(NotAnAdapter) as refusal:
        make_adapted("bert").load_setup(tmp_path)

    assert "adapter_setup.json" in refusal.value.hint


def test_nothing_active_is_no_setup(tmp_path):
    with pytest.raises(CompositionError, match="No composition is active"):
        make_adapted("bert", ["seq_bn"]).save_setup(tmp_path)


def test_rows_that_name_their_adapters_are_no_setup(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.activate_rows(["a"])

    with pytest.raises(CompositionError, match="Every row names its own adapter"):
        adapted.save_setup(tmp_path)
