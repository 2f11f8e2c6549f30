"""What search knows of an adapter, read from the tables that are the truth; many cost as many queries as one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.query import tokens
from adapterhub_registry.models import (
    Adapter,
    BaseModel,
    Dataset,
    Head,
    Metric,
    Organization,
    Task,
    Variant,
    Version,
)
from adapterhub_registry.models.search import PUBLIC
from adapterhub_registry.service import recorded
from adapterhub_registry.service.representation import moment

_BODY_TOKENS = 2000
_READ = frozenset({"base_name", "architecture", "method", "dataset"})
"""the answers whose words are searched too; task and organization are in the name"""
_LONGEST = 512
"""characters of a value that is counted: PostgreSQL's indexes take no row of several kilobytes"""


class ScoreKey(NamedTuple):
    """What is measured: the id of a dataset, a metric's name, a split."""

    dataset_id: int
    name: str
    split: str


class Scored(msgspec.Struct, frozen=True):
    """The best of an adapter for one metric."""

    version_id: int
    position: int
    value: float
    higher_is_better: bool

    @property
    def rank(self) -> float:
        """Lower is better."""
        return -self.value if self.higher_is_better else self.value


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """All that search keeps of one adapter."""

    adapter_id: int
    scope_id: int
    full_name: str
    name: str
    created_at: datetime
    updated_at: datetime
    downloads: int
    summary: bytes
    title: tuple[str, ...]
    body: tuple[str, ...]
    answers: frozenset[tuple[str, str]]
    """field and value"""
    bases: dict[str, str]
    """each base model's key, and the first description of it as JSON"""
    scores: dict[ScoreKey, Scored]
    versions: int
    size_bytes: int


def gather(session: Session, adapter_ids: Sequence[int]) -> dict[int, Found]:
    """Read adapters that have a version, or that a reference hub describes."""
    adapters = session.execute(
        select(
            Adapter.id,
            Adapter.full_name,
            Adapter.name,
            Adapter.private,
            Adapter.organization_id,
            Adapter.description,
            Adapter.license,
            Adapter.languages,
            Adapter.downloads,
            Adapter.created_at,
            Adapter.updated_at,
            Task.name.label("task"),
            Organization.name.label("organization"),
        )
        .join(Adapter.task)
        .join(Adapter.organization)
        .where(Adapter.id.in_(adapter_ids))
    )
    versions = _versions(session, adapter_ids)
    ids = [row.id for rows in versions.values() for row in rows]
    heads, metrics = _heads(session, ids), _metrics(session, ids)
    outlines = recorded.outlines(session, adapter_ids)
    return {
        row.id: _found(row, versions.get(row.id, []), outlines.get(row.id), (heads, metrics))
        for row in adapters
        if row.id in versions or row.id in outlines
    }


def _versions(
    session: Session, adapter_ids: Sequence[int]
) -> dict[int, list[Row[*tuple[Any, ...]]]]:
    """The versions of each adapter, newest first."""
    rows = session.execute(
        select(
            Version.id,
            Version.status,
            Version.base,
            Version.base_name,
            Version.format,
            Version.size_bytes,
            Variant.adapter_id,
            Variant.method,
            Variant.config_id,
            BaseModel.key,
        )
        .join(Version.variant)
        .join(Variant.base_model)
        .where(Variant.adapter_id.in_(adapter_ids))
        .order_by(Version.created_at.desc(), Version.id.desc())
    )
    found: dict[int, list[Row[*tuple[Any, ...]]]] = {}
    for row in rows:
        found.setdefault(row.adapter_id, []).append(row)
    return found


