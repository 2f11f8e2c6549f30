"""Rank adapters as sources for new data, by three signs that need nothing but vectors and weights.

- `text`: the cosine of what the bare base makes of the texts, with what the adapter's report says of its own training
  texts; both without what all have in common.
- `weights`: the likeness of the adapter's weights with those of one that is trained on the new data for a moment.
- `logme`: how well a linear model on the adapter's features explains the new labels.

The recommendation is the mean of the ranks. Sources: Poth et al. 2021 (text embeddings), Zhou et al. 2022 (weights),
You et al. 2021 (LogME).
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from adapterhub_client import Hub, compose, fingerprint
from adapterhub_client.errors import HubError
from adapterhub_client.formats.folder import CONFIG
from adapterhub_client.wire import REPORT_FILE, Report
from adapterhub_training import batches, building, closing, learner, trainer, workshop
from adapterhub_training.backbone import Backbone
from adapterhub_training.experiment import AdapterMethod, Base, Experiment, Output, Task, Training
from adapterhub_training.material import Lesson
from adapterhub_training.progress import Display, Quiet
from adapterhub_training.recommending.likeness import likeness
from adapterhub_training.recommending.logme import logme
from adapterhub_training.run import Ready, prepare
from adapterhub_training.subject import Subject
from adapterhub_training.tracking import Several
from adapterhub_training.trainer import Watch
from adapterhub_training.workshop import Workshop

EXAMPLES = 500
"""of the new data"""
STEPS = 60
"""in which an adapter is trained for its weights to be compared"""
PROBE = "probe"
Floats = NDArray[np.float64]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter, where it is and what it says of its data."""

    name: str
    folder: str
    report: Report | None = None


