"""Our presets against those of the real `adapters` library, in an environment of its own (ADAPTERS_PEER_PYTHON)."""

import json
import os
import subprocess

import pytest

from adapterhub_client.formats import method

PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
# What the library writes for each of its names, and what it makes of the configs it is given.
SCRIPT = """
import json, sys
from adapters.configuration import ADAPTER_CONFIG_MAP, AdapterConfig, AdapterPlusConfig
from adapters.utils import get_adapter_config_hash

presets = ADAPTER_CONFIG_MAP | {"adapter_plus": AdapterPlusConfig()}
print(json.dumps({
    "presets": {
        name: (config.to_dict(), get_adapter_config_hash(config.to_dict()))
        for name, config in presets.items()
    },
    "read": {
        text: (
            (config := AdapterConfig.load(written)).to_dict(),
            get_adapter_config_hash(written),
            getattr(config, "subtract_projection", None),
            getattr(config, "random_uniform_scale", None),
        )
        for text, written in json.load(sys.stdin).items()
    },
    "parsed": {text: AdapterConfig.load(text).to_dict() for text in sys.argv[1:]},
}))
"""
STRINGS = [
    "prefix_tuning[bottleneck_size=800]|par_bn[reduction_factor=2]",
    "double_seq_bn[reduction_factor={'1': 8, 'default': 2.5}, leave_out=[0, 3], scaling='learned']",
    "lora[r=4, alpha=16, attn_matrices=['q', 'k'], intermediate_lora=True]|loreft[layers=[1]]",
    "unipelt[dropout=0.2]",
]
OURS = [
    *(name for name in method.PRESETS if name != "bitfit"),
    *STRINGS,
    "prompt_tuning[random_uniform_scale=0.1]",
]
UNWRITTEN = {"subtract_projection", "random_uniform_scale"}

pytestmark = pytest.mark.skipif(not PEER, reason="ADAPTERS_PEER_PYTHON is not set")


@pytest.fixture(scope="module")
def library():
    """Everything at once: the library takes seconds to import."""
    configs = {text: method.parse(text).to_dict() for text in OURS}
    answer = subprocess.run(
        [PEER, "-c", SCRIPT, *STRINGS],
        input=json.dumps(configs),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout)


def test_every_name_of_the_library_is_known_with_the_same_config_and_id(library):
    for name, (config, identity) in library["presets"].items():
        ours = method.parse(name).to_dict()
        assert {key: value for key, value in ours.items() if key not in UNWRITTEN} == config, name
        assert method.config_id(ours) == identity, name


def test_the_library_reads_our_configs_as_what_they_are(library):
    for text, (config, identity, subtract, scale) in library["read"].items():
        ours = method.parse(text)
        written = ours.to_dict()
        assert {key: value for key, value in written.items() if key not in UNWRITTEN} == config, (
            text
        )
        assert method.config_id(written) == identity, text
        assert getattr(ours, "subtract_projection", None) == subtract, text
        assert getattr(ours, "random_uniform_scale", None) == scale, text


@pytest.mark.parametrize("text", STRINGS)
def test_a_string_means_to_us_what_it_means_to_the_library(text, library):
    assert method.parse(text).to_dict() == library["parsed"][text]
