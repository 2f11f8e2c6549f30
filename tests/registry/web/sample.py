"""A small catalogue as a team would have it, published over the API: versions, statuses, a private one, a fusion."""

import hashlib
import json
from typing import Any

import msgspec

from adapterhub_client import names, wire
from adapterhub_registry.service import lifecycle
from adapterhub_registry.service.token import viewer_of

BERT = {
    "name": "bert-base-uncased",
    "architecture": "bert",
    "fingerprint": "sha256:" + hashlib.sha256(b"bert").hexdigest(),
    "hidden_size": 768,
    "layers": 12,
    "revision": "86b5e0934494bd15c9632b12f734a8a67f723594",
    "tokenizer": "sha256:" + hashlib.sha256(b"wordpiece").hexdigest(),
}
ROBERTA = {
    "name": "roberta-base",
    "architecture": "roberta",
    "fingerprint": "sha256:" + hashlib.sha256(b"roberta").hexdigest(),
    "hidden_size": 768,
    "layers": 12,
}
XLMR = {
    "name": "xlm-roberta-large",
    "architecture": "xlm-roberta",
    "fingerprint": "sha256:" + hashlib.sha256(b"xlmr").hexdigest(),
    "hidden_size": 1024,
    "layers": 24,
}
LEGACY = {"name": "distilbert-base-cased", "architecture": "distilbert", "fingerprint": None}
SEQ_BN = {
    "name": "seq_bn",
    "config_id": "9076f36a74755ac4",
    "config": {
        "mh_adapter": False,
        "output_adapter": True,
        "reduction_factor": 16,
        "non_linearity": "relu",
        "original_ln_before": True,
        "leave_out": [],
    },
}
DOUBLE = {
    "name": "double_seq_bn",
    "config_id": "9b8e6b8e6f1a4d4c",
    "config": {"mh_adapter": True, "output_adapter": True, "reduction_factor": 16},
}
LORA = {"name": "lora", "config_id": "625403edad0bf919", "config": {"r": 8, "alpha": 16}}
FUSION = {"name": "fusion", "config_id": "a5eca2c6d1f9a7b0", "format": "composition"}
EMOTIONS = [
    "admiration",
    "amusement",
    "anger",
    "annoyance",
    "approval",
    "caring",
    "confusion",
    "curiosity",
    "desire",
    "disappointment",
    "disapproval",
    "disgust",
    "embarrassment",
    "excitement",
    "fear",
    "gratitude",
    "grief",
    "joy",
    "love",
    "nervousness",
    "optimism",
    "pride",
    "realization",
    "relief",
    "remorse",
    "sadness",
    "surprise",
    "neutral",
]
SEEDS = [11, 22, 33, 44, 55]
CARD = """---
license: apache-2.0
---
# MultiNLI for BERT

Says whether a *hypothesis* follows from a premise, contradicts it, or neither.

## Intended use

- a source of knowledge for **AdapterFusion**, see [the configuration](adapter_config.json)
- a zero-shot classifier, with the label as hypothesis

| split | examples | accuracy |
|---|---:|---:|
| matched | 9,815 | 0.846 |
| mismatched | 9,832 | 0.851 |

```python
adapted.activate("multinli")
```

> Genres of the training data: telephone, fiction, government, travel, slate.
"""


