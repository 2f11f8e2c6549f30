"""Folders of the `adapters` library: what is saved comes back, and what does not fit is refused."""

import json
import zipfile

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from adapterhub_client import compose
from adapterhub_client.compose import IncompatibleAdapter
from adapterhub_client.compose.files import folder
from adapterhub_client.errors import (
    CompositionError,
    Corrupt,
    HubError,
    NotAnAdapter,
    WrongBase,
)

from .conftest import fused, hidden, make_adapted, make_model, randomise

METHODS = [
    pytest.param("seq_bn", id="seq_bn"),
    pytest.param("double_seq_bn", id="double_seq_bn"),
    pytest.param("scaled_par_bn", id="scaled_par_bn"),
    pytest.param("double_seq_bn[ln_before=True, ln_after=True, use_gating=True]", id="all parts"),
    pytest.param("seq_bn[reduction_factor={'0': 8, 'default': 2}, leave_out=[1]]", id="a map"),
]
FORMATS = [pytest.param("safetensors", id="safetensors"), pytest.param("bin", id="bin")]


def weights(folder):
    return load_file(folder / "adapter.safetensors")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("method", METHODS)
def test_a_saved_adapter_comes_back_bit_for_bit(architecture, method, form, tmp_path, inputs):
    adapted = make_adapted(architecture, [method])
    adapted.activate("a")
    before = hidden(adapted, inputs)
    adapted.save("a", tmp_path, format=form)
    again = compose.attach(make_model(architecture))

    again.activate(again.load(tmp_path))

    assert torch.equal(hidden(again, inputs), before)
    assert again.adapters["a"].config == adapted.adapters["a"].config


@pytest.mark.parametrize("form", FORMATS)
def test_a_saved_fusion_comes_back_with_its_head(form, tmp_path, inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.add_head("top", labels=["no", "yes"])
    adapted.activate("fuse(a, b)", head="top")
    with torch.no_grad():
        before = adapted(**inputs).logits
    for name in "ab":
        adapted.save(name, tmp_path / name, format=form)
    adapted.save_fusion("a,b", tmp_path / "fusion", head="top", format=form)
    again = compose.attach(make_model())
    for name in "ab":
        again.load(tmp_path / name)

    fusion = again.load_fusion(tmp_path / "fusion")
    again.activate(fusion, head="top")

    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, before)
    assert fusion == "a,b"
    assert again.heads["top"].labels == ["no", "yes"]


