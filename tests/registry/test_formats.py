"""Folders of every method and of every type of PEFT are taken: the validator knows them, or knows that it does not."""

import warnings

import httpx2
import pytest
from tests.registry.conftest import Hub

from adapterhub_client import Hub as Client

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
compose = pytest.importorskip("adapterhub_client.compose")

pytestmark = pytest.mark.filterwarnings("ignore")
SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
}
METHODS = [
    "seq_bn", "double_seq_bn", "par_bn", "scaled_par_bn", "seq_bn_inv", "double_seq_bn_inv",
    "compacter[reduction_factor=4]", "compacter++[reduction_factor=4]",
    "lora", "ia3", "dora", "vera", "mtl_lora", "prefix_tuning", "prefix_tuning_flat", "prompt_tuning",
    "loreft", "noreft", "direft", "mam", "unipelt", "bitfit",
]  # fmt: skip
LAYERS = ["query", "value"]
PEFT = {
    "LORA": lambda: peft.LoraConfig(r=4, target_modules=LAYERS),
    "LORA by layer": lambda: peft.LoraConfig(r=4, rank_pattern={"value": 2}, target_modules=LAYERS),
    "DORA": lambda: peft.LoraConfig(r=4, use_dora=True, target_modules=LAYERS),
    "ADALORA": lambda: peft.AdaLoraConfig(init_r=4, total_step=9, target_modules=LAYERS),
    "IA3": lambda: peft.IA3Config(target_modules=LAYERS, feedforward_modules=[]),
    "VERA": lambda: peft.VeraConfig(r=4, target_modules=LAYERS),
    "LOHA": lambda: peft.LoHaConfig(r=4, target_modules=LAYERS),
    "LOKR": lambda: peft.LoKrConfig(r=4, target_modules=LAYERS),
    "OFT": lambda: peft.OFTConfig(oft_block_size=4, target_modules=LAYERS),
    "BOFT": lambda: peft.BOFTConfig(boft_block_size=4, target_modules=LAYERS),
    "HRA": lambda: peft.HRAConfig(r=4, target_modules=LAYERS),
    "FOURIERFT": lambda: peft.FourierFTConfig(n_frequency=8, target_modules=LAYERS),
    "LN_TUNING": lambda: peft.LNTuningConfig(target_modules=["LayerNorm"]),
    "PREFIX_TUNING": lambda: peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3),
    "PROMPT_TUNING": lambda: peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3),
    "P_TUNING": lambda: peft.PromptEncoderConfig(
        task_type="SEQ_CLS", num_virtual_tokens=3, encoder_hidden_size=8
    ),
}


@pytest.fixture
def database_url(sqlite_template, tmp_path):
    """The format is judged before any database: one kind is enough."""
    copy = tmp_path / "registry.sqlite"
    copy.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{copy}"


@pytest.fixture
def base():
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(**SIZES)).eval()


def push(hub: Hub, folder, cache, base):
    through = httpx2.WSGITransport(app=hub.app)
    token = hub.token("ukp")
    with Client("http://hub", token, cache, through=through) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return client.push("nli/a@ukp", folder, base=base)


def randomise(module):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_of_every_method_is_taken(hub, base, tmp_path, method):
    adapted = compose.attach(base)
    adapted.add("a", method=method)
    adapted.activate("a")
    randomise(adapted)
    adapted.save("a", tmp_path / "a")
    adapted.detach()

    version = push(hub, tmp_path / "a", tmp_path / "cache", base)

    assert (version.number, version.base.hidden_size) == (1, 16)


@pytest.mark.parametrize("kind", PEFT)
def test_a_folder_of_every_type_of_peft_is_taken(hub, base, tmp_path, kind):
    model = transformers.BertForSequenceClassification(base.config)
    adapted = peft.get_peft_model(model, PEFT[kind]())
    randomise(adapted)
    adapted.save_pretrained(tmp_path / "a")
    torch.manual_seed(0)
    fresh = transformers.BertModel(transformers.BertConfig(**SIZES)).eval()

    version = push(hub, tmp_path / "a", tmp_path / "cache", fresh)

    assert version.number == 1
    assert version.method == kind.split(" ", maxsplit=1)[0].replace("DORA", "LORA").lower()


@pytest.mark.parametrize("form", ["trainable", "compiled"])
def test_fusions_and_heads_are_taken(hub, base, tmp_path, form):
    members = {}
    adapted = compose.attach(base)
    for name in ("x", "y"):
        adapted.add(name, method="seq_bn[reduction_factor=4]")
    adapted.add_head("x", kind="classification", labels=["no", "yes", "perhaps"])
    randomise(adapted)
    through = httpx2.WSGITransport(app=hub.app)
    with Client("http://hub", hub.token("ukp"), tmp_path / "cache", through=through) as client:
        for name in ("x", "y"):
            adapted.save(name, tmp_path / name)
            members[name] = client.push(f"nli/{name}@ukp", tmp_path / name, base=base)
        adapted.detach()
        loaded = compose.attach(base, hub=client)
        for name in ("x", "y"):
            loaded.load(f"nli/{name}@ukp", name=name)
        loaded.add_fusion("x", "y")
        loaded.save_fusion("x,y", tmp_path / "f", form=form)
        fused = client.push("nli/f@ukp", tmp_path / "f", base=base)
        heads = client.manifest(members["x"].digest).heads

    assert fused.number == 1
    assert [(head.name, head.labels) for head in heads] == [("x", ["no", "yes", "perhaps"])]
