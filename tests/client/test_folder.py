"""What a folder holds, and what its manifest will say, in every format."""

import json

import msgspec
import pytest

from adapterhub_client.errors import CompositionError, NotAnAdapter, UsageError
from adapterhub_client.formats.folder import Run, inspect
from adapterhub_client.wire import Metric

PFEIFFER = {
    "mh_adapter": False,
    "output_adapter": True,
    "reduction_factor": 16,
    "non_linearity": "relu",
    "original_ln_before": True,
    "original_ln_after": True,
    "residual_before_ln": True,
}
ENVELOPE = {
    "model_type": "bert",
    "model_name": "bert-base-uncased",
    "hidden_size": 768,
    "name": "mnli",
}


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_an_adapters_folder_knows_its_method_and_base(tmp_path):
    folder = write(
        tmp_path, adapter_config__json={**ENVELOPE, "config": PFEIFFER}, adapter__safetensors=""
    )

    content = inspect(folder)

    assert (content.method.name, content.method.config_id) == ("seq_bn", "9076f36a74755ac4")
    assert content.method.format == "adapters"
    assert (content.base.name, content.base.hidden_size, content.base.fingerprint) == (
        "bert-base-uncased",
        768,
        None,
    )
    assert sorted(content.files) == ["adapter.safetensors", "adapter_config.json"]


def test_a_peft_folder_is_recognised(tmp_path):
    folder = write(
        tmp_path,
        adapter_config__json={
            "peft_type": "LORA",
            "r": 8,
            "base_model_name_or_path": "bert-base-uncased",
        },
        adapter_model__safetensors="",
    )

    content = inspect(folder)

    assert (content.method.name, content.method.format) == ("lora", "peft")
    assert content.base.name == "bert-base-uncased"


def test_the_same_peft_method_on_another_base_has_the_same_config_id(tmp_path):
    config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "one", "inference_mode": True}
    one = write(tmp_path / "one", adapter_config__json=config)
    other = write(
        tmp_path / "other", adapter_config__json={**config, "base_model_name_or_path": "other"}
    )
    larger = write(tmp_path / "larger", adapter_config__json={**config, "r": 16})

    assert inspect(one).method.config_id == inspect(other).method.config_id
    assert inspect(one).method.config_id != inspect(larger).method.config_id


def test_the_labels_of_a_head_keep_their_order(tmp_path):
    head = {
        **ENVELOPE,
        "config": {"head_type": "classification", "label2id": {"yes": 1, "no": 0, "maybe": 2}},
    }
    folder = write(
        tmp_path, adapter_config__json={**ENVELOPE, "config": PFEIFFER}, head_config__json=head
    )

    [found] = inspect(folder).heads

    assert (found.name, found.type, found.labels) == (
        "mnli",
        "classification",
        ["no", "yes", "maybe"],
    )


def test_a_static_head_brings_its_labels_too(tmp_path):
    head = {
        "config": None,
        "name": None,
        "model_class": "BertForSequenceClassification",
        "label2id": {"a": 0},
    }
    folder = write(
        tmp_path, adapter_config__json={**ENVELOPE, "config": PFEIFFER}, head_config__json=head
    )

    [found] = inspect(folder).heads

    assert (found.name, found.type, found.labels) == (
        "default",
        "BertForSequenceClassification",
        ["a"],
    )


def test_a_fusion_pins_its_members(tmp_path):
    members = [{"name": "a", "reference": "nli/a@me", "digest": "sha256:" + "0" * 64}]
    folder = write(
        tmp_path,
        adapter_fusion_config__json={**ENVELOPE, "config": {"query": True}, "adapter_names": ["a"]},
        composition__json={"expression": "fuse(a)", "members": members},
    )

    content = inspect(folder)

    assert content.method.format == "composition"
    assert content.composition.expression == "fuse(a)"
    assert msgspec.to_builtins(content.composition.members) == members


def test_a_fusion_of_unpublished_members_is_refused_by_name(tmp_path):
    members = [{"name": "mine", "reference": None, "digest": None}]
    folder = write(
        tmp_path,
        adapter_fusion_config__json={**ENVELOPE, "config": {}},
        composition__json={"expression": "fuse(mine)", "members": members},
    )

    with pytest.raises(CompositionError, match="members mine were loaded from folders"):
        inspect(folder)


