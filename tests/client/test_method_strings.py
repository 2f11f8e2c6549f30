"""Config strings: presets, options and unions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method

layers = st.lists(st.integers(0, 40), max_size=4)
rates = st.floats(0, 1)
texts = st.text(max_size=12)
factors = st.integers(1, 512) | st.floats(0.01, 512)
OPTIONS = {
    "double_seq_bn": {
        "reduction_factor": factors | st.dictionaries(st.integers(0, 9).map(str), factors),
        "scaling": st.floats(-8, 8) | st.sampled_from(["learned", "channel"]),
        "residual_before_ln": st.booleans() | st.just("post_add"),
        "leave_out": layers,
        "non_linearity": texts,
        "dropout": rates,
        "phm_layer": st.booleans(),
    },
    "lora": {
        "r": st.integers(1, 64),
        "alpha": st.integers(-64, 64) | st.floats(-64, 64),
        "attn_matrices": st.lists(st.sampled_from("qkv"), unique=True),
        "vera_d": st.none() | st.floats(0, 1),
        "leave_out": layers,
        "use_dora": st.booleans(),
    },
    "prefix_tuning": {"prefix_length": st.integers(1, 99), "flat": st.booleans(), "dropout": rates},
    "prompt_tuning": {
        "prompt_init_text": st.none() | texts,
        "prompt_length": st.integers(1, 99),
        "random_uniform_scale": st.floats(0.01, 1),
    },
    "direft": {
        "layers": st.just("all") | layers,
        "suffix_positions": st.integers(0, 9),
        "non_linearity": st.none() | texts,
    },
    "bitfit": {"attention": st.booleans(), "leave_out": layers},
}


def chosen(name):
    return st.tuples(st.just(name), st.fixed_dictionaries({}, optional=OPTIONS[name]))


def written(name, options):
    return f"{name}[{', '.join(f'{key}={value!r}' for key, value in options.items())}]"


@given(st.sampled_from(list(OPTIONS)).flatmap(chosen))
def test_options_come_back_as_they_were_given(choice):
    name, options = choice

    config = method.parse(written(name, options)).to_dict()

    assert config == method.PRESETS[name].to_dict() | (options if changed(name, options) else {})


def changed(name, options):
    """What equals the default is not always written."""
    if name == "prompt_tuning" and options.get("random_uniform_scale") == 0.5:
        del options["random_uniform_scale"]
    return bool(options)


@given(
    st.lists(st.sampled_from(list(OPTIONS)), min_size=2, unique=True).flatmap(
        lambda names: st.tuples(*map(chosen, names))
    )
)
def test_a_union_is_its_parts_whatever_their_options_hold(choices):
    strings = [written(*choice) for choice in choices]

    config = method.parse(" | ".join(strings))

    assert config == method.Union(configs=[method.parse(text) for text in strings])
    assert method.read(config.to_dict()) == config


@given(st.text(max_size=30) | st.text("lora[]|='\"(,)*#: \n\\1", max_size=30))
def test_any_text_is_read_or_refused_with_a_sentence(text):
    refused, config = "", None
    try:
        config = method.parse(text)
    except CompositionError as refusal:
        refused = str(refusal)

    assert refused.endswith(".") if config is None else method.read(config.to_dict()) == config


def test_a_part_may_hold_what_joins_parts():
    config = method.parse("prompt_tuning[prompt_init_text='a|b]=c[', prompt_length=3]|lora")

    assert config.configs[0].prompt_init_text == "a|b]=c["


def test_an_option_of_a_named_union_reaches_all_its_parts():
    config = method.parse("unipelt[dropout=0.3]")

    assert [part.dropout for part in config.configs] == [0.3, 0.3, 0.3]


@pytest.mark.parametrize(("old", "new"), method.DEPRECATED.items())
def test_an_old_name_means_the_new_one(old, new):
    assert method.parse(f"{old}[reduction_factor=4]") == method.parse(f"{new}[reduction_factor=4]")


@pytest.mark.parametrize(
    ("text", "fault", "hint"),
    [
        pytest.param("", "is no method string", "allowed: NAME", id="nothing"),
        pytest.param("seq_bn[", "is no method string", "allowed: NAME", id="open bracket"),
        pytest.param("seq_bn|", "is no method string", "allowed: NAME", id="open union"),
        pytest.param("lora[r=8]x", "is no method string", "allowed: NAME", id="something behind"),
        pytest.param("seq_bn[reduction_factor=]", "cannot be read", "literals", id="no value"),
        pytest.param("lora[r=8, r=4]", "gives the option 'r' twice", None, id="twice"),
        pytest.param("lora[8]", "cannot be read", "literals", id="no option"),
        pytest.param("lora[r=eight]", "cannot be read", "literals", id="no literal"),
        pytest.param("lora[r=8).pop(x=1]", "cannot be read", "literals", id="another call"),
        pytest.param("lora[**{'r': 8}]", "cannot be read", "literals", id="unpacked"),
        pytest.param(
            "lora[r=" + "[" * 400 + "]" * 400 + "]", "cannot be read", "literals", id="deep"
        ),
        pytest.param("lora[rank=8]", "no option named 'rank'", "known: selfattn_lora", id="option"),
        pytest.param("lora[aplha=8]", "'aplha'", "did you mean alpha?", id="near option"),
        pytest.param("lora[architecture='reft']", "'architecture'", "known", id="architecture"),
        pytest.param("mam[r=8]", "no option named 'r'", "known: encoder_prefix", id="union option"),
        pytest.param("lorra", "no method named 'lorra'", "did you mean lora?", id="near name"),
        pytest.param("zzz", "no method named 'zzz'", "known: seq_bn", id="unknown name"),
        pytest.param("seq_bn[reduction_factor='two']", "is malformed", None, id="wrong type"),
        pytest.param("lora|mam", "cannot hold another union", "side by side", id="nested"),
    ],
)
def test_a_malformed_string_is_refused(text, fault, hint):
    with pytest.raises(CompositionError, match=fault) as refusal:
        method.parse(text)

    assert hint is None or hint in refusal.value.hint
