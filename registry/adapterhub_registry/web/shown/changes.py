"""What a version changed against the one before it: a changelog that is read off the manifests."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from adapterhub_client import wire
from adapterhub_client.charts.text import compact, number, short, size

Kind = Literal["better", "worse", "added", "changed", "removed"]


class Change(msgspec.Struct, frozen=True):
    """One difference: of what kind, in what part, and the values before and after."""

    kind: Kind
    part: str
    name: str
    before: str = ""
    after: str = ""


def changes(old: wire.Manifest, new: wire.Manifest) -> list[Change]:
    """Everything that differs, what matters most first."""
    return [
        *_metrics(old, new),
        *_labels(old, new),
        *_members(old, new),
        *_mapping("config", old.method.config, new.method.config),
        *_mapping("training", _settings(old), _settings(new)),
        *_said(old, new),
        *_files(old, new),
    ]


def _metrics(old: wire.Manifest, new: wire.Manifest) -> Iterator[Change]:
    before = {_key(each): each for each in old.metrics}
    for metric in new.metrics:
        name = f"{metric.name}, {metric.dataset} {metric.split}"
        was = before.pop(_key(metric), None)
        if was is None:
            yield Change("added", "metric", name, after=number(metric.value))
        elif was.value != metric.value:
            is_better = (metric.value > was.value) == metric.higher_is_better
            kind: Kind = "better" if is_better else "worse"
            yield Change(kind, "metric", name, number(was.value), number(metric.value))
    for metric in before.values():
        name = f"{metric.name}, {metric.dataset} {metric.split}"
        yield Change("removed", "metric", name, before=number(metric.value))


def _labels(old: wire.Manifest, new: wire.Manifest) -> Iterator[Change]:
    heads = {head.name: ", ".join(head.labels) or head.type for head in old.heads}
    yield from _mapping(
        "head", heads, {head.name: ", ".join(head.labels) or head.type for head in new.heads}
    )


def _members(old: wire.Manifest, new: wire.Manifest) -> Iterator[Change]:
    was, now = old.composition, new.composition
    if was is not None and now is not None:
        yield from _mapping(
            "composition", {"expression": was.expression}, {"expression": now.expression}
        )
    before = {member.name: member.reference for member in was.members} if was else {}
    after = {member.name: member.reference for member in now.members} if now else {}
    yield from _mapping("member", before, after)


def _settings(manifest: wire.Manifest) -> dict[str, Any]:
    training = manifest.training
    if training is None:
        return {}
    facts = {"trainer": training.trainer, "data": training.data_digest, "seeds": training.seeds}
    facts["hardware"] = training.hardware
    return {name: value for name, value in facts.items() if value} | training.hyperparameters


def _said(old: wire.Manifest, new: wire.Manifest) -> Iterator[Change]:
    def said(manifest: wire.Manifest) -> dict[str, Any]:
        facts = {
            "description": manifest.description,
            "licence": manifest.license,
            "languages": ", ".join(manifest.languages),
            "citation": manifest.citation,
            "base": manifest.base.fingerprint or manifest.base.name,
        }
        return {name: value for name, value in facts.items() if value}

    yield from _mapping("about", said(old), said(new))


def _files(old: wire.Manifest, new: wire.Manifest) -> Iterator[Change]:
    before = {file.path: file for file in old.files}
    for file in new.files:
        was = before.pop(file.path, None)
        if was is None:
            yield Change("added", "file", file.path, after=size(file.size_bytes))
        elif was.sha256 != file.sha256:
            sizes = size(was.size_bytes), size(file.size_bytes)
            told = sizes if sizes[0] != sizes[1] else (short(was.sha256), short(file.sha256))
            yield Change("changed", "file", file.path, *told)
    for file in before.values():
        yield Change("removed", "file", file.path, before=size(file.size_bytes))


def _mapping(part: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        if name not in old:
            yield Change("added", part, name, after=compact(new[name]))
        elif name not in new:
            yield Change("removed", part, name, before=compact(old[name]))
        elif old[name] != new[name]:
            yield Change("changed", part, name, compact(old[name]), compact(new[name]))


def _key(metric: wire.Metric) -> tuple[str, str, str]:
    return metric.dataset, metric.split, metric.name