def test_a_fusion_that_does_not_say_what_it_fuses_is_refused(tmp_path):
    folder = write(tmp_path, adapter_fusion_config__json={**ENVELOPE, "config": {}})

    with pytest.raises(CompositionError, match="not which adapters it fuses"):
        inspect(folder)


def test_a_run_says_what_it_measured(tmp_path):
    write(
        tmp_path / "adapter",
        adapter_config__json={**ENVELOPE, "config": PFEIFFER},
        adapter__safetensors="",
    )
    run = Run(
        folder="adapter",
        reference="nli/mnli@me",
        metrics=[Metric(dataset="mnli", split="test", name="accuracy", value=0.8)],
    )
    (tmp_path / "push.json").write_bytes(msgspec.json.encode(run))

    content = inspect(tmp_path)

    assert content.run == run
    assert content.folder == tmp_path / "adapter"


def test_only_what_makes_a_version_is_published(tmp_path):
    folder = write(
        tmp_path,
        adapter_config__json={"peft_type": "LORA", "r": 8},
        adapter_model__safetensors="",
        README__md="# Card",
        curve__svg="",
        training_args__bin="",
        credentials__json="{}",
        data__csv="",
        manifest__json="{}",
    )
    write(folder / "checkpoint-7", optimizer__pt="")

    content = inspect(folder)

    assert content.pickles == []
    assert sorted(content.files) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "curve.svg",
    ]
    assert content.left_out == [
        "checkpoint-7/",
        "credentials.json",
        "data.csv",
        "training_args.bin",
    ]


def test_legacy_weights_are_set_apart_to_be_converted(tmp_path):
    folder = write(
        tmp_path, adapter_config__json={**ENVELOPE, "config": PFEIFFER}, pytorch_adapter__bin=""
    )

    assert [path.name for path in inspect(folder).pickles] == ["pytorch_adapter.bin"]


def test_a_run_that_points_at_itself_is_read_once(tmp_path):
    write(tmp_path, adapter_config__json={**ENVELOPE, "config": PFEIFFER})
    (tmp_path / "push.json").write_bytes(msgspec.json.encode(Run(folder=".")))

    assert inspect(tmp_path).run == Run(folder=".")


def test_a_place_on_a_machine_is_no_name_of_a_base(tmp_path):
    folder = write(
        tmp_path,
        adapter_config__json={**ENVELOPE, "model_name": "/home/me/bert", "config": PFEIFFER},
    )

    assert inspect(folder).base.name == "bert"


@pytest.mark.parametrize("content", ["{}", '{"expression": "a", "members": [3]}', "["], ids=repr)
def test_a_damaged_composition_is_named(tmp_path, content):
    folder = write(
        tmp_path, adapter_fusion_config__json={**ENVELOPE, "config": {}}, composition__json=content
    )

    with pytest.raises(UsageError, match=r"composition\.json"):
        inspect(folder)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    folder = write(tmp_path / "adapter", adapter_config__json={**ENVELOPE, "config": PFEIFFER})
    (folder / "link.json").symlink_to(tmp_path / "secret.json")

    assert sorted(inspect(folder).files) == ["adapter_config.json"]


def test_an_empty_folder_is_no_adapter_and_the_error_says_what_was_looked_for(tmp_path):
    with pytest.raises(NotAnAdapter) as refusal:
        inspect(tmp_path)

    assert "adapter_config.json" in refusal.value.hint
    assert "adapter_fusion_config.json" in refusal.value.hint


@pytest.mark.parametrize("content", ["{", "[]", '"text"', ""], ids=repr)
def test_a_damaged_config_is_named(tmp_path, content):
    folder = write(tmp_path, adapter_config__json=content)

    with pytest.raises(UsageError, match=r"adapter_config\.json"):
        inspect(folder)


@pytest.mark.parametrize("config", [None, [], "seq_bn"], ids=repr)
def test_a_config_of_the_wrong_shape_is_no_adapter(tmp_path, config):
    folder = write(tmp_path, adapter_config__json={**ENVELOPE, "config": config})

    with pytest.raises(NotAnAdapter):
        inspect(folder)
