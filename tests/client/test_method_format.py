"""Method configs without torch: structs, ids and nearest presets."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method

# Values of the reference library 1.3.0.
IDS = {
    "seq_bn": "9076f36a74755ac4",
    "double_seq_bn": "b1017368d7a97b11",
    "par_bn": "211b85d66ae909db",
    "scaled_par_bn": "4197b24ec21c92f8",
    "seq_bn_inv": "9ed5b5a29de19b71",
    "double_seq_bn_inv": "bcdbfdc759d7abf1",
    "adapter_plus": "fd517df084609354",
    "compacter": "934efc0c1022a56f",
    "compacter++": "cfa13994accfb5f4",
    "prefix_tuning": "648bf22f5afeaaa6",
    "prefix_tuning_flat": "d61d9a6e9c3974ea",
    "prompt_tuning": "8e35d5049bb12364",
    "lora": "625403edad0bf919",
    "ia3": "1ebb5af107e576c0",
    "vera": "2be4e8738bf1b672",
    "dora": "045575c920686296",
    "dvora": "54bac59257d09af0",
    "mtl_lora": "b37172df6259ff89",
    "loreft": "141e29e6c21f7261",
    "noreft": "df69f184fdb72464",
    "direft": "df69f184fdb72464",  # the library cannot tell it from noreft
    "mam": "3a07cc7e2d6b7cbd",  # of what is written; the library's own object has another
    "unipelt": "99835abd0a66a4be",
    "pfeiffer": "9076f36a74755ac4",
    "houlsby": "b1017368d7a97b11",
    "parallel": "211b85d66ae909db",
    "scaled_parallel": "4197b24ec21c92f8",
    "pfeiffer+inv": "9ed5b5a29de19b71",
    "houlsby+inv": "bcdbfdc759d7abf1",
    "seq_bn[reduction_factor=2]": "e15331acc3f0a5c0",
    "seq_bn[reduction_factor=2.0]": "a6c620158938303a",
}


@pytest.mark.parametrize(("text", "expected"), IDS.items(), ids=IDS)
def test_the_id_of_a_config_is_the_reference_hubs(text, expected):
    assert method.config_id(method.parse(text).to_dict()) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(method.FUSIONS["dynamic"].to_dict(), "39f0b9fc022449eb", id="dynamic fusion"),
        pytest.param(method.FUSIONS["static"].to_dict(), "368b8b00d16e5e95", id="static fusion"),
    ],
)
def test_the_id_of_a_fusion_is_the_reference_hubs(config, expected):
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
        pytest.param({"architecture": "lora", "r": 4}, "lora", id="little of lora"),
        pytest.param(method.parse("vera[vera_d=1.0, r=64]").to_dict(), "vera", id="another rank"),
        pytest.param(
            method.parse("par_bn[scaling='learned']").to_dict(),
            "scaled_par_bn",
            id="learned scaling",
        ),
        pytest.param(method.parse("seq_bn|lora").to_dict(), "seq_bn|lora", id="no known union"),
        pytest.param(
            method.parse("par_bn|prefix_tuning[prefix_length=5]").to_dict(),
            "mam",
            id="mam reversed",
        ),
        pytest.param({"architecture": "union", "configs": None}, "union", id="malformed union"),
        pytest.param({"architecture": "later"}, "later", id="unknown architecture"),
    ],
)
def test_a_config_is_called_after_the_nearest_preset(config, expected):
    assert method.method_name(config) == expected


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
KEYS = sorted({key for preset in method.PRESETS.values() for key in preset.to_dict()})
ARCHITECTURES = [None, "None", "lora", "mtl_lora", "prefix_tuning", "reft", "bitfit", "union"]
hostile = st.fixed_dictionaries(
    {"architecture": st.sampled_from(ARCHITECTURES) | anything},
    optional={key: anything for key in KEYS if key not in ("architecture", "configs")},
)


@given(hostile, st.none() | st.lists(hostile | anything, max_size=3))
def test_any_config_has_a_name_and_is_read_or_refused(config, configs):
    config = config | {"configs": configs}
    refused, read = "", None
    try:
        read = method.read(config)
    except CompositionError as refusal:
        refused = str(refusal)

    assert method.method_name(config)
    assert refused.endswith(".") if read is None else method.read(read.to_dict()) == read


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


@pytest.mark.parametrize("name", method.PRESETS)
def test_a_preset_written_as_json_reads_back_as_itself(name):
    preset = method.PRESETS[name]

    assert method.read(json.loads(json.dumps(preset.to_dict()))) == preset


def test_direft_is_written_so_that_it_is_not_noreft():
    direft, noreft = method.PRESETS["direft"].to_dict(), method.PRESETS["noreft"].to_dict()

    assert direft == noreft | {"subtract_projection": False}
    assert "subtract_projection" not in method.LOREFT.to_dict()


def test_the_scale_of_a_random_prompt_is_written_where_it_is_not_the_usual():
    usual = method.PRESETS["prompt_tuning"].to_dict()
    config = method.read(usual | {"random_uniform_scale": 0.1})

    assert "random_uniform_scale" not in usual
    assert config.to_dict()["random_uniform_scale"] == 0.1


def test_a_whole_vera_factor_is_read_as_a_decimal_one():
    config = method.read({"architecture": "lora", "vera_d": 1})

    assert type(config.vera_d) is float
    assert config.is_vera
    assert not method.LORA.is_vera


def test_lora_is_scaled_by_alpha_over_rank():
    assert method.parse("lora[r=8, alpha=16]").scale == 2.0


def test_reft_adapts_the_layers_it_names():
    config = method.parse("loreft[layers=[0, 2]]")

    assert [config.adapts(layer) for layer in range(3)] == [True, False, True]
    assert method.LOREFT.adapts(7)


def malformed(text, **changes):
    return method.PRESETS[text].to_dict() | changes


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        pytest.param(malformed("seq_bn", mh_adapter="yes"), "`bool`, got `str`", id="text"),
        pytest.param(malformed("seq_bn", mh_adapter=1), "`bool`, got `int`", id="number"),
        pytest.param(malformed("seq_bn", reduction_factor=0), "reduction_factor", id="factor of 0"),
        pytest.param(malformed("seq_bn", scaling=float("nan")), "scaling", id="not a number"),
        pytest.param(malformed("seq_bn", leave_out=[-1]), "leave_out", id="negative layer"),
        pytest.param(malformed("seq_bn", inv_adapter="flow"), "'flow'", id="unknown flow"),
        pytest.param({"output_adapter": True}, "missing required field", id="missing field"),
        pytest.param(malformed("lora", r=0), ">= 1", id="rank of 0"),
        pytest.param(malformed("lora", r="8"), "`int`, got `str`", id="rank as text"),
        pytest.param(malformed("lora", dropout=1.5), "<= 1.0", id="dropout above 1"),
        pytest.param(malformed("lora", attn_matrices=["o"]), "'o'", id="unknown matrix"),
        pytest.param(malformed("lora", composition_mode="mul"), "'mul'", id="unknown mode"),
        pytest.param(malformed("mtl_lora", n_up_projection=0), ">= 1", id="no projection"),
        pytest.param(malformed("prefix_tuning", prefix_length=0), ">= 1", id="empty prefix"),
        pytest.param(malformed("prompt_tuning", combine="suffix"), "'suffix'", id="combination"),
        pytest.param({"architecture": "reft"}, "missing required field `layers`", id="bare reft"),
        pytest.param(malformed("loreft", layers="some"), "'some'", id="unknown layers"),
        pytest.param(malformed("mam", configs=None), "configs are None", id="no configs"),
        pytest.param(malformed("mam", configs=["lora"]), "configs are", id="configs by name"),
        pytest.param(malformed("mam", configs=[]), "at least one", id="empty union"),
        pytest.param(
            malformed("mam", configs=[method.MAM.to_dict()]), "another union", id="nested union"
        ),
        pytest.param(
            malformed("mam", configs=[malformed("lora", r="8")]), "`int`, got `str`", id="bad part"
        ),
        pytest.param({"architecture": "lore"}, "no method with the architecture 'lore'", id="near"),
        pytest.param({"architecture": ["lora"]}, r"architecture \['lora'\]", id="list"),
        pytest.param(
            {
                "architecture": "bitfit",
                "attention": False,
                "feed_forward": False,
                "layer_norm": False,
            },
            "without any bias",
            id="bitfit of nothing",
        ),
    ],
)
def test_a_malformed_config_is_refused(config, fault):
    with pytest.raises(CompositionError, match=fault):
        method.read(config)


def test_the_nearest_architecture_is_suggested():
    with pytest.raises(CompositionError) as refusal:
        method.read({"architecture": "prefixtuning"})

    assert refusal.value.hint.startswith("did you mean prefix_tuning? known: lora, ")


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(["lora", "ia3"], id="same architecture"),
        pytest.param(["seq_bn", "par_bn"], id="same slot"),
        pytest.param(["seq_bn", "double_seq_bn"], id="one slot in both"),
        pytest.param(["prefix_tuning", "lora", "prefix_tuning_flat"], id="not neighbours"),
    ],
)
def test_parts_of_a_union_at_the_same_places_are_refused(texts):
    with pytest.raises(CompositionError, match="would stand at the same places"):
        method.parse("|".join(texts))


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(["lora", "mtl_lora"], id="two architectures"),
        pytest.param(["seq_bn", "seq_bn[mh_adapter=True, output_adapter=False]"], id="two slots"),
        pytest.param(["lora[leave_out=[0]]", "ia3"], id="layers left out"),
        pytest.param(["seq_bn", "lora", "prefix_tuning", "loreft", "prompt_tuning"], id="many"),
    ],
)
def test_parts_of_a_union_at_different_places_go_together(texts):
    config = method.parse("|".join(texts))

    assert config.configs == [method.parse(text) for text in texts]


def test_the_module_needs_no_torch():
    code = (
        "import sys; import adapterhub_client.formats.method; "
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "set()"
