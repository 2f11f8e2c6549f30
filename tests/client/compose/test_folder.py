"""Folders are written whole or not at all, and what is malformed in one is named."""

import json

import pytest
import torch

from adapterhub_client.errors import CompositionError, Corrupt

from .conftest import fused, hidden, make_adapted, randomise


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def folders(tmp_path):
    """One folder of every kind; the model they are of."""
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.add_head("top", labels=["no", "yes"])
    adapted.save("a", tmp_path)
    adapted.save_fusion("a,b", tmp_path)
    adapted.save_head("top", tmp_path)
    return adapted


LOADS = {
    "adapter_config.json": lambda adapted, folder: adapted.sources._load_adapter(  # noqa: SLF001
        folder, "x", None, any_base=True
    ),
    "adapter_fusion_config.json": lambda adapted, folder: adapted.load_fusion(folder, "x"),
    "head_config.json": lambda adapted, folder: adapted.load_head(folder, "x"),
}


@pytest.mark.parametrize("file", LOADS)
@pytest.mark.parametrize(
    "text", ["[]", '"text"', "null", "7", "{}", '{"config": 7, "name": 7}', '{"config": [1]}']
)
def test_json_that_is_no_config_is_corrupt_and_named(file, text, folders, tmp_path):
    (tmp_path / file).write_text(text)

    with pytest.raises(Corrupt, match=file):
        LOADS[file](folders, tmp_path)

    assert "x" not in {*folders.adapters, *folders.fusions, *folders.heads}


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        pytest.param("adapter_config.json", {"config": None}, id="adapter without a config"),
        pytest.param("adapter_config.json", {"name": ["a"]}, id="adapter named by a list"),
        pytest.param(
            "adapter_config.json", {"config": {"invertible_adapter": {"x": 1}}}, id="invertible"
        ),
        pytest.param("adapter_fusion_config.json", {"name": None}, id="fusion without a name"),
        pytest.param("adapter_fusion_config.json", {"config": None}, id="fusion without a config"),
        pytest.param("adapter_fusion_config.json", {"adapter_names": 3}, id="members no list"),
        pytest.param(
            "adapter_fusion_config.json",
            {"config": {"temperature": True}, "temperature": "hot"},
            id="temperature",
        ),
        pytest.param("head_config.json", {"name": None}, id="head without a name"),
        pytest.param(
            "head_config.json", {"config": None, "model_class": None}, id="head without a class"
        ),
        pytest.param("head_config.json", {"config": None, "label2id": ["no"]}, id="labels"),
    ],
)
def test_a_config_without_what_it_needs_is_corrupt_and_named(file, changes, folders, tmp_path):
    edit(tmp_path / file, **changes)

    with pytest.raises(Corrupt, match=file):
        LOADS[file](folders, tmp_path)


@pytest.mark.parametrize("content", [[1, 2], {"key": 7}, {3: torch.ones(2)}])
def test_a_pickle_of_something_else_is_corrupt(content, tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path, format="bin")
    torch.save(content, tmp_path / "pytorch_adapter.bin")

    with pytest.raises(Corrupt, match="holds more than named tensors"):
        adapted.load(tmp_path, name="b")


class Executed:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle ran')",)


def test_a_pickle_that_runs_code_is_refused_unread(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path, format="bin")
    torch.save({"key": Executed()}, tmp_path / "pytorch_adapter.bin")

    with pytest.raises(Corrupt, match="cannot be read"):
        adapted.load(tmp_path, name="b")


def test_saving_without_a_head_takes_an_earlier_one_away(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.add_head("top", labels=["no", "yes"])
    adapted.save("a", tmp_path, head="top", format="bin")

    adapted.save("a", tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter.safetensors",
        "adapter_config.json",
        "base_fingerprint.json",
    ]


@pytest.mark.parametrize("refused", ["a head that is not loaded", "tensors without values"])
def test_a_save_that_fails_leaves_the_folder_as_it_was(refused, tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.add_head("a", labels=["no", "yes"])
    adapted.save("a", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    randomise(adapted.adapters["a"], seed=9)
    if refused == "tensors without values":
        adapted.heads["a"].to("meta")

    with pytest.raises((CompositionError, NotImplementedError)):
        adapted.save("a", tmp_path, head="nobody" if "head" in refused else None)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_saving_in_the_other_format_leaves_one_file_of_weights(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path, format="bin")

    adapted.save("a", tmp_path)

    assert (tmp_path / "adapter.safetensors").is_file()
    assert not (tmp_path / "pytorch_adapter.bin").exists()


def test_saving_over_what_was_loaded_keeps_it_usable(tmp_path, inputs):
    """The file is mapped into memory while it is read; weights must not point into it."""
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    adapted.load(tmp_path, name="b")
    adapted.activate("b")
    before = hidden(adapted, inputs)

    adapted.save("b", tmp_path)

    assert torch.equal(hidden(adapted, inputs), before)
