"""References are pulled, versions are pinned, and a composition brings its members."""

import hashlib
import json

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from adapterhub_client import compose, wire
from adapterhub_client.errors import (
    Ambiguous,
    CompositionError,
    Corrupt,
    NotAnAdapter,
)

from .conftest import attached, fused, hidden, make_adapted, make_model, published_fusion, randomise


def test_a_reference_is_pulled_for_this_base(library, published, inputs):
    adapted = attached(library)
    before = hidden(adapted, inputs)

    adapted.activate(adapted.load("nli/mnli@ukp"))

    assert library.pulled == ["nli/mnli@ukp"]
    assert not torch.equal(hidden(adapted, inputs), before)


def test_a_pulled_adapter_knows_its_version(library, published):
    adapted = attached(library)

    name = adapted.load("nli/mnli@ukp")

    assert adapted.adapters[name].pin == ("nli/mnli@ukp", published["nli/mnli@ukp"])


def test_an_adapter_trained_further_is_no_longer_the_version_it_was(library, published):
    adapted = attached(library)
    name = adapted.load("nli/mnli@ukp")

    randomise(adapted.adapters[name])

    assert adapted.adapters[name].pin is None


def test_an_adapter_trained_without_a_trace_is_no_longer_its_version_either(library, published):
    adapted = attached(library)
    name = adapted.load("nli/mnli@ukp")

    for parameter in adapted.adapters[name].parameters():
        parameter.data.add_(0.5)

    assert adapted.adapters[name].pin is None


def with_files(library, reference):
    """The published manifest, now with the digest of the weights."""
    folder = library.folders[reference]
    path = folder / "adapter.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    file = wire.File(path=path.name, sha256=digest, size_bytes=path.stat().st_size)
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=wire.Manifest)
    manifest = msgspec.structs.replace(manifest, files=[file])
    (folder / "manifest.json").write_bytes(wire.canonical(manifest))
    return wire.digest(manifest)


def test_a_version_is_known_by_the_digest_of_its_file(library, published):
    digest = with_files(library, "nli/mnli@ukp")
    adapted = attached(library)

    name = adapted.load("nli/mnli@ukp")

    assert adapted.adapters[name].pin == ("nli/mnli@ukp", digest)
    adapted.adapters[name].get_parameter("places.0 output_adapter.up.bias").data[0] += 1
    assert adapted.adapters[name].pin is None


def test_weights_that_are_not_those_of_the_manifest_are_not_its_version(library, published):
    with_files(library, "nli/mnli@ukp")
    path = library.folders["nli/mnli@ukp"] / "adapter.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    adapted = attached(library)

    name = adapted.load("nli/mnli@ukp")

    assert adapted.adapters[name].pin is None


def test_a_version_in_another_type_is_still_known(library, published):
    with_files(library, "nli/mnli@ukp")
    adapted = compose.attach(make_model().to(torch.bfloat16), hub=library)

    name = adapted.load(library.folders["nli/mnli@ukp"], allow_base_mismatch=True)

    assert adapted.adapters[name].pin is not None


def test_a_pulled_adapter_that_was_made_trainable_and_not_trained_is_still_its_version(
    library, published
):
    adapted = attached(library)
    name = adapted.load("nli/mnli@ukp")

    adapted.trainable(name)
    adapted.trainable()

    assert adapted.adapters[name].pin == ("nli/mnli@ukp", published["nli/mnli@ukp"])


def test_an_adapter_whose_name_is_taken_gets_that_of_its_reference(library, published, inputs):
    adapted = attached(library)
    adapted.add("a")

    name = adapted.load("nli/mnli@ukp")
    adapted.activate(f"stack(a, {name})")

    assert name == "nli/mnli@ukp"
    assert hidden(adapted, inputs).isfinite().all()


