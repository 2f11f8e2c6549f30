"""What a folder says of its base and its version is held against what is here."""

import json
import shutil

import pytest
import torch

from adapterhub_client import compose, fingerprint
from adapterhub_client.errors import Corrupt, WrongBase

from .conftest import attached, make_adapted, make_model, randomise


@pytest.fixture
def without_leaves(tmp_path):
    """A saved adapter that does not know the tensors of its base; the base's fingerprint."""
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path / "saved")
    path = tmp_path / "saved" / "base_fingerprint.json"
    root = fingerprint.read(path).root
    path.unlink()
    return tmp_path / "saved", root


def test_a_version_that_knows_only_its_bases_digest_is_held_against_it(library, without_leaves):
    folder, root = without_leaves
    library.publish("nli/right@me", folder, root=root)
    library.publish("nli/wrong@me", folder, root="sha256:" + 64 * "0")
    adapted = attached(library)

    assert adapted.load("nli/right@me", name="right") == "right"
    with pytest.raises(WrongBase, match="was trained on sha256:000"):
        adapted.load("nli/wrong@me", name="wrong")

    assert list(adapted.adapters) == ["right"]
    folder = library.folders["nli/wrong@me"]
    assert adapted.load(folder, name="wrong", allow_base_mismatch=True) == "wrong"


def test_a_version_that_does_not_know_its_base_is_loaded_with_a_warning(library, without_leaves):
    library.publish("nli/unknown@me", without_leaves[0])

    with pytest.warns(UserWarning, match="nothing proves that it fits 'bert'"):
        attached(library).load("nli/unknown@me")


def test_a_folder_that_was_never_published_need_not_know_its_base(without_leaves):
    assert compose.attach(make_model()).load(without_leaves[0]) == "a"


def test_a_broken_manifest_is_corrupt(library, without_leaves):
    library.publish("nli/broken@me", without_leaves[0])
    folder = library.folders["nli/broken@me"]
    (folder / "manifest.json").write_text("{")

    with pytest.raises(Corrupt, match=r"manifest\.json"):
        attached(library).load(folder)


def test_of_a_quantised_base_it_is_said_that_values_were_not_compared(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    path = tmp_path / "base_fingerprint.json"
    saved = json.loads(path.read_text()) | {"quantised": True}
    tensor = saved["tensors"]["encoder.layer.1.output.dense.weight"]
    tensor |= {"dtype": "U8", "sample": [], "leaf": 64 * "0"}
    path.write_text(json.dumps(saved))

    with pytest.warns(UserWarning, match="only names and shapes"):
        adapted.load(tmp_path, name="b")


def test_a_base_with_other_layers_is_refused_by_what_is_missing(tmp_path):
    make_adapted("bert", ["seq_bn"], num_hidden_layers=3).save("a", tmp_path)

    with pytest.raises(WrongBase, match=r"tensors are missing \(encoder\.layer\.2") as refusal:
        compose.attach(make_model()).load(tmp_path)

    assert "encoder.layer.2.output.dense.weight" in refusal.value.differing


def test_a_head_of_another_base_is_refused_too(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.add_head("a", labels=["no", "yes"])
    adapted.save("a", tmp_path)
    model = make_model()
    with torch.no_grad():
        model.encoder.layer[1].output.dense.weight.add_(0.5)
    other = compose.attach(model)

    with pytest.raises(WrongBase, match=r"1 tensors differ \(encoder\.layer\.1\.output"):
        other.load_head(tmp_path)

    assert other.load_head(tmp_path, allow_base_mismatch=True) == "a"


@pytest.mark.parametrize("kind", ["adapter", "fusion", "head"])
def test_what_is_saved_over_a_copy_of_a_version_is_that_version_no_longer(
    library, published, tmp_path, kind
):
    copy = tmp_path / "copy"
    shutil.copytree(library.folders["nli/mnli@ukp"], copy)
    adapted = attached(library)
    name = adapted.load(copy)
    adapted.add_fusion(name, name="own")
    adapted.add_head("own", labels=["no", "yes"])
    randomise(adapted.adapters[name])

    save = {
        "adapter": lambda: adapted.save(name, copy),
        "fusion": lambda: adapted.save_fusion("own", copy),
        "head": lambda: adapted.save_head("own", copy),
    }
    save[kind]()

    assert not (copy / "manifest.json").exists()
