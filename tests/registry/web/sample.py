"""A small catalogue as a team would have it, published over the API: versions, statuses, a private one, a fusion."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import msgspec
from safetensors.numpy import load
from sqlalchemy import select
from tests.registry.web import runs, tensors

from adapterhub_client import names, wire
from adapterhub_registry.models import Adapter, DownloadDay, Variant, Version
from adapterhub_registry.service import indexing, lifecycle
from adapterhub_registry.service.token import viewer_of

BERT_LEAVES = tensors.fingerprint("bert-base-uncased", "bert", 768, 12)
"""its `base_fingerprint.json`"""
BERT = {
    "name": "bert-base-uncased",
    "architecture": "bert",
    "fingerprint": tensors.root(BERT_LEAVES),
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
DISTIL = {
    "name": "distilbert-base-uncased",
    "architecture": "distilbert",
    "fingerprint": "sha256:" + hashlib.sha256(b"distilbert").hexdigest(),
    "hidden_size": 768,
    "layers": 6,
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
LAYERS = 2
"""of weights; those of whole adapters would only make tests slow"""
WORKING_DAYS = 5
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


def weights(label: str, like: str = "", base: Any = None, method: Any = None) -> bytes:
    """The weights of a version, as its method has them; few layers, so that tests are quick."""
    features = (base or BERT).get("hidden_size") or 768
    name = (method or SEQ_BN)["name"]
    if name == "fusion":
        return tensors.fusion(label, features=features // 12, layers=LAYERS)
    if name == "lora":
        return tensors.low_rank(label, features=features, layers=LAYERS)
    double = name == "double_seq_bn"
    return tensors.bottleneck(label, like or label, features=features, layers=LAYERS, double=double)


def metric(dataset: str, name: str, value: float, std: float | None = None, **more: Any) -> Any:
    """A metric over five seeds."""
    given = {"dataset": dataset, "split": "validation", "name": name, "value": value, "std": std}
    return wire.Metric(**(given | {"seeds": SEEDS if std is not None else []} | more))


def publish(hub: Any, token: str, reference: str, **said: Any) -> wire.Version:
    """Publish one version; `card` is its README, `label` makes its weights others."""
    label = said.pop("label", reference)
    private, card = said.pop("private", False), said.pop("card", None)
    report = said.pop("report", None)
    base, method = said.pop("base", BERT), said.pop("method", SEQ_BN)
    files = {"adapter_config.json": json.dumps(method.get("config", {}), indent=2).encode()}
    if method.get("format") == "composition":
        files["adapter_fusion_config.json"] = b'{"config": "dynamic"}'
    files["adapter.safetensors"] = weights(label, said.pop("like", ""), base, method)
    outputs = len(said["heads"][0].labels) if said.get("heads") else 0
    features = base.get("hidden_size") or 768
    files["head.safetensors"] = tensors.head(label, outputs or 1, features=features)
    if base == BERT:
        files[wire.BASE_FINGERPRINT_FILE] = tensors.encoded(BERT_LEAVES)
    if report:
        trained = sum(each.size for each in load(files["adapter.safetensors"]).values())
        cost = msgspec.structs.replace(report.cost, parameters=trained)
        files[wire.REPORT_FILE] = runs.encoded(msgspec.structs.replace(report, cost=cost))
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
    _rivals(hub, token, lab)
    _fusions(hub, token, lab)
    _downloads(hub)
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
            like="multinli",
            report=runs.inference(SEEDS, value) if number > 1 else None,
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
                }
                | ({} if number < 3 else {"epochs": 8, "schedule": "cosine"}),
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
        metrics=[metric("imdb", "accuracy", 0.931)],
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
        report=runs.emotions(EMOTIONS),
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
        report=runs.similarity(),
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


def _rivals(hub: Any, token: str, lab: str) -> None:
    """Others on the data of some of these, by other methods and on other bases."""
    reviews = [
        ("sentiment/sst-2-lora@lab", LORA, ROBERTA, 0.941, 0.004),
        ("sentiment/sst-2-double@lab", DOUBLE, BERT, 0.928, 0.002),
        ("sentiment/reviews@lab", SEQ_BN, ROBERTA, 0.918, 0.006),
        ("sentiment/short-texts@ukp", LORA, BERT, 0.909, 0.007),
        ("sentiment/tiny@ukp", SEQ_BN, DISTIL, 0.897, 0.004),
    ]
    for reference, method, base, value, std in reviews:
        publish(
            hub,
            lab if reference.endswith("lab") else token,
            reference,
            method=method,
            base=base,
            description="Whether a phrase from a film review is meant well, trained for comparison.",
            metrics=[metric("sst-2", "accuracy", value, std)],
            heads=head("sst-2", ["negative", "positive"]),
        )
    publish(
        hub,
        lab,
        "qa/boolq@lab",
        description="Yes or no to a question about a passage.",
        metrics=[metric("boolq", "accuracy", 0.731, 0.011)],
        heads=head("boolq", ["no", "yes"]),
    )


def _pinned(hub: Any, references: dict[str, str]) -> dict[str, wire.Version]:
    return {
        name: msgspec.json.decode(
            hub.get("/resolve", query_string={"ref": reference, "base": BERT["fingerprint"]}).data,
            type=wire.Resolution,
        ).version
        for name, reference in references.items()
    }


def _composed(expression: str, pinned: dict[str, wire.Version]) -> dict[str, Any]:
    return {
        "method": FUSION,
        "composition": wire.Composition(
            expression=expression,
            members=[
                wire.Member(
                    name=name, reference=f"{each.reference}:{each.number}", digest=each.digest
                )
                for name, each in pinned.items()
            ],
        ),
        "lineage": [wire.Lineage(kind="member", digest=each.digest) for each in pinned.values()],
        "heads": head("mrpc", ["different", "same"]),
    }


def _fusions(hub: Any, token: str, lab: str) -> None:
    references = {
        "mnli": "nli/multinli@ukp",
        "qqp": "sts/qqp@ukp",
        "mrpc": "sts/mrpc@ukp",
        "sst": "sentiment/sst-2@ukp",
    }
    four = _pinned(hub, references)
    publish(
        hub,
        token,
        "sts/paraphrase-fusion@ukp",
        description="Attention over four adapters, trained on MRPC: small data helped by large.",
        metrics=[metric("mrpc", "F1", 0.911, 0.004), metric("mrpc", "accuracy", 0.878, 0.006)],
        report=runs.fusion(["mnli", "qqp", "average(mrpc, sst)"], [0.9, 0.6, 0.4], 0.911),
        **_composed("stack(fuse(mnli, qqp, average(mrpc, sst; weights=[0.7, 0.3])), mrpc)", four),
    )
    eight = four | _pinned(
        hub,
        {
            "qnli": "nli/qnli@ukp",
            "scitail": "nli/scitail@ukp",
            "stsb": "sts/sts-b@ukp",
            "boolq": "qa/boolq@lab",
        },
    )
    leaning = [0.9, 0.7, 0.8, -0.4, 0.3, -0.2, 1.1, -0.7]
    for number, value in enumerate([0.913, 0.921], 1):
        publish(
            hub,
            lab,
            "sts/mrpc-of-eight@lab",
            label=f"eight {number}",
            description="AdapterFusion over eight adapters of sentence pairs, for MRPC.",
            metrics=[
                metric("mrpc", "F1", value, 0.004),
                metric("mrpc", "accuracy", value - 0.032, 0.006),
            ],
            report=runs.fusion(list(eight), leaning, value),
            training=wire.Training(
                trainer="adapterhub-train 0.1.0",
                hyperparameters={"learning_rate": 5e-05, "epochs": 6 + 2 * number},
                seeds=SEEDS,
                hardware="NVIDIA H200, bf16",
                seconds=96.4,
            ),
            citation="@inproceedings{pfeiffer2021,\n  title = {AdapterFusion: Non-Destructive Task "
            "Composition for Transfer Learning},\n  year = {2021}\n}",
            **_composed(f"fuse({', '.join(eight)})", eight),
        )
    publish(
        hub,
        lab,
        "sts/mrpc-tuned@lab",
        description="MRPC, trained on from the one of ukp with more paraphrases.",
        lineage=[wire.Lineage(kind="parent", digest=four["mrpc"].digest)],
        metrics=[metric("mrpc", "F1", 0.902, 0.005)],
        heads=head("mrpc", ["different", "same"]),
    )


def _downloads(hub: Any) -> None:
    """Some weeks of downloads of what is published here, more on working days."""
    day = hub.clock().date()
    with hub.runtime.database.writing() as session:
        ours = Adapter.full_name.like("%@ukp") | Adapter.full_name.like("%@lab")
        versions = select(Version).where(Version.variant.has(Variant.adapter.has(ours)))
        rows = session.scalars(versions.order_by(Version.id)).all()
        for row in rows:
            adapter = row.variant.adapter
            for back in range(84):
                when = day - timedelta(days=back)
                busy = 1.0 if when.weekday() < WORKING_DAYS else 0.3
                count = int(busy * (1 + (row.id * 7) % 13) * (1 - back / 120))
                if count and (row.id + back) % 3:
                    session.add(DownloadDay(version_id=row.id, day=when, count=count))
                    adapter.downloads += count
        indexing.refresh(session, sorted({row.variant.adapter_id for row in rows}))