def test_a_reference_in_an_expression_is_pulled_once(library, published):
    adapted = attached(library)

    adapted.activate("stack(nli/mnli@ukp, sts/qqp@ukp)")
    adapted.activate("nli/mnli@ukp")

    assert library.pulled == ["nli/mnli@ukp", "sts/qqp@ukp"]
    assert sorted(adapted.adapters) == ["a", "b"]


def test_what_the_hub_refuses_is_refused(library):
    adapted = attached(library)

    with pytest.raises(Ambiguous):
        adapted.load("nli/unknown@ukp")


def test_what_is_neither_folder_nor_reference_is_refused(library):
    adapted = attached(library)

    with pytest.raises(NotAnAdapter, match="no/such/folder") as refusal:
        adapted.load("no/such/folder")

    assert "a reference such as" in refusal.value.hint


def test_a_saved_fusion_names_the_versions_of_its_members(library, published, tmp_path):
    published_fusion(library, tmp_path)

    described = json.loads((tmp_path / "fusion" / "composition.json").read_text())

    assert described == {
        "expression": "fuse(mnli, qqp)",
        "members": [
            {
                "name": "mnli",
                "reference": "nli/mnli@ukp",
                "digest": published["nli/mnli@ukp"],
            },
            {"name": "qqp", "reference": "sts/qqp@ukp", "digest": published["sts/qqp@ukp"]},
        ],
    }


def test_members_from_folders_have_no_version(tmp_path):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")

    adapted.save_fusion("a,b", tmp_path)

    described = json.loads((tmp_path / "composition.json").read_text())
    assert described["members"] == [
        {"name": "a", "reference": None, "digest": None},
        {"name": "b", "reference": None, "digest": None},
    ]


@pytest.mark.parametrize("expression", ["fuse(mnli, qqp)", "stack(qqp, fuse(mnli, qqp))"])
def test_a_pulled_composition_brings_its_pinned_members_and_its_head(
    library, published, tmp_path, inputs, expression
):
    trained = published_fusion(library, tmp_path, expression)
    library.publish("rte/fused@me", tmp_path / "fusion", format="composition")
    library.pulled.clear()
    adapted = attached(library)

    name = adapted.load("rte/fused@me")
    adapted.activate(name)

    assert name == "mnli,qqp"
    assert sorted(library.pulled) == sorted(
        ["rte/fused@me", *(f"{reference}:{digest}" for reference, digest in published.items())]
    )
    with torch.no_grad():
        assert torch.equal(adapted(**inputs).logits, trained(**inputs).logits)


@pytest.fixture
def composition(library, published, tmp_path):
    """A published composition, `rte/fused@me`; the model it was saved from."""
    trained = published_fusion(library, tmp_path, "stack(qqp, fuse(mnli, qqp))")
    library.publish("rte/fused@me", tmp_path / "fusion", format="composition")
    return trained


@pytest.mark.parametrize("times", [1, 2])
def test_a_published_composition_is_activated_by_its_reference(library, composition, inputs, times):
    adapted = attached(library)

    for _ in range(times):
        adapted.activate("rte/fused@me")

    assert str(adapted.expression) == "stack(qqp, fuse(mnli, qqp))"
    assert library.pulled.count("rte/fused@me") == 1
    with torch.no_grad():
        assert torch.equal(adapted(**inputs).logits, composition(**inputs).logits)


def test_a_published_composition_inside_another_is_refused(library, composition):
    adapted = attached(library)
    adapted.add("a")

    with pytest.raises(CompositionError, match="'rte/fused@me' is a composition") as refusal:
        adapted.activate("stack(a, rte/fused@me)")

    assert "stack(qqp, fuse(mnli, qqp))" in refusal.value.hint
    assert adapted.expression is None


def test_a_reference_is_pulled_again_when_what_it_brought_is_gone(library, published):
    adapted = attached(library)
    name = adapted.load("nli/mnli@ukp")
    adapted.delete(name)
    adapted.add(name)

    adapted.activate("nli/mnli@ukp")

    assert str(adapted.expression) == "nli/mnli@ukp"
    assert library.pulled == ["nli/mnli@ukp", "nli/mnli@ukp"]


