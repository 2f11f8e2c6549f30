"""References are pulled, versions are pinned, and a composition brings its members."""

import json
import shutil

import pytest
import torch

from adapterhub_client import compose, fingerprint, wire
from adapterhub_client.errors import (
    Ambiguous,
    CompositionError,
    Corrupt,
    NotAnAdapter,
    WrongBase,
)
from adapterhub_client.formats import method as formats

from .conftest import fused, hidden, make_adapted, make_model, randomise


class Library:
    """Stands in for a hub: published folders, each with its manifest, by pinned and by plain reference."""

    def __init__(self, root):
        self.root = root
        self.folders = {}
        self.pulled = []

    def publish(self, reference, folder, *, format="adapters", root=None):  # noqa: A002 - the manifest's word
        task, _, rest = reference.partition("/")
        name, _, org = rest.partition("@")
        manifest = wire.Manifest(
            reference=wire.Name(task=task, name=name, org=org),
            base=wire.Base(name="tiny", architecture="bert", fingerprint=root),
            method=wire.Method(
                name="seq_bn", config_id=formats.config_id(formats.SEQ_BN.to_dict()), format=format
            ),
        )
        kept = self.root / f"{task}-{name}-{org}-{len(self.folders)}"
        shutil.copytree(folder, kept)
        (kept / "manifest.json").write_bytes(wire.canonical(manifest))
        self.folders[reference] = kept
        self.folders[f"{reference}:{wire.digest(manifest)}"] = kept
        return wire.digest(manifest)

    def pull(self, reference, *, base, allow_base_mismatch):
        assert base.root.startswith("sha256:")
        assert not allow_base_mismatch
        self.pulled.append(reference)
        if reference not in self.folders:
            raise Ambiguous(f"{reference} has several versions.")
        return self.folders[reference]


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "library")


@pytest.fixture
def published(library, tmp_path):
    """Two adapters, published: nli/mnli@ukp and sts/qqp@ukp."""
    adapted = make_adapted("bert", ["seq_bn", "double_seq_bn"])
    digests = {}
    for name, reference in (("a", "nli/mnli@ukp"), ("b", "sts/qqp@ukp")):
        adapted.save(name, tmp_path / name)
        digests[reference] = library.publish(reference, tmp_path / name)
    return digests


def attached(library):
    return compose.attach(make_model(), hub=library)


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


def test_a_pulled_adapter_that_was_made_trainable_and_not_trained_is_still_its_version(
    library, published
):
    adapted = attached(library)
    name = adapted.load("nli/mnli@ukp")

    adapted.trainable(name)
    adapted.trainable()

    assert adapted.adapters[name].pin == ("nli/mnli@ukp", published["nli/mnli@ukp"])


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


def published_fusion(library, tmp_path, expression="fuse(mnli, qqp)"):
    """A fusion over the two, trained on another machine and published; the logits it gives."""
    adapted = attached(library)
    adapted.load("nli/mnli@ukp", name="mnli")
    adapted.load("sts/qqp@ukp", name="qqp")
    adapted.add_fusion("mnli", "qqp")
    randomise(adapted.fusions["mnli,qqp"], seed=5, std=0.1)
    adapted.add_head("rte", labels=["no", "yes"])
    adapted.activate(expression, head="rte")
    adapted.save_fusion("mnli,qqp", tmp_path / "fusion", head="rte")
    return adapted


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
    path.write_text(path.read_text().replace('"classification"', '"tagging"'))
    adapted = attached(library)

    with pytest.raises(CompositionError, match="'tagging'"):
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
