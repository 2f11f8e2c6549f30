"""The adapters library: make an adapter, load it from the registry, push another.

python adapters_client.py FOLDER NAME prepare     writes FOLDER/base and FOLDER/adapter
python adapters_client.py FOLDER NAME
"""

import os
import sys
from pathlib import Path

import torch
from adapters import AutoAdapterModel, list_adapters
from huggingface_hub import HfApi
from steps import Steps, same
from transformers import BertConfig

folder, name = Path(sys.argv[1]), sys.argv[2]
base, adapter = folder / "base", folder / "adapter"
ids = torch.tensor([[5, 6, 7, 8]])


def loaded():
    return AutoAdapterModel.from_pretrained(str(base)).eval()


def output(model):
    with torch.no_grad():
        return model(ids).last_hidden_state


def randomise(model):
    """An adapter that does something: new ones begin as the identity."""
    torch.manual_seed(1)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if ".adapters." in key:
                value.add_(torch.randn_like(value) / 10)


def prepare():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    AutoAdapterModel.from_config(config).save_pretrained(base)
    model = loaded()
    model.add_adapter("multinli", config="seq_bn")
    randomise(model)
    model.save_adapter(str(adapter), "multinli", use_safetensors=True)
    (adapter / "README.md").write_text("# MultiNLI\n\nFor tests.\n")


def main():
    step = Steps()
    pushed = f"ukp/nli.{name}"

    @step("adapters load_adapter")
    def _():
        local, remote = loaded(), loaded()
        local.load_adapter(str(adapter), set_active=True, use_safetensors=True)
        remote.load_adapter("ukp/nli.multinli", set_active=True)
        assert not torch.equal(output(local), output(loaded()))
        assert torch.equal(output(local), output(remote))
        pinned = loaded()
        pinned.load_adapter("ukp/nli.multinli", version="v1", set_active=True, use_safetensors=True)
        assert torch.equal(output(local), output(pinned))

    @step("adapters push_adapter_to_hub")
    def _():
        model = loaded()
        model.add_adapter("pushed", config="par_bn")
        randomise(model)
        model.set_active_adapters("pushed")
        model.push_adapter_to_hub(pushed, "pushed", datasets_tag="multi_nli")
        other = loaded()
        other.load_adapter(pushed, set_active=True)
        assert torch.equal(output(model), output(other))
        assert HfApi().model_info(pushed).sha

    @step("adapters list_adapters")
    def _():
        found = {each.adapter_id: each.model_name for each in list_adapters()}
        assert "ukp/nli.multinli" in found

    return 1 if step.failed else 0


if __name__ == "__main__":
    if sys.argv[3:] == ["prepare"]:
        os.environ["HF_HUB_OFFLINE"] = "1"
        prepare()
    else:
        same(len(sys.argv), 3)
        sys.exit(main())