def _heads(session: Session, version_ids: Sequence[int]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    query = select(Head.version_id, Head.type).where(Head.version_id.in_(version_ids))
    for version_id, kind in session.execute(query):
        found.setdefault(version_id, set()).add(kind)
    return found


def _metrics(
    session: Session, version_ids: Sequence[int]
) -> dict[int, list[Row[*tuple[Any, ...]]]]:
    rows = session.execute(
        select(
            Metric.version_id,
            Metric.position,
            Metric.dataset_id,
            Dataset.name.label("dataset"),
            Metric.name,
            Metric.split,
            Metric.value,
            Metric.std,
            Metric.seeds,
            Metric.higher_is_better,
        )
        .join(Metric.dataset)
        .where(Metric.version_id.in_(version_ids))
        .order_by(Metric.version_id, Metric.position)
    )
    found: dict[int, list[Row[*tuple[Any, ...]]]] = {}
    for row in rows:
        found.setdefault(row.version_id, []).append(row)
    return found


def _found(
    adapter: Row[*tuple[Any, ...]],
    versions: list[Row[*tuple[Any, ...]]],
    outline: recorded.Outline | None,
    details: tuple[dict[int, set[str]], dict[int, list[Row[*tuple[Any, ...]]]]],
) -> Found:
    heads, metrics = details
    known = outline or recorded.NOTHING
    # What was withdrawn is found only where nothing else is left.
    standing = [row for row in versions if row.status != "yanked"]
    offered = standing or versions
    measured = [row for each in standing for row in metrics.get(each.id, [])]
    newest = metrics.get(offered[0].id, []) if offered else []
    answers = _answers(adapter, offered, measured)
    answers |= {answer for part in known.parts for answer in _described(part)}
    for each in offered:
        answers |= {("head", kind) for kind in heads.get(each.id, ())}
    answers = {(field, value) for field, value in answers if 0 < len(value) <= _LONGEST}
    title = tokens(adapter.full_name)
    texts = [value for field, value in sorted(answers) if field in _READ]
    return Found(
        adapter_id=adapter.id,
        scope_id=adapter.organization_id if adapter.private else PUBLIC,
        full_name=adapter.full_name,
        name=adapter.name,
        created_at=adapter.created_at,
        updated_at=adapter.updated_at,
        downloads=adapter.downloads,
        summary=msgspec.json.encode(_summary(adapter, versions, newest, known)),
        title=title,
        body=tokens(" ".join([adapter.description, *texts]))[:_BODY_TOKENS],
        answers=frozenset(answers),
        bases={
            **{part.base_key: msgspec.json.encode(_base(part)).decode() for part in known.parts},
            **{row.key: msgspec.json.encode(row.base).decode() for row in offered},
        },
        scores=_scores([each.id for each in standing], metrics),
        versions=len(versions),
        size_bytes=sum(each.size_bytes for each in versions),
    )


def board(dataset: str, name: str, split: str, *, higher_is_better: bool) -> str:
    """What a leaderboard compares, as facets name it."""
    return msgspec.json.encode([dataset, name, split, higher_is_better]).decode()


def _status(of_versions: set[str]) -> str:
    """The best of its versions'; what is only recorded has none to withdraw."""
    if not of_versions:
        return "active"
    return min(of_versions, key=["active", "deprecated", "yanked"].index)


def _described(part: recorded.Part) -> set[tuple[str, str]]:
    """What a reference hub says of a variant."""
    return {
        ("base", part.base_key),
        ("base_name", part.base_name),
        ("named", named(part.base_name, part.base_key)),
        ("architecture", part.architecture),
        ("method", part.method),
        ("config", part.config_id),
        ("composition", "no"),
    }


def _base(part: recorded.Part) -> wire.Base:
    return wire.Base(name=part.base_name, architecture=part.architecture)


def named(base_name: str, key: str) -> str:
    """What a base is called, and which it is."""
    return msgspec.json.encode([base_name, key]).decode()


def _answers(
    adapter: Row[*tuple[Any, ...]],
    offered: list[Row[*tuple[Any, ...]]],
    measured: list[Row[*tuple[Any, ...]]],
) -> set[tuple[str, str]]:
    found = {
        ("task", adapter.task),
        ("org", adapter.organization),
        ("license", adapter.license or ""),
        ("status", _status({row.status for row in offered})),
        *(("language", language) for language in adapter.languages),
        *(("dataset", row.dataset) for row in measured),
        *(
            (
                "board",
                board(row.dataset, row.name, row.split, higher_is_better=row.higher_is_better),
            )
            for row in measured
        ),
    }
    for row in offered:
        found |= {
            ("base", row.key),
            ("base_name", row.base_name),
            ("named", named(row.base_name, row.key)),
            ("architecture", row.base["architecture"]),
            ("method", row.method),
            ("config", row.config_id),
            ("composition", "yes" if row.format == "composition" else "no"),
        }
    return found


def _summary(
    adapter: Row[*tuple[Any, ...]],
    versions: list[Row[*tuple[Any, ...]]],
    metrics: list[Row[*tuple[Any, ...]]],
    known: recorded.Outline,
) -> wire.AdapterSummary:
    return wire.AdapterSummary(
        reference=adapter.full_name,
        description=adapter.description,
        private=adapter.private,
        bases=sorted(
            {row.base_name for row in versions} | {part.base_name for part in known.parts}
        ),
        methods=sorted({row.method for row in versions} | {part.method for part in known.parts}),
        languages=adapter.languages,
        license=adapter.license,
        versions=len(versions),
        downloads=adapter.downloads,
        updated_at=moment(adapter.updated_at),
        metrics=[
            wire.Metric(
                dataset=row.dataset,
                split=row.split,
                name=row.name,
                value=row.value,
                std=row.std,
                seeds=row.seeds,
                higher_is_better=row.higher_is_better,
            )
            for row in metrics
        ],
        not_mirrored=known.not_mirrored,
    )


def _scores(
    version_ids: list[int], metrics: dict[int, list[Row[*tuple[Any, ...]]]]
) -> dict[ScoreKey, Scored]:
    """The best of each metric; of equals, the newest."""
    best: dict[ScoreKey, Scored] = {}
    for version_id in version_ids:
        for row in metrics.get(version_id, []):
            key = ScoreKey(row.dataset_id, row.name, row.split)
            new = Scored(version_id, row.position, row.value, row.higher_is_better)
            held = best.get(key)
            if held is None or (
                new.higher_is_better == held.higher_is_better and new.rank < held.rank
            ):
                best[key] = new
    return best
