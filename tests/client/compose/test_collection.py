"""Many adapters at once: from sub-folders, from a whole model's files, from zip files, harmless or not."""

import json
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapterhub_client import compose
from adapterhub_client.compose.files import archive
from adapterhub_client.compose.files.collection import Collection
from adapterhub_client.errors import Corrupt, NotAnAdapter

from .conftest import fused, hidden, make_adapted, make_model


def saved(folder):
    """Two adapters, the first with a head, and their fusion, in sub-folders."""
    adapted = make_adapted("bert", ["seq_bn", "seq_bn[non_linearity='gelu']"])
    fused(adapted, "a", "b")
    adapted.add_head("a", labels=["no", "yes"])
    for name in "ab":
        adapted.save(name, folder / name)
    adapted.save_fusion("a,b", folder / "a,b")
    return adapted


def whole_model(folder, tmp_path, **changes):
    """The same as one model's files, as the reference library writes them."""
    adapted = saved(tmp_path / "apart")
    tensors = {f"bert.{key}": value for key, value in adapted.model.state_dict().items()}
    for file in (tmp_path / "apart").rglob("*.safetensors"):
        tensors |= load_file(file)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    read = lambda path: json.loads((tmp_path / "apart" / path).read_text())["config"]  # noqa: E731
    config = {
        "model_type": "bert",
        "hidden_size": 32,
        "adapters": {
            "adapters": {"a": "9076f36a74755ac4", "b": "other"},
            "config_map": {"other": read("b/adapter_config.json")},
            "fusions": {"a,b": "dynamic"},
            "fusion_config_map": {},
            "fusion_name_map": {"a,b": ["a", "b"]},
        },
        "prediction_heads": {"a": read("a/head_config.json")},
    }
    config["adapters"]["config_map"]["9076f36a74755ac4"] = read("a/adapter_config.json")
    (folder / "config.json").write_text(json.dumps(config | changes))
    return adapted


def zipped(path, **files):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def equal(ours, theirs):
    return all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_all_sub_folders_are_loaded(tmp_path):
    adapted = saved(tmp_path)
    adapted.add_head("alone", labels=["x", "y"])
    adapted.save_head("alone", tmp_path / "deeper" / "alone")
    again = compose.attach(make_model())

    found = again.load_all(tmp_path)

    assert (found.adapters, found.fusions) == (("a", "b"), ("a,b",))
    assert set(found.heads) == {"a", "alone"}
    assert equal(again.shelf.adapters["b"], adapted.adapters["b"])


def test_the_adapters_inside_a_whole_model_are_loaded(tmp_path, inputs):
    adapted = whole_model(tmp_path / "model", tmp_path)
    again = compose.attach(make_model())

    found = again.load_all(tmp_path / "model")

    assert found == Collection(("a", "b"), ("a,b",), ("a",))
    for one in (adapted, again):
        one.activate("fuse(a, b)", head="a")
    assert torch.equal(again(**inputs).logits, adapted(**inputs).logits)
    assert again.adapters["b"].config.non_linearity == "gelu"


def test_a_model_of_the_first_version_lists_pairs_and_presets(tmp_path, inputs):
    adapters = {"adapters": {"a": ["text_task", "pfeiffer"]}, "config_map": {}}
    adapted = whole_model(tmp_path / "model", tmp_path, adapters=adapters, prediction_heads=None)
    path = tmp_path / "model" / "model.safetensors"
    old = {
        k.replace(".adapters.", ".layer_text_task_adapters."): v for k, v in load_file(path).items()
    }
    save_file(old, path)
    again = compose.attach(make_model())

    assert again.load_all(tmp_path / "model").adapters == ("a",)
    for one in (adapted, again):
        one.activate("a", head=False)
    assert torch.equal(hidden(again, inputs), hidden(adapted, inputs))


def test_a_collection_with_one_bad_part_leaves_nothing(tmp_path):
    saved(tmp_path)
    path = tmp_path / "b" / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    again = compose.attach(make_model())

    with pytest.raises(Corrupt, match="bytes of tensors"):
        again.load_all(tmp_path)

    assert not {**again.adapters, **again.fusions, **again.heads}


def test_an_empty_folder_has_nothing_to_load(tmp_path):
    with pytest.raises(NotAnAdapter):
        make_adapted("bert").load_all(tmp_path)


@pytest.mark.parametrize("root", ["", "inner/"])
def test_a_zip_file_is_loaded_as_its_folder(root, tmp_path):
    adapted = saved(tmp_path)
    files = {root + p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    path = zipped(tmp_path / "x.zip", **files)
    again = compose.attach(make_model())

    assert again.load(path) == "a"
    assert equal(again.adapters["a"], adapted.adapters["a"])
    assert again.heads["a"].labels == ["no", "yes"]


def test_a_setup_in_a_zip_file_is_loaded(tmp_path):
    adapted = saved(tmp_path / "parts")
    adapted.activate("fuse(a, b)", head="a")
    adapted.save_setup(tmp_path / "setup")
    files = [p for p in (tmp_path / "setup").rglob("*") if p.is_file()]
    path = zipped(
        tmp_path / "x.zip",
        **{str(p.relative_to(tmp_path / "setup")): p.read_bytes() for p in files},
    )

    assert str(compose.attach(make_model()).load_setup(path).expression) == "fuse(a, b)"


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "a/../../evil", "C:/evil", "..\\evil", "\\evil"]
)
def test_a_zip_file_that_leads_outside_is_refused(name, tmp_path):
    path = zipped(tmp_path / "x.zip", **{name: b"x"})

    with pytest.raises(Corrupt, match="leads out of its folder"):
        make_adapted("bert").load(path)

    assert not list(tmp_path.rglob("*evil*"))


def test_a_link_in_a_zip_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        entry = zipfile.ZipInfo("adapter_config.json")
        entry.external_attr = 0o120777 << 16
        file.writestr(entry, "/etc/hostname")

    with pytest.raises(Corrupt, match="no plain file"):
        make_adapted("bert").load(tmp_path / "x.zip")


def test_a_zip_file_that_unpacks_to_far_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "ALWAYS_ALLOWED_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("adapter.safetensors", bytes(10_000_000))

    with pytest.raises(Corrupt, match="unpacks to far more"):
        make_adapted("bert").load(tmp_path / "x.zip")


def test_a_zip_file_of_countless_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    path = zipped(tmp_path / "x.zip", **{str(number): b"" for number in range(4)})

    with pytest.raises(Corrupt, match="holds 4 files"):
        make_adapted("bert").load(path)


def test_a_damaged_zip_file_is_corrupt(tmp_path):
    path = zipped(tmp_path / "x.zip", **{"adapter_config.json": b"{" + b"x" * 2000})
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)

    with pytest.raises(Corrupt, match="cannot be unpacked"):
        make_adapted("bert").load(path)
