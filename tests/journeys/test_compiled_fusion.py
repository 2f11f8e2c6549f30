"""A fusion trained on one machine, published in its compiled form, and used on another without its members."""

import torch
from transformers import AutoModel

from adapterhub_client import compose

MEMBERS = {"rte": "nli/rte@me", "boolq": "qa/boolq@me"}


def attached(base_folder, hub):
    return compose.attach(AutoModel.from_pretrained(base_folder).eval(), hub=hub)


def random_weights(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)


def test_a_compiled_fusion_travels_without_its_members(hub, trained, base_folder, tmp_path):
    _, inputs, _ = trained
    author = attached(base_folder, hub)
    for seed, (name, reference) in enumerate(MEMBERS.items()):
        author.add(name, "seq_bn[reduction_factor=16]")
        random_weights(author.adapters[name], seed)
        author.save(name, tmp_path / name)
        author.delete(name)
        hub.push(reference, tmp_path / name)
        author.load(reference, name=name)
    fusion = author.add_fusion(*MEMBERS)
    random_weights(author.fusions[fusion], seed=7)
    author.activate(fusion)
    author.save_fusion(fusion, tmp_path / "fusion", form="compiled")
    with torch.no_grad():
        expected = author(**inputs).last_hidden_state
    author.detach()

    version = hub.push("nli/mixture@me", tmp_path / "fusion")
    reader = attached(base_folder, hub)
    name = reader.load("nli/mixture@me")
    reader.activate(name)
    with torch.no_grad():
        received = reader(**inputs).last_hidden_state

    manifest = hub.resolve("nli/mixture@me").manifest
    assert manifest.method.format == "composition"
    assert {member.reference for member in manifest.composition.members} == set(MEMBERS.values())
    assert version.number == 1
    assert not reader.adapters
    torch.testing.assert_close(received, expected, atol=1e-5, rtol=0)
