"""What an import met that was not as it should be, and what it did about it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

Kind = Literal[
    "unreadable",
    "malformed_name",
    "reserved_name",
    "file_name",
    "file_ending",
    "dependency_key",
    "unknown_dependency",
    "float_factor",
    "language",
    "metric_name",
    "unknown_metric",
    "empty_field",
    "handle",
    "old_gelu",
    "language_adapter",
    "version_name",
    "default_version",
    "duplicate",
    "checksum",
    "address",
    "changed_upstream",
    "existing_organization",
    "archive",
    "config_differs",
    "not_mirrored",
]


Note = Callable[[Kind, str, str, str], None]
"""takes a finding: its kind, the document, what is wrong, what is done"""


class Finding(msgspec.Struct, frozen=True):
    """One thing: in which document, what was wrong, and what was done."""

    kind: Kind
    subject: str
    wrong: str
    done: str


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much an import read, changed and fetched."""

    entries: int
    files: int
    tasks: int
    subtasks: int
    architectures: int
    identifiers: int
    created: int
    updated: int
    unchanged: int
    mirrored: int
    """files whose weights this import brought"""
    mirrored_before: int
    not_mirrored: int
    """files that are recorded without their weights"""


class Report(msgspec.Struct, frozen=True):
    """All of an import: how much, and every finding."""

    counts: Counts
    findings: list[Finding]


def table(report: Report) -> str:
    """The report for people: the counts, and each kind of finding with its number and an example."""
    counts = report.counts
    lines = [
        f"{counts.entries} entries with {counts.files} file versions of {counts.identifiers} adapters",
        f"{counts.tasks} tasks, {counts.subtasks} subtasks, {counts.architectures} architectures",
        f"{counts.created} created, {counts.updated} updated, {counts.unchanged} unchanged",
        f"{counts.mirrored} mirrored now and {counts.mirrored_before} before",
        f"{counts.not_mirrored} recorded without their weights",
    ]
    return "\n".join([*lines, *_grouped(report.findings)])


def _grouped(findings: Sequence[Finding]) -> Iterable[str]:
    numbers = Counter(finding.kind for finding in findings)
    first = {finding.kind: finding for finding in reversed(findings)}
    if not numbers:
        return
    width = max(len(kind) for kind in numbers)
    yield ""
    yield f"{'finding'.ljust(width)}  count  for example"
    for kind, number in sorted(numbers.items(), key=lambda item: (-item[1], item[0])):
        example = first[kind]
        sentence = f"{example.subject}: {example.wrong}; {example.done}"
        yield f"{kind.ljust(width)}  {number:5}  {sentence}"
