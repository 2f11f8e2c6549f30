"""Method configs without torch: strings, ids and nearest presets."""

import subprocess
import sys

import pytest

from adapterhub_client.errors import CompositionError, UsageError
from adapterhub_client.formats import method

# Values of the reference library 1.3.0.
IDS = {
    "seq_bn": "9076f36a74755ac4",
    "double_seq_bn": "b1017368d7a97b11",
    "par_bn": "211b85d66ae909db",
    "scaled_par_bn": "4197b24ec21c92f8",
    "seq_bn_inv": "9ed5b5a29de19b71",
    "double_seq_bn_inv": "bcdbfdc759d7abf1",
    "compacter": "934efc0c1022a56f",
    "compacter++": "cfa13994accfb5f4",
    "pfeiffer": "9076f36a74755ac4",
    "houlsby": "b1017368d7a97b11",
    "parallel": "211b85d66ae909db",
    "scaled_parallel": "4197b24ec21c92f8",
    "pfeiffer+inv": "9ed5b5a29de19b71",
    "seq_bn[reduction_factor=2]": "e15331acc3f0a5c0",
    "seq_bn[reduction_factor=2.0]": "a6c620158938303a",
}
LORA = {
    "architecture": "lora",
    "selfattn_lora": True,
    "intermediate_lora": False,
    "output_lora": False,
    "leave_out": [],
    "r": 8,
    "alpha": 8,
    "dropout": 0.0,
    "attn_matrices": ["q", "v"],
    "composition_mode": "add",
    "init_weights": "lora",
    "init_weights_seed": None,
    "use_gating": False,
    "vera_d": None,
    "vera_b": None,
    "use_dora": False,
    "dtype": None,
}
IA3 = LORA | {
    "intermediate_lora": True,
    "r": 1,
    "alpha": 1,
    "attn_matrices": ["k", "v"],
    "composition_mode": "scale",
    "init_weights": "ia3",
}
PREFIX = {
    "architecture": "prefix_tuning",
    "encoder_prefix": True,
    "cross_prefix": True,
    "leave_out": [],
    "flat": False,
    "prefix_length": 30,
    "bottleneck_size": 512,
    "non_linearity": "tanh",
    "dropout": 0.0,
    "use_gating": False,
    "shared_gating": True,
    "init_weights_seed": None,
}
PROMPT = {
    "architecture": "prompt_tuning",
    "prompt_length": 10,
    "prompt_init": "random_uniform",
    "prompt_init_text": None,
    "combine": "prefix",
    "init_weights_seed": None,
}


@pytest.mark.parametrize(("text", "expected"), IDS.items(), ids=IDS)
def test_the_id_of_a_config_is_the_reference_hubs(text, expected):
    assert method.config_id(method.parse(text).to_dict()) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(LORA, "625403edad0bf919", id="lora"),
        pytest.param(IA3, "1ebb5af107e576c0", id="ia3"),
        pytest.param(LORA | {"use_dora": True}, "045575c920686296", id="dora"),
        pytest.param(PREFIX, "648bf22f5afeaaa6", id="prefix tuning"),
        pytest.param(PREFIX | {"flat": True}, "d61d9a6e9c3974ea", id="flat prefix tuning"),
        pytest.param(PROMPT, "8e35d5049bb12364", id="prompt tuning"),
        pytest.param(method.FUSIONS["dynamic"].to_dict(), "39f0b9fc022449eb", id="dynamic fusion"),
        pytest.param(method.FUSIONS["static"].to_dict(), "368b8b00d16e5e95", id="static fusion"),
    ],
)
def test_the_id_of_any_mapping_is_the_reference_hubs(config, expected):
    assert method.config_id(config) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        *(pytest.param(p.to_dict(), name, id=name) for name, p in method.PRESETS.items()),
        pytest.param(
            method.parse("seq_bn[reduction_factor=2, non_linearity='gelu']").to_dict(),
            "seq_bn",
            id="another width and activation",
        ),
        pytest.param({"mh_adapter": True, "output_adapter": True}, "double_seq_bn", id="few keys"),
        pytest.param(LORA, "lora", id="lora"),
        pytest.param(IA3, "ia3", id="ia3"),
        pytest.param(PREFIX, "prefix_tuning", id="prefix tuning"),
    ],
)
def test_a_config_is_called_after_the_nearest_preset(config, expected):
    assert method.method_name(config) == expected


def test_the_order_of_keys_and_what_is_false_do_not_matter_for_the_id():
    config = method.SEQ_BN.to_dict()
    reordered = dict(reversed(config.items()))
    sparse = {key: value for key, value in config.items() if value}

    assert method.config_id(reordered) == method.config_id(sparse) == IDS["seq_bn"]


def test_a_config_written_reads_back_as_itself():
    config = method.parse("double_seq_bn[reduction_factor={'0': 8, 'default': 2}, leave_out=[1]]")

    assert method.read(config.to_dict()) == config


def test_whole_and_decimal_reduction_factors_stay_what_they_are():
    assert type(method.parse("seq_bn[reduction_factor=2]").reduction_factor) is int
    assert type(method.parse("seq_bn[reduction_factor=2.0]").reduction_factor) is float


def test_a_whole_scaling_is_read_as_a_decimal_one():
    assert type(method.read(method.SEQ_BN.to_dict() | {"scaling": 4}).scaling) is float


def test_unknown_keys_of_old_files_are_dropped():
    config = method.read(method.SEQ_BN.to_dict() | {"new_attention_norm": False})

    assert config == method.SEQ_BN


@pytest.mark.parametrize(
    ("factor", "layer", "width"),
    [
        pytest.param(16, 0, 48, id="the usual"),
        pytest.param(5, 0, 153, id="rounded down"),
        pytest.param(1.5, 0, 512, id="a fraction"),
        pytest.param(10_000, 0, 1, id="at least one"),
        pytest.param({"1": 8, "default": 2}, 1, 96, id="by layer"),
        pytest.param({"1": 8, "default": 2}, 0, 384, id="by default"),
    ],
)
def test_the_width_follows_from_the_reduction_factor(factor, layer, width):
    config = method.read(method.SEQ_BN.to_dict() | {"reduction_factor": factor})

    assert config.width(768, layer) == width


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("seq_bn[", "is no method string", id="open bracket"),
        pytest.param("seq_bn[reduction_factor=]", "cannot be read", id="no value"),
        pytest.param("seq_bn[reduction_factor='two']", "is malformed", id="wrong type"),
        pytest.param("lora[r=8]", "There is no method named 'lora'", id="a later method"),
        pytest.param("seq_bn|par_bn", "unions are not supported yet", id="union"),
    ],
)
def test_a_malformed_string_is_refused(text, fault):
    with pytest.raises(UsageError, match=fault):
        method.parse(text)


def test_another_architecture_is_refused_by_name():
    with pytest.raises(CompositionError, match="The method 'lora' is not supported yet"):
        method.read(LORA)


def test_the_module_needs_no_torch():
    code = "import sys; import adapterhub_client.formats.method; print('torch' in sys.modules)"

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "False"