def test_the_temperature_of_a_fusion_is_saved(tmp_path, inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b", config={"temperature": True})
    adapted.activate("fuse(a, b)")
    adapted.train()
    hidden(adapted, inputs)
    adapted.save_fusion("a,b", tmp_path)

    adapted.load_fusion(tmp_path, name="again")

    assert next(adapted.fusions["again"].layers()).temperature.item() == pytest.approx(49.95)


def test_a_temperature_may_be_a_whole_number(tmp_path):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b", config={"temperature": True})
    adapted.save_fusion("a,b", tmp_path)
    edit(tmp_path / "adapter_fusion_config.json", temperature=7)

    adapted.load_fusion(tmp_path, name="again")

    assert next(adapted.fusions["again"].layers()).temperature.item() == 7.0


def test_an_adapter_can_be_loaded_under_another_name_with_its_head(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.add_head("a", labels=["no", "yes"])
    adapted.save("a", tmp_path)
    again = compose.attach(make_model())

    assert again.load(tmp_path, name="mrpc") == "mrpc"
    assert again.heads["mrpc"].labels == ["no", "yes"]


def test_the_envelope_says_what_the_reference_library_says(tmp_path):
    adapted = make_adapted("xlm-roberta", ["seq_bn"])
    adapted.save("a", tmp_path)

    text = (tmp_path / "adapter_config.json").read_text()
    envelope = json.loads(text)

    config = envelope.pop("config")
    assert envelope == {
        "hidden_size": 32,
        "model_class": "XLMRobertaAdapterModel",
        "model_name": None,
        "model_type": "xlm-roberta",
        "name": "a",
        "version": "adapters.1.3.0",
    }
    assert config["reduction_factor"] == 16
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True)
    assert min(weights(tmp_path)) == (
        "roberta.encoder.layer.0.output.adapters.a.adapter_down.0.bias"
    )


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_keys_load_with_and_without_the_base_models_prefix(prefix, tmp_path, inputs):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    moved = {prefix + k.removeprefix("bert."): v for k, v in weights(tmp_path).items()}
    save_file(moved, tmp_path / "adapter.safetensors")
    adapted.activate("a")
    before = hidden(adapted, inputs)

    adapted.activate(adapted.load(tmp_path, name="b"))

    assert torch.equal(hidden(adapted, inputs), before)


def test_missing_and_unexpected_tensors_are_listed(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    tensors = weights(tmp_path)
    lost = "bert.encoder.layer.0.output.adapters.a.adapter_up.bias"
    tensors["bert.encoder.layer.7.output.adapters.a.adapter_up.bias"] = tensors.pop(lost)
    save_file(tensors, tmp_path / "adapter.safetensors")

    with pytest.raises(IncompatibleAdapter) as refusal:
        adapted.load(tmp_path, name="b")

    assert refusal.value.missing == ("encoder.layer.0.output.adapters.a.adapter_up.bias",)
    assert refusal.value.unexpected == ("encoder.layer.7.output.adapters.a.adapter_up.bias",)
    assert "1 missing: encoder.layer.0" in str(refusal.value)
    assert "b" not in adapted.adapters


def test_a_wrong_shape_is_refused_with_both_shapes(tmp_path):
    adapted = make_adapted("bert", ["seq_bn[reduction_factor=4]"])
    adapted.save("a", tmp_path)
    path = tmp_path / "adapter_config.json"
    edit(path, config=json.loads(path.read_text())["config"] | {"reduction_factor": 2})

    with pytest.raises(IncompatibleAdapter, match=r"shape \(8, 32\).* asks for \(16, 32\)"):
        adapted.load(tmp_path, name="b")


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        pytest.param({"model_type": "roberta"}, "model_type 'roberta'", id="another architecture"),
        pytest.param({"hidden_size": 768}, "hidden_size 768", id="another size"),
    ],
)
def test_an_adapter_for_another_kind_of_model_is_refused(changes, fact, tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    edit(tmp_path / "adapter_config.json", **changes)

    with pytest.raises(WrongBase, match=fact):
        adapted.load(tmp_path, name="b")


def test_an_adapter_of_another_base_is_refused_with_the_tensors_that_differ(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    model = make_model()
    with torch.no_grad():
        model.encoder.layer[1].attention.self.key.weight.add_(0.5)
    other = compose.attach(model)

    with pytest.raises(WrongBase) as refusal:
        other.load(tmp_path)

    assert refusal.value.differing == ("encoder.layer.1.attention.self.key.weight",)
    assert "encoder.layer.1.attention.self.key.weight" in str(refusal.value)
    assert other.load(tmp_path, allow_base_mismatch=True) == "a"


def test_the_same_base_under_a_head_is_the_same_base(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    model = make_model(auto=transformers.AutoModelForSequenceClassification)
    model.base_model.load_state_dict(make_model().state_dict())
    other = compose.attach(model)

    assert other.load(tmp_path) == "a"


def test_a_folder_without_weights_is_no_adapter(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    (tmp_path / "adapter.safetensors").unlink()

    with pytest.raises(NotAnAdapter, match="is no adapter folder"):
        adapted.load(tmp_path, name="b")


@pytest.mark.parametrize("form", FORMATS)
def test_a_broken_file_is_corrupt(form, tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path, format=form)
    name = "adapter.safetensors" if form == "safetensors" else "pytorch_adapter.bin"
    (tmp_path / name).write_bytes(b"not tensors at all")

    with pytest.raises(Corrupt):
        adapted.load(tmp_path, name="b")


def test_a_task_adapter_of_the_first_version_loses_the_invertible_part_it_never_had(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    path = tmp_path / "adapter_config.json"
    nested = {"block_type": "nice", "non_linearity": "relu", "reduction_factor": 2}
    old = json.loads(path.read_text())
    old.pop("version")
    old["config"]["invertible_adapter"] = nested
    path.write_text(json.dumps(old | {"type": "text_task"}))

    adapted.load(tmp_path, name="b")

    assert adapted.adapters["b"].config.inv_adapter is None


def test_tensors_of_another_head_with_a_longer_name_are_passed_over(tmp_path):
    adapted = make_adapted("bert")
    adapted.add_head("sst", labels=["no", "yes"])
    adapted.save_head("sst", tmp_path)
    path = tmp_path / "model_head.safetensors"
    tensors = load_file(path)
    extra = {k.replace("heads.sst.", "heads.sst-2."): v.clone() for k, v in tensors.items()}
    save_file(tensors | extra, path)

    assert adapted.load_head(tmp_path, name="again") == "again"


def test_a_fusion_saved_without_its_members_names_is_split_at_the_commas(tmp_path):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.save_fusion("a,b", tmp_path)
    path = tmp_path / "adapter_fusion_config.json"
    old = json.loads(path.read_text())
    old.pop("adapter_names")
    path.write_text(json.dumps(old))
    adapted.delete("a,b")

    assert adapted.load_fusion(tmp_path) == "a,b"
    assert adapted.fusions["a,b"].members == ("a", "b")


def test_a_fusion_whose_members_are_not_loaded_names_the_one_it_misses(tmp_path):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.save_fusion("a,b", tmp_path)
    adapted.deactivate()
    adapted.delete("b")

    with pytest.raises(CompositionError, match="'b'"):
        adapted.load_fusion(tmp_path)


def test_loaded_weights_take_the_models_dtype(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    half = compose.attach(make_model().to(torch.bfloat16))

    half.load(tmp_path, allow_base_mismatch=True)

    assert {p.dtype for p in half.adapters["a"].parameters()} == {torch.bfloat16}


def test_loading_a_fusion_again_replaces_the_one_of_its_name(tmp_path):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.save_fusion("a,b", tmp_path)
    saved = {key: value.clone() for key, value in adapted.fusions["a,b"].state_dict().items()}
    randomise(adapted.fusions["a,b"], seed=1)

    adapted.load_fusion(tmp_path)

    loaded = adapted.fusions["a,b"].state_dict()
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad, form, tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    with torch.no_grad():
        adapted.adapters["a"].get_parameter("places.1 output_adapter.up.bias")[3] = bad
    adapted.save("a", tmp_path, format=form)

    with pytest.raises(IncompatibleAdapter, match=r"layer.1.*adapter_up.bias.* 1 values of 32"):
        adapted.load(tmp_path, name="b")

    assert list(adapted.adapters) == ["a"]


def test_weights_too_large_for_the_models_type_are_refused(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    with torch.no_grad():
        adapted.adapters["a"].get_parameter("places.1 output_adapter.up.bias")[3] = 1e6
    adapted.save("a", tmp_path)
    half = compose.attach(make_model().half())

    with pytest.raises(IncompatibleAdapter, match=r"too large for torch\.float16"):
        half.load(tmp_path, allow_base_mismatch=True)


def test_a_finite_file_whose_sum_is_infinite_is_fine(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    with torch.no_grad():
        adapted.adapters["a"].get_parameter("places.1 output_adapter.up.bias").fill_(3e38)
    adapted.save("a", tmp_path)

    assert adapted.load(tmp_path, name="b") == "b"


def test_a_config_may_be_the_name_of_a_preset(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    edit(tmp_path / "adapter_config.json", config="pfeiffer")

    adapted.load(tmp_path, name="b")

    assert adapted.adapters["b"].config == adapted.adapters["a"].config


@pytest.mark.parametrize("form", FORMATS)
def test_a_tensor_with_several_names_is_written_once(form, tmp_path):
    large, small = torch.ones(2**17), torch.ones(3)
    tensors = {"large": large, "large again": large, "small": small, "small again": small}

    folder.write_folder(tmp_path, folder.ADAPTER, {}, tensors, form)

    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    _, read = folder.read_folder(tmp_path, folder.ADAPTER)
    kept = {"large", "small", "small again"} | ({"large again"} if form == "bin" else set())
    assert size < 1.1 * large.nbytes
    assert set(read) == kept
    assert torch.equal(read["large"], large)


def test_any_of_its_names_is_enough_for_a_shared_tensor(tmp_path):
    adapted = make_adapted("bert", ["seq_bn[ln_before=True]"])
    adapted.save("a", tmp_path)
    tensors = weights(tmp_path)
    for key in [key for key in tensors if ".adapter_norm_before." in key]:
        del tensors[key]
    save_file(tensors, tmp_path / "adapter.safetensors")

    adapted.load(tmp_path, name="b")

    pairs = zip(adapted.adapters["a"].parameters(), adapted.adapters["b"].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def _edit_config(**changes):
    return lambda place: edit(
        place / "adapter_config.json",
        config=json.loads((place / "adapter_config.json").read_text())["config"] | changes,
    )


def _edit_weights(change):
    def edited(place):
        tensors = weights(place)
        change(tensors, "bert.encoder.layer.0.output.adapters.a.adapter_up.bias")
        save_file(tensors, place / "adapter.safetensors")

    return edited


def _cut(place):
    path = place / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _hostile(place):
    with zipfile.ZipFile(place / "x.zip", "w") as file:
        file.writestr("../adapter_config.json", "{}")


BAD = [
    pytest.param(lambda p: edit(p / "adapter_config.json", hidden_size=64), "", ("64", "32"), id="another hidden size"),
    pytest.param(lambda p: edit(p / "adapter_config.json", model_type="gpt2"), "", ("'gpt2'",), id="another kind"),
    pytest.param(_edit_config(leave_out=[1]), "", ("unexpected: encoder.layer.1",), id="fewer layers"),
    pytest.param(_edit_config(mh_adapter=True), "", ("missing: encoder.layer.0.attention",), id="more places"),
    pytest.param(_edit_config(architecture="magic"), "", ("magic",), id="unknown method"),
    pytest.param(_edit_config(reduction_factor=8), "", ("(2, 32)", "(4, 32)"), id="another width"),
    pytest.param(_edit_config(non_linearity="wave"), "", ("'wave'",), id="unknown activation"),
    pytest.param(_edit_weights(lambda t, k: t.pop(k)), "", ("1 missing: encoder.layer.0",), id="missing key"),
    pytest.param(_edit_weights(lambda t, k: t.update(x=t[k] + 0)), "", ("1 unexpected: x",), id="extra key"),
    pytest.param(_edit_weights(lambda t, k: t[k].mul_(float("nan"))), "", ("32 values of 32", "NaN"), id="NaN weights"),
    pytest.param(_cut, "", ("bytes of tensors",), id="truncated file"),
    pytest.param(_hostile, "x.zip", ("leads out of its folder",), id="hostile zip"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "file", "facts"), BAD)
def test_what_does_not_fit_is_refused_before_anything_changes(spoil, file, facts, tmp_path, inputs):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path)
    adapted.activate("a")
    before, state = hidden(adapted, inputs), adapted.shelf.state_dict()
    loaded = [*adapted.adapters], [*adapted.fusions], [*adapted.heads]
    spoil(tmp_path)

    with pytest.raises(HubError) as refusal:
        adapted.load(tmp_path / file, name="b")

    assert all(fact in str(refusal.value) for fact in facts), str(refusal.value)
    assert str(refusal.value).endswith(".")
    assert ([*adapted.adapters], [*adapted.fusions], [*adapted.heads]) == loaded
    assert adapted.shelf.state_dict().keys() == state.keys()
    assert str(adapted.expression) == "a"
    assert torch.equal(hidden(adapted, inputs), before)


def test_an_adapter_of_a_deeper_model_is_refused(tmp_path):
    deeper = compose.attach(make_model(num_hidden_layers=3))
    deeper.add("a")
    deeper.save("a", tmp_path)
    (tmp_path / "base_fingerprint.json").unlink(missing_ok=True)
    adapted = make_adapted("bert")

    with pytest.raises((IncompatibleAdapter, WrongBase), match=r"layer\.2"):
        adapted.load(tmp_path)