class Recommended(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter with the signs for it; None where one cannot be taken. `rank` is the mean of their ranks."""

    name: str
    rank: float
    text: float | None = None
    weights: float | None = None
    logme: float | None = None


def asked(data: str, base: str, max_length: int) -> Experiment:
    """The experiment that new data is read with."""
    settings = Training(
        train_examples=EXAMPLES,
        validation_examples=1,
        max_length=max_length,
        max_steps=STEPS,
        epochs=STEPS,
        dropout=False,
        batch_size=16,
    )
    return Experiment(
        tasks=(Task(name=PROBE, data=data),),
        base=Base(path=base),
        method=AdapterMethod(),
        training=settings,
        output=Output(folder=""),
    )


def candidates(
    base: Backbone, places: Sequence[str], hub: Hub | None, most: int, display: Display
) -> list[Candidate]:
    """The adapters in these places, or those of the hub that fit the base; what cannot be pulled is passed over."""
    if places:
        return [
            _candidate(place, Path(place)) if Path(place).is_dir() else _pulled(place, hub)
            for place in places
        ]
    assert hub is not None  # noqa: S101  whoever gives no places gives a hub
    identity = fingerprint.of_model(base.model)
    found: list[Candidate] = []
    page = hub.compatible(identity.root)
    newest: dict[str, str] = {}
    while True:
        for version in page.items:
            newest.setdefault(
                f"{version.reference} {version.variant}", f"{version.reference}:{version.digest}"
            )
        if page.next is None or len(newest) >= most:
            break
        page = hub.compatible(identity.root, after=page.next)
    for reference in list(newest.values())[:most]:
        try:
            found.append(_pulled(reference, hub))
        except HubError as error:
            display.say(f"{reference}: {error}")
    return found


def recommend(
    experiment: Experiment, found: Sequence[Candidate], display: Display
) -> list[Recommended]:
    """Rank candidates, the most promising first. Compositions, and what does not fit the base, are passed over.

    Raises:
        HubError: The data or the base cannot be used.
    """
    ready = prepare(experiment, Workshop())
    tasks = workshop.datasets(ready.lessons)
    torch.manual_seed(0)
    display.begin("comparing adapters", len(found) + 1)
    texts: list[Floats | None] = []
    weights: list[float | None] = []
    evidence: list[float | None] = []
    usable: list[Candidate] = []
    try:
        with building.prepared(ready.base, ready.experiment, tasks, [0]) as subject:
            own = _embedding(subject, ready.lessons[0])
            trainer.fit(subject, ready.lessons, ready.experiment, watch=Watch(Quiet(), Several(())))
            probe = subject.adapted.adapters[PROBE]
            subject.adapted.deactivate()
            display.step("")
            for candidate in found:
                display.step(candidate.name)
                try:
                    taken = _signs(subject, ready, candidate)
                except HubError as error:
                    display.say(f"{candidate.name}: {error}")
                    continue
                usable.append(candidate)
                texts.append(_vector(candidate))
                weights.append(likeness(probe, subject.adapted.adapters[taken[0]]))
                evidence.append(taken[1])
                subject.adapted.delete(taken[0])
    finally:
        display.end()
    near = _nearness(own, texts)
    ranks = _ranks([near, weights, evidence])
    rows = [
        Recommended(name=candidate.name, rank=rank, text=text, weights=weight, logme=value)
        for candidate, rank, text, weight, value in zip(
            usable, ranks, near, weights, evidence, strict=True
        )
    ]
    return sorted(rows, key=lambda row: row.rank)


def text(rows: Sequence[Recommended]) -> str:
    """The ranking as a table."""
    header = ["", "adapter", "text", "weights", "logme"]
    cells = [
        [str(at), row.name, *(_number(value) for value in (row.text, row.weights, row.logme))]
        for at, row in enumerate(rows, start=1)
    ]
    widths = [max(len(line[at]) for line in [header, *cells]) for at in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [header, *cells]
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signs(subject: Subject, ready: Ready, candidate: Candidate) -> tuple[str, float | None]:
    """Load a candidate; its name, and the evidence of its features."""
    adapted, lesson = subject.adapted, ready.lessons[0]
    name = adapted.load(candidate.folder, "candidate")
    targets = _targets(lesson)
    if targets is None:
        return name, None
    adapted.activate(name, head=False)
    try:
        features = _features(adapted, lesson, subject)
    finally:
        adapted.deactivate()
        subject.forget_composition()
    return name, logme(features, targets)


@torch.no_grad()
def _features(adapted: compose.Adapted, lesson: Lesson, subject: Subject) -> Floats:
    """The mean over its tokens of what base and adapter make of each text: (texts, features)."""
    split = lesson.splits["train"]
    adapted.eval()
    found = np.empty((len(split), adapted.backbone.hidden_size))
    for rows in batches.ordered(split.lengths, learner.EVALUATION_BATCH):
        batch = split.batch(rows).to(subject.device)
        _, real = split.spread(split.sequences(rows))
        mask = torch.from_numpy(real).double()[..., None]
        hidden = adapted.backbone.module(**batch.inputs).last_hidden_state.double().cpu()
        found[rows] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return found


def _targets(lesson: Lesson) -> Floats | None:
    """Labels as columns of 0 and 1, or numbers; None for kinds that have neither."""
    targets = lesson.splits["train"].encoded.targets
    match lesson.kind.name:
        case "classification":
            return np.asarray(np.eye(len(lesson.dataset.labels))[np.asarray(targets)])
        case "multilabel":
            rows: Floats = np.zeros((len(targets), len(lesson.dataset.labels)))
            for row, (given, _) in enumerate(targets):
                rows[row, list(given)] = 1
            return rows
        case "regression":
            return np.asarray(targets, dtype=np.float64)[:, None]
    return None


def _embedding(subject: Subject, lesson: Lesson) -> Floats:
    with torch.no_grad():
        return np.asarray(closing.embedding(subject, lesson.splits["train"]).numpy())


def _vector(candidate: Candidate) -> Floats | None:
    vector = candidate.report.embedding if candidate.report is not None else None
    return np.asarray(vector) if vector else None


def _nearness(own: Floats, others: Sequence[Floats | None]) -> list[float | None]:
    """Cosines, without what all vectors have in common."""
    known = [vector for vector in others if vector is not None and vector.shape == own.shape]
    if not known:
        return [None] * len(others)
    common = np.mean([own, *known], axis=0) if len(known) > 1 else np.zeros_like(own)
    return [
        _cosine(own - common, vector - common)
        if vector is not None and vector.shape == own.shape
        else None
        for vector in others
    ]


def _cosine(first: Floats, second: Floats) -> float:
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / size if size else 0.0


def _ranks(signs: Sequence[Sequence[float | None]]) -> list[float]:
    """The mean rank of each candidate over the signs that it has; last where it has none."""
    count = len(signs[0])
    places: list[list[float]] = [[] for _ in range(count)]
    for values in signs:
        known = sorted((v for v in values if v is not None), reverse=True)
        for at, value in enumerate(values):
            if value is not None:
                places[at].append(1 + known.index(value))
    return [float(np.mean(own)) if own else float(count + 1) for own in places]


def _pulled(reference: str, hub: Hub | None) -> Candidate:
    return _candidate(reference.partition(":")[0], Path((hub or Hub()).pull(reference)))


def _candidate(name: str, folder: Path) -> Candidate:
    inner = folder if (folder / CONFIG).is_file() else folder / "adapter"
    report = None
    if (inner / REPORT_FILE).is_file():
        report = msgspec.json.decode((inner / REPORT_FILE).read_bytes(), type=Report)
    return Candidate(name=name, folder=str(inner), report=report)