def weights(label: str, values: int = 60_000) -> bytes:
    """A well-formed safetensors file whose bytes depend on the label."""
    digest = hashlib.sha256(label.encode()).digest()
    data = bytes(byte & 0x3F for byte in digest) * (values // 8)  # as floats all finite
    tensor = {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}
    header = json.dumps({"adapter.down.weight": tensor}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def metric(dataset: str, name: str, value: float, std: float | None = None, **more: Any) -> Any:
    """A metric over five seeds."""
    given = {"dataset": dataset, "split": "validation", "name": name, "value": value, "std": std}
    return wire.Metric(**(given | {"seeds": SEEDS if std is not None else []} | more))


def publish(hub: Any, token: str, reference: str, **said: Any) -> wire.Version:
    """Publish one version; `card` is its README, `label` makes its weights others."""
    label = said.pop("label", reference)
    private, card = said.pop("private", False), said.pop("card", None)
    base, method = said.pop("base", BERT), said.pop("method", SEQ_BN)
    files = {"adapter_config.json": json.dumps(method.get("config", {}), indent=2).encode()}
    if method.get("format") == "composition":
        files["adapter_fusion_config.json"] = b'{"config": "dynamic"}'
    files["adapter.safetensors"] = weights(label)
    files["head.safetensors"] = weights(label + " head", 8_000)
    if card:
        files["README.md"] = card.encode()
    task, _, rest = reference.partition("/")
    name, _, org = rest.partition("@")
    manifest = wire.Manifest(
        reference=wire.Name(task=task, name=name, org=org),
        base=msgspec.convert(base, wire.Base),
        method=msgspec.convert(method, wire.Method),
        files=[
            wire.File(
                path=path, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
            )
            for path, content in files.items()
        ],
        **({"license": "apache-2.0", "languages": ["en"]} | said),
    )
    version = hub.publish(token, manifest, files, private=private)
    hub.clock.move(hours=7)
    return version


def change(hub: Any, token: str, reference: str, status: str, reason: str) -> None:
    """Deprecate or yank."""
    with hub.runtime.database.writing() as session:
        viewer = viewer_of(session, token, hub.clock())
        changed = lifecycle.Change(status, reason)
        lifecycle.set_status(session, viewer, names.parse(reference), changed, hub.clock())


def alias(hub: Any, token: str, reference: str, name: str) -> None:
    """Point an alias at a version."""
    with hub.runtime.database.writing() as session:
        viewer = viewer_of(session, token, hub.clock())
        lifecycle.set_alias(session, viewer, names.parse(reference), name, hub.clock())


def head(name: str, labels: list[str], kind: str = "classification") -> list[wire.Head]:
    """One head."""
    return [wire.Head(name=name, type=kind, labels=labels)]


def fill(hub: Any) -> str:
    """Publish the catalogue; gives the token of the organizations `ukp` and `lab`."""
    hub.clock.move(days=-12)
    token, lab = hub.token("ukp"), hub.token("lab")
    _inference(hub, token)
    _others(hub, token, lab)
    _fusion(hub, token)
    return token


def _inference(hub: Any, token: str) -> None:
    labels = head("multinli", ["entailment", "neutral", "contradiction"])
    said = {
        "description": "Says whether a sentence follows from another, contradicts it, or neither. A good start "
        "for fusion.",
        "heads": labels,
    }
    for number, (value, std) in enumerate([(0.829, 0.006), (0.841, 0.004), (0.846, 0.002)], 1):
        publish(
            hub,
            token,
            "nli/multinli@ukp",
            label=f"multinli {number}",
            card=CARD if number > 1 else None,
            metrics=[
                metric("multinli", "accuracy", value, std),
                metric("multinli", "accuracy", value + 0.005, std, split="mismatched"),
                metric("snli", "accuracy", value - 0.08, std, split="test"),
                metric("multinli", "loss", 0.412, 0.011, higher_is_better=False),
            ],
            training=wire.Training(
                trainer="adapterhub-train 0.1.0",
                hyperparameters={
                    "learning_rate": 0.0001,
                    "epochs": 5,
                    "batch_size": 32,
                    "warmup": 0.06,
                    "early_stopping": True,
                },
                seeds=SEEDS,
                hardware="NVIDIA H200, bf16",
                seconds=1432.6,
                data_digest="sha256:" + hashlib.sha256(b"multinli").hexdigest(),
            ),
            citation="@inproceedings{williams2018,\n  title = {A Broad-Coverage Challenge Corpus},\n  year = {2018}\n}",
            **said,
        )
    change(
        hub,
        token,
        "nli/multinli@ukp:1",
        "yanked",
        "The labels of `neutral` and `contradiction` were swapped.",
    )
    change(hub, token, "nli/multinli@ukp:2", "deprecated", "Version 3 was trained for longer.")
    alias(hub, token, "nli/multinli@ukp:3", "stable")
    publish(
        hub,
        token,
        "nli/multinli@ukp",
        label="multinli roberta",
        base=ROBERTA,
        method=DOUBLE,
        metrics=[metric("multinli", "accuracy", 0.872, 0.003)],
        **said,
    )
    publish(
        hub,
        token,
        "nli/qnli@ukp",
        description="Says whether a sentence answers a question.",
        metrics=[metric("qnli", "accuracy", 0.904, 0.003)],
        heads=head("qnli", ["answers", "does not answer"]),
    )
    publish(
        hub,
        token,
        "nli/scitail@ukp",
        method=LORA,
        description="Entailment between science exam questions and web sentences.",
        metrics=[
            metric("scitail", "accuracy", 0.931, 0.004),
            metric("multinli", "accuracy", 0.712, 0.012),
        ],
    )


def _others(hub: Any, token: str, lab: str) -> None:
    binary = ["negative", "positive"]
    publish(
        hub,
        token,
        "sentiment/sst-2@ukp",
        description="Whether a phrase from a film review is meant well.",
        metrics=[metric("sst-2", "accuracy", 0.925, 0.003)],
        heads=head("sst-2", binary),
    )
    publish(
        hub,
        token,
        "sentiment/imdb@ukp",
        base=LEGACY,
        description="Whole film reviews; imported from the older hub, where bases had no fingerprint.",
        metrics=[metric("imdb", "accuracy", 93.1)],
        heads=head("imdb", binary),
        license=None,
    )
    publish(
        hub,
        lab,
        "sentiment/umsab@lab",
        base=XLMR,
        method=LORA,
        description="Sentiment of short messages in eight languages.",
        languages=["en", "de", "es", "fr", "pt", "it", "ar", "hi"],
        metrics=[
            metric("umsab", "macro F1", 0.684, 0.009),
            metric("sst-2", "accuracy", 0.887, 0.011),
        ],
        heads=head("umsab", ["negative", "neutral", "positive"]),
    )
    publish(
        hub,
        lab,
        "emotion/goemotions@lab",
        base=ROBERTA,
        description="Twenty-seven emotions of a comment, and neutral; several at once.",
        metrics=[
            metric("goemotions", "macro F1", 0.512, 0.007, split="test"),
            metric("goemotions", "micro F1", 0.588, 0.004, split="test"),
        ],
        heads=head("goemotions", EMOTIONS, "multilabel"),
        license="cc-by-4.0",
    )
    publish(
        hub,
        token,
        "sts/sts-b@ukp",
        description="How near two sentences are in meaning, from 0 to 5.",
        metrics=[
            metric("sts-b", "Spearman", 0.882, 0.002),
            metric("sts-b", "Pearson", 0.886, 0.002),
        ],
        heads=[wire.Head(name="sts-b", type="regression")],
    )
    publish(
        hub,
        token,
        "sts/mrpc@ukp",
        description="Whether two sentences say the same.",
        metrics=[metric("mrpc", "F1", 0.896, 0.008), metric("mrpc", "accuracy", 0.853, 0.011)],
        heads=head("mrpc", ["different", "same"]),
    )
    publish(
        hub,
        token,
        "sts/qqp@ukp",
        description="Whether two questions ask the same.",
        metrics=[metric("qqp", "F1", 0.874, 0.001), metric("qqp", "accuracy", 0.905, 0.001)],
        heads=head("qqp", ["different", "same"]),
    )
    publish(
        hub,
        lab,
        "ner/wnut17@lab",
        base=XLMR,
        method=DOUBLE,
        description="Names of people, places and things that are new or rare.",
        metrics=[metric("wnut17", "span F1", 0.563, 0.014, split="test")],
    )
    publish(
        hub,
        lab,
        "intent/support-desk@lab",
        private=True,
        description="Routes what customers write to the right desk. Trained on our own tickets.",
        metrics=[metric("support-tickets", "accuracy", 0.941, 0.004)],
    )


def _fusion(hub: Any, token: str) -> None:
    pinned = {
        name: msgspec.json.decode(
            hub.get("/resolve", query_string={"ref": reference, "base": BERT["fingerprint"]}).data,
            type=wire.Resolution,
        ).version
        for name, reference in {
            "mnli": "nli/multinli@ukp",
            "qqp": "sts/qqp@ukp",
            "mrpc": "sts/mrpc@ukp",
            "sst": "sentiment/sst-2@ukp",
        }.items()
    }
    publish(
        hub,
        token,
        "sts/paraphrase-fusion@ukp",
        method=FUSION,
        description="Attention over four adapters, trained on MRPC: small data helped by large.",
        composition=wire.Composition(
            expression="stack(fuse(mnli, qqp, average(mrpc, sst; weights=[0.7, 0.3])), mrpc)",
            members=[
                wire.Member(
                    name=name, reference=f"{each.reference}:{each.number}", digest=each.digest
                )
                for name, each in pinned.items()
            ],
        ),
        lineage=[wire.Lineage(kind="member", digest=each.digest) for each in pinned.values()],
        metrics=[metric("mrpc", "F1", 0.911, 0.004), metric("mrpc", "accuracy", 0.878, 0.006)],
        heads=head("mrpc", ["different", "same"]),
    )