def test_a_composition_under_another_name_is_whole_and_its_head_goes_with_it(
    library, composition, inputs
):
    adapted = attached(library)

    adapted.activate(adapted.load("rte/fused@me", name="mine"))

    assert str(adapted.expression) == "stack(qqp, fuse(mnli, qqp; name='mine'))"
    assert (list(adapted.fusions), list(adapted.heads)) == (["mine"], ["mine"])
    with torch.no_grad():
        assert torch.equal(adapted(**inputs).logits, composition(**inputs).logits)


def test_a_composition_takes_its_members_names_again(library, composition, tmp_path):
    adapted = attached(library)
    adapted.load("rte/fused@me", name="mine")
    adapted.save_fusion("mine", tmp_path / "mine")

    adapted.load(tmp_path / "mine", name="mnli,qqp")

    assert adapted.fusions["mnli,qqp"].expression == "stack(qqp, fuse(mnli, qqp))"


def test_members_that_are_here_already_are_not_pulled_again(library, published, tmp_path):
    published_fusion(library, tmp_path)
    adapted = attached(library)
    for reference, name in (("nli/mnli@ukp", "mnli"), ("sts/qqp@ukp", "qqp")):
        adapted.load(reference, name=name)
    library.pulled.clear()

    adapted.load(tmp_path / "fusion")

    assert library.pulled == []


def test_another_version_under_a_members_name_is_refused(library, published, tmp_path):
    published_fusion(library, tmp_path)
    adapted = attached(library)
    adapted.load("sts/qqp@ukp", name="mnli")

    with pytest.raises(CompositionError, match="pins 'mnli' to sha256:"):
        adapted.load(tmp_path / "fusion")


def test_a_member_that_was_trained_since_is_not_the_pinned_version(library, published, tmp_path):
    published_fusion(library, tmp_path)
    adapted = attached(library)
    adapted.load("nli/mnli@ukp", name="mnli")
    randomise(adapted.adapters["mnli"])

    with pytest.raises(CompositionError, match="but what is no published version is loaded"):
        adapted.load(tmp_path / "fusion")


def test_a_composition_that_cannot_be_loaded_leaves_nothing(library, published, tmp_path):
    published_fusion(library, tmp_path)
    path = tmp_path / "fusion" / "head_config.json"
    path.write_text(path.read_text().replace('"classification"', '"telling"'))
    adapted = attached(library)

    with pytest.raises(CompositionError, match="'telling'"):
        adapted.load(tmp_path / "fusion")

    assert (list(adapted.adapters), list(adapted.fusions)) == ([], [])
    assert list(adapted.shelf.parameters()) == []


def test_a_member_that_was_never_published_has_to_be_loaded_first(tmp_path, inputs):
    trained = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(trained, "a", "b")
    trained.save_fusion("a,b", tmp_path / "fusion")
    for name in "ab":
        trained.save(name, tmp_path / name)
    adapted = compose.attach(make_model())

    with pytest.raises(CompositionError, match="'a' of the composition was never published"):
        adapted.load(tmp_path / "fusion")

    for name in "ab":
        adapted.load(tmp_path / name)
    assert adapted.load(tmp_path / "fusion") == "a,b"


def test_a_broken_composition_file_is_corrupt(tmp_path):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.save_fusion("a,b", tmp_path)
    (tmp_path / "composition.json").write_text("{")

    with pytest.raises(Corrupt, match=r"composition\.json"):
        adapted.load(tmp_path)


def test_loading_over_what_is_active_is_refused(library, published):
    adapted = attached(library)
    adapted.activate(adapted.load("nli/mnli@ukp", name="mnli"))

    with pytest.raises(CompositionError, match="The adapter 'mnli' is active"):
        adapted.load("sts/qqp@ukp", name="mnli")
