"""peft and transformers: an adapter of the one, a base model of the other, pushed and loaded back.

python peft_client.py FOLDER NAME
"""

import sys
from pathlib import Path

import torch
from huggingface_hub import HfApi
from peft import LoraConfig, PeftModel, get_peft_model
from steps import Steps, same
from transformers import AutoModel, BertConfig, BertModel

step = Steps()
folder, name = Path(sys.argv[1]), sys.argv[2]
base_id, lora_id = f"ukp/tiny-bert-{name}", f"ukp/nli.{name}"
ids = torch.tensor([[5, 6, 7, 8]])
torch.manual_seed(0)
base = BertModel(
    BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
).eval()
made = {}


def output(model):
    with torch.no_grad():
        return model(ids).last_hidden_state


@step("transformers push_to_hub")
def _():
    base.push_to_hub(base_id)
    assert HfApi().file_exists(base_id, "model.safetensors")
    same(HfApi().list_repo_refs(base_id).tags, [])


@step("transformers from_pretrained")
def _():
    assert torch.equal(output(AutoModel.from_pretrained(base_id).eval()), output(base))


@step("peft push_to_hub")
def _():
    model = AutoModel.from_pretrained(base_id)
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False)
    ).eval()
    made["output"] = output(adapted)
    adapted.push_to_hub(lora_id)
    refs = HfApi().list_repo_refs(lora_id)
    same([each.name for each in refs.tags], ["v1"])


@step("PeftModel.from_pretrained")
def _():
    for revision in ("main", "v1"):
        loaded = PeftModel.from_pretrained(
            AutoModel.from_pretrained(base_id), lora_id, revision=revision
        )
        assert torch.equal(output(loaded.eval()), made["output"])


@step("AutoModel of an adapter")
def _():
    loaded = AutoModel.from_pretrained(lora_id).eval()
    assert torch.equal(output(loaded), made["output"])


@step("peft push again")
def _():
    loaded = PeftModel.from_pretrained(
        AutoModel.from_pretrained(base_id), lora_id, is_trainable=True
    )
    with torch.no_grad():
        for key, value in loaded.named_parameters():
            if "lora_B" in key:
                value.add_(1.0)
    loaded.push_to_hub(lora_id)
    same([each.name for each in HfApi().list_repo_refs(lora_id).tags], ["v1", "v2"])


sys.exit(1 if step.failed else 0)
