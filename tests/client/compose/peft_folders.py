"""Folders of PEFT: what it writes and computes, and how far we are from it."""

import copy
import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from adapterhub_client import compose

peft = pytest.importorskip("peft")

TOLERANCE = 1e-5
CLASSIFIER = transformers.AutoModelForSequenceClassification
LLAMA = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}
GPT2 = {"vocab_size": 96, "n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 4}


def llama():
    torch.manual_seed(7)
    return transformers.AutoModel.from_config(transformers.LlamaConfig(**LLAMA)).eval()


def gpt2():
    torch.manual_seed(7)
    return transformers.AutoModel.from_config(transformers.GPT2Config(**GPT2)).eval()


def lora(targets, **changes):
    options = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1} | changes
    return peft.LoraConfig(target_modules=targets, **options)


def ia3(targets, of_inputs=()):
    return peft.IA3Config(target_modules=targets, feedforward_modules=list(of_inputs))


def train(model):
    """Weights that are seen, as if it had been trained."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            if "ia3" in name or "magnitude" in name:
                parameter.mul_(1 + noise)
            elif parameter.requires_grad:
                parameter.copy_(noise)
    return model.eval()


def written_by_peft(folder, model, config):
    """A folder of PEFT, and what its model puts out."""
    theirs = train(peft.get_peft_model(copy.deepcopy(model), config))
    theirs.save_pretrained(folder)
    return theirs


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


def options(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def edit(folder, **changes):
    (folder / "adapter_config.json").write_text(json.dumps(options(folder) | changes))


@torch.no_grad()
def answer(model, inputs):
    output = model(**inputs)
    return output.logits if "logits" in output else output.last_hidden_state


def both_ways(model, config, folder, inputs):
    """How far PEFT's outputs are from ours, and from PEFT's again after we wrote the folder anew."""
    theirs = written_by_peft(folder, model, config)
    adapted = compose.attach(copy.deepcopy(model))
    adapted.activate(adapted.load(folder, name="x"), head=False)
    ours = answer(adapted, inputs)
    adapted.save("x", folder / "back", format="peft")
    again = peft.PeftModel.from_pretrained(copy.deepcopy(model), folder / "back").eval()
    report = again.load_adapter(str(folder / "back"), "again")
    # PEFT counts the tensor of a prefix or prompt among these, also in its own files, before it loads it.
    assert set(report.unexpected_keys) <= {"prompt_embeddings"}
    assert not [key for key in report.missing_keys if ".again." in key]
    expected = answer(theirs, inputs)
    base = answer(model, inputs)
    of_input = expected[:, expected.shape[1] - base.shape[1] :]  # without a prompt's
    assert (of_input - base).abs().max() > 1e-2  # it is seen
    return (ours - expected).abs().max(), (answer(again, inputs) - expected).abs().max()


def same_bits(folder):
    """Whether what we wrote is what PEFT wrote."""
    before, after = weights(folder), weights(folder / "back")
    return before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
