"""Our heads in the real `adapters` library, and its heads here, in an environment of its own (ADAPTERS_PEER_PYTHON)."""

import json
import os
import subprocess

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from adapterhub_client import compose

from .conftest import randomise
from .test_head_conversion import CONFIGS

PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
TOLERANCE = 1e-5

# For each job: loads our head and computes with it; makes one of its own and computes with that.
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from adapters import AutoAdapterModel
from safetensors.torch import load_file, save_file

FIELDS = ("logits", "start_logits", "end_logits", "rel_preds", "arc_preds")
ADD = {
    "classification": "add_classification_head",
    "multilabel_classification": "add_classification_head",
    "tagging": "add_tagging_head",
    "multiple_choice": "add_multiple_choice_head",
    "question_answering": "add_qa_head",
    "dependency_parsing": "add_dependency_parsing_head",
    "masked_lm": "add_masked_lm_head",
    "causal_lm": "add_causal_lm_head",
    "seq2seq_lm": "add_seq2seq_lm_head",
    "image_classification": "add_image_classification_head",
}

def keys(model, name):
    return {k for k in model.state_dict() if k.startswith(f"heads.{name}.")}

def compute(model, root, file):
    with torch.no_grad():
        output = model(**load_file(root / "inputs.safetensors"))
    save_file({f: output[f].contiguous() for f in FIELDS if f in output}, root / file)

def answer(root):
    job = json.loads((root / "job.json").read_text())
    model = AutoAdapterModel.from_pretrained(root / "base").eval()
    model.load_head(str(root / "ours"), use_safetensors=True)
    saved = load_file(root / "ours" / "model_head.safetensors")
    state = model.state_dict()
    bad = sorted(set(saved) ^ keys(model, "top"))
    bad += [k for k in saved if k in state and not torch.equal(saved[k], state[k])]
    model.active_head = "top"
    compute(model, root, "ours_there.safetensors")
    options = {"multilabel": True} if job["kind"] == "multilabel_classification" else {}
    getattr(model, ADD[job["kind"]])("own", **options)
    embeddings = model.get_input_embeddings()
    torch.manual_seed(3)
    for parameter in model.heads["own"].parameters():
        if parameter is not getattr(embeddings, "weight", None):
            torch.nn.init.normal_(parameter, std=0.3)
    model.eval()
    compute(model, root, "theirs_there.safetensors")
    model.save_head(str(root / "theirs"), "own", use_safetensors=True)
    (root / "bad.json").write_text(json.dumps(bad))

for job in sorted(Path(sys.argv[1]).glob("*/job.json")):
    try:
        answer(job.parent)
    except Exception as error:
        raise RuntimeError(job.parent.name) from error
"""

TEXT = ["classification", "tagging", "question_answering"]
CASES = {
    "Bert": [
        *TEXT,
        "multilabel_classification",
        "multiple_choice",
        "dependency_parsing",
        "masked_lm",
        "causal_lm",
    ],
    "Albert": ["classification", "masked_lm"],
    "DebertaV2": ["classification", "masked_lm"],
    "DistilBert": ["classification", "masked_lm"],
    "Electra": ["classification", "masked_lm"],
    "XLMRoberta": ["multiple_choice", "masked_lm"],
    "GPT2": [*TEXT, "causal_lm"],
    "Llama": [*TEXT, "causal_lm"],
    "Bart": ["classification", "question_answering", "seq2seq_lm"],
    "MBart": ["classification", "seq2seq_lm"],
    "T5": ["classification", "question_answering", "seq2seq_lm"],
    "ViT": ["image_classification"],
}
ALL = [f"{family} {kind}" for family, kinds in CASES.items() for kind in kinds]

pytestmark = pytest.mark.skipif(not PEER, reason="ADAPTERS_PEER_PYTHON is not set")


def base_model(family):
    name, options = CONFIGS[family]
    torch.manual_seed(1)
    model = transformers.AutoModel.from_config(getattr(transformers, name)(**options)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def inputs_of(kind, config):
    if kind == "image_classification":
        return {"pixel_values": torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))}
    ids = torch.arange(5, 35).reshape(3, 10)
    mask = torch.ones_like(ids)
    if config.is_encoder_decoder:
        ids[:, [4, 9]] = config.eos_token_id
    else:
        mask[1, 7:] = 0
        ids[1, 7:] = config.pad_token_id
    inputs = {"input_ids": ids, "attention_mask": mask}
    if kind == "multiple_choice":
        inputs = {n: v[:2].reshape(2, 1, 10).repeat(1, 2, 1) for n, v in inputs.items()}
        inputs["input_ids"][:, 1, 1:5] = 40
    if kind == "dependency_parsing":
        inputs["word_starts"] = torch.tensor([[1, 3, 4, 8, 0, 0]] * 3)
    return inputs


def compute(adapted, head, inputs, file):
    adapted.activate(None, head=head)
    with torch.no_grad():
        output = adapted(**inputs)
    adapted.deactivate()
    names = ("logits", "start_logits", "end_logits", "rel_preds", "arc_preds")
    save_file({n: output[n].contiguous() for n in names if n in output}, file)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Everything at once: the library takes seconds to import."""
    root = tmp_path_factory.mktemp("jobs")
    attached = {}
    for case in ALL:
        family, kind = case.split()
        folder = root / case
        folder.mkdir()
        adapted = attached[case] = compose.attach(base_model(family))
        adapted.add_head("top", kind)
        randomise(adapted.heads["top"], seed=5)
        adapted.model.save_pretrained(folder / "base")
        adapted.save_head("top", folder / "ours")
        inputs = inputs_of(kind, adapted.model.config)
        save_file(inputs, folder / "inputs.safetensors")
        compute(adapted, "top", inputs, folder / "ours_here.safetensors")
        (folder / "job.json").write_text(json.dumps({"kind": kind}))
    done = subprocess.run([PEER, "-c", SCRIPT, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for case, adapted in attached.items():
        folder = root / case
        name = adapted.load_head(folder / "theirs")
        inputs = load_file(folder / "inputs.safetensors")
        compute(adapted, name, inputs, folder / "theirs_here.safetensors")
        adapted.save_head(name, folder / "again")
    return root


def equal(folder, first, second):
    first, second = (load_file(folder / f"{name}.safetensors") for name in (first, second))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("case", ALL)
def test_the_library_loads_our_head_and_computes_the_same(case, answers):
    assert json.loads((answers / case / "bad.json").read_text()) == []
    equal(answers / case, "ours_here", "ours_there")


@pytest.mark.parametrize("case", ALL)
def test_a_head_of_the_library_computes_the_same_here(case, answers):
    equal(answers / case, "theirs_here", "theirs_there")


@pytest.mark.parametrize("case", ALL)
def test_a_head_of_the_library_is_written_as_it_was(case, answers):
    folders = [answers / case / name for name in ("theirs", "again")]

    first, second = (load_file(folder / "model_head.safetensors") for folder in folders)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    configs = [json.loads((folder / "head_config.json").read_text()) for folder in folders]
    assert configs[0]["config"] == configs[1]["config"]
