"""Models of the reference library, as the cases need them; runs in the library's own environment."""

import zlib

import adapters
import torch
import transformers
from adapters import composition as blocks
from peer_kinds import ARCHITECTURES, EAGER, TWO_STACKS

LENGTH, BATCH = 10, 3
OUTPUTS = ("last_hidden_state", "encoder_last_hidden_state", "pooler_output")
LOGITS = ("logits", "start_logits", "end_logits")


def config_of(architecture, implementation="sdpa"):
    class_name, settings, _ = ARCHITECTURES[architecture]
    config = getattr(transformers, class_name)(**settings)
    config._attn_implementation = "eager" if architecture in EAGER else implementation  # noqa: SLF001
    return config


def seeded(text, seed):
    torch.manual_seed(zlib.crc32(text.encode()) + seed)


def base_model(architecture, seed):
    """Weights of the base model: large, and LayerNorms that differ from each other."""
    model = transformers.AutoModel.from_config(config_of(architecture))
    seeded(architecture, seed)
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        parameter.data = noise * 0.2 if parameter.dim() > 1 else parameter.data + noise * 0.1
    return model


def inputs_of(architecture, *, padded=True):
    if architecture == "vit":
        return {"pixel_values": torch.randn(BATCH, 3, 8, 8)}
    config = config_of(architecture)
    ids, mask = torch.randint(5, 90, (BATCH, LENGTH)), torch.ones(BATCH, LENGTH, dtype=torch.long)
    ends = torch.tensor([LENGTH, LENGTH - 3 if padded else LENGTH, LENGTH])
    for row, end in enumerate(ends):
        ids[row, end:], mask[row, end:] = config.pad_token_id or 0, 0
        if architecture in TWO_STACKS:
            ids[row, end - 1] = config.eos_token_id
    inputs = {"input_ids": ids, "attention_mask": mask}
    if architecture in TWO_STACKS:
        inputs["decoder_input_ids"] = torch.randint(5, 90, (BATCH, LENGTH))
    return inputs


def randomise(model, name, std=0.3):
    """Weights of every kind that move the output, for one adapter, fusion or head."""
    for key, parameter in model.named_parameters():
        if f".{name}." not in f".{key}.":
            continue
        noise = torch.randn_like(parameter)
        if key.endswith("parametrizations.weight.original"):
            noise.diagonal().sign_()  # torch keeps signs there: with anything else the projection is zero
            parameter.data.copy_(noise)
        elif key.endswith((".m.weight", "norm_before.weight", "norm_after.weight", "scaling")):
            parameter.data.mul_(1 + 0.2 * noise)
        elif parameter.numel() and (parameter.data == 1).all():  # a scale: (IA)3
            parameter.data.add_(0.5 * noise)
        else:
            parameter.data.copy_(noise * (0.6 if "phm" in key or ".W_" in key else std))


def new_model(architecture, state, implementation, class_name=None):
    """The base with adapters enabled, bare or in the class named."""
    config = config_of(architecture, implementation)
    config.num_labels = 3
    if class_name is None:
        model = transformers.AutoModel.from_config(config)
    else:
        model = getattr(adapters, class_name, getattr(transformers, class_name, None))(config)
    unknown = model.base_model.load_state_dict(state, strict=class_name is None).unexpected_keys
    if unknown:
        raise ValueError(f"{type(model).__name__} has no place for {unknown}.")
    adapters.init(model)
    for key, parameter in model.base_model.named_parameters():
        if key not in state and key.endswith("Wqkv.bias"):
            parameter.data.zero_()  # the library invents a random bias where the model has none
    return model.eval()


def setup_of(node):
    """The library's blocks for a setup as the manifest has it."""
    if node["type"] == "single":
        return node["children"][0]
    children = [setup_of(child) for child in node["children"]]
    options = dict(node.get("kwargs") or {})
    if node["type"] == "Average":  # the library takes the mean of what it weighted
        options["weights"] = [len(children) * weight for weight in options["weights"]]
    return getattr(blocks, node["type"])(*children, **options)


def loaded(root, state, case):
    """A model with a case's folders loaded and active, and the keys that did not fit."""
    name = case["model_class"]
    bare = name == type(transformers.AutoModel.from_config(config_of(case["arch"]))).__name__
    implementation = case.get("attn_implementation", "sdpa")
    model = new_model(case["arch"], state, implementation, None if bare else name)
    info = {"missing_keys": [], "unexpected_keys": []}
    for adapter in case["adapters"]:
        safe = "safetensors" in adapter["formats"]
        options = {} if bare else {"with_head": False}
        options |= {"load_as": adapter["name"], "use_safetensors": safe}
        noted = {}
        model.load_adapter(str(root / adapter["path"]), loading_info=noted, **options)
        note(info, noted)
    for fusion in case["fusions"]:
        noted = {}
        options = {"loading_info": noted, "use_safetensors": "safetensors" in fusion["formats"]}
        model.load_adapter_fusion(str(root / fusion["path"]), **options)
        note(info, noted)
    for head in case["heads"]:
        options = {"load_as": head["name"], "use_safetensors": "safetensors" in head["formats"]}
        model.load_head(str(root / head["path"]), **options)
    if case["setup"]:
        model.set_active_adapters(setup_of(case["setup"]))
    if case["heads"] and case.get("active_head"):
        model.active_head = case["active_head"]
    return model.eval(), info


def note(info, noted):
    for kind, keys in info.items():
        keys += [key for key in noted.get(kind, ()) if key not in keys]


def answer(model, inputs, fields):
    with torch.no_grad():
        output = model(**{name: value.clone() for name, value in inputs.items()})
    return {field: output[field].clone() for field in fields if output.get(field) is not None}


def answers_of(model, case, inputs):
    """What a case compares: a head's output, or the base model's."""
    return (
        answer(model, inputs, LOGITS)
        if case["heads"]
        else answer(model.base_model, inputs, OUTPUTS)
    )


def worst(computed, expected):
    if computed.keys() != expected.keys():
        raise ValueError(f"There are {sorted(computed)} where {sorted(expected)} were expected.")
    return max((computed[name] - value).abs().max().item() for name, value in expected.items())
