"""What is measured of the best seed once all are trained: what it costs to use, and how a fusion uses its members."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from adapterhub_training import batches, checkpoint, learner
from adapterhub_training.batches import Split
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.experiment import Training
from adapterhub_training.kinds import Kind, Prediction
from adapterhub_training.material import Lesson
from adapterhub_training.results import Attention, AttentionLayer, Extra, Pruned, Shown
from adapterhub_training.subject import Member, Part, Subject
from adapterhub_training.world import ALONE

SHOWN = 6
"""examples"""
LONGEST_SHOWN = 400
"""letters of an example's text"""
LOOKED_AT = 512
"""units of the split that attention is measured on"""
EMBEDDED = 500
"""training texts that are embedded"""
TIMED = 32
"""texts of the batch that is timed"""
REPEATS = 7


EXACT = Training(precision="float32")
"""as whoever uses the weights will compute"""


def measure(subject: Subject, lesson: Lesson, selected: Evaluation, folder: Path) -> Extra:
    """Measure a subject that is in its best state and written to a folder; `selected`: on validation."""
    split = lesson.splits[lesson.dataset.reported]
    subject.eval()
    overhead, note = latency(subject, lesson.name, split)
    fusions = list(subject.adapted.fusions)
    with torch.no_grad():
        seen = attention(subject, lesson.name, split) if fusions else None
        vector = embedding(subject, lesson.splits["train"])
    extra = Extra(
        latency_overhead=overhead,
        latency_note=note,
        attention=seen,
        pruning=tuple(pruning(subject, lesson, selected)) if fusions else (),
        examples=tuple(examples(subject, lesson, selected)),
        embedding=tuple(round(float(value), 5) for value in vector),
        file_bytes=weights_size(folder),
    )
    subject.adapted.deactivate()
    return extra


def weights_size(folder: Path) -> int:
    """The bytes of a run's weights; not of what it needs to go on after a crash."""
    found = folder.rglob("*.safetensors")
    own = (path for path in found if checkpoint.STATE not in path.relative_to(folder).parts)
    return sum(path.stat().st_size for path in own)


def latency(subject: Subject, task: str, split: Split) -> tuple[float, str]:
    """The time of a forward pass over that of the bare base, and on what that was measured."""
    order = sorted(range(len(split)), key=split.lengths.__getitem__)
    middle = len(order) // 2
    rows = order[max(0, middle - TIMED // 2) :][:TIMED]
    batch = split.batch(rows, multiple=subject.multiple).to(subject.device)
    inputs = {k: v.flatten(0, -2) for k, v in batch.inputs.items()}
    part = Part(subject.members[0], rows)

    def own() -> None:
        subject.forward(split, task, [part])

    def bare() -> None:
        subject.adapted.backbone.module(**inputs)

    with torch.no_grad():
        own()
        owns = [_timed(own, subject.device) for _ in range(REPEATS)]
        subject.adapted.deactivate()
        subject.forget_composition()
        bare()
        bares = [_timed(bare, subject.device) for _ in range(REPEATS)]
    ratio = statistics.median(owns) / statistics.median(bares)
    return round(ratio, 4), f"{len(rows)} texts of {inputs['input_ids'].shape[-1]} tokens, float32"


def attention(subject: Subject, task: str, split: Split) -> Attention:
    """What the fusion attends to, layer by layer."""
    sums: dict[int, Tensor] = {}
    squares: dict[int, Tensor] = {}
    counts: dict[int, float] = {}
    names: tuple[str, ...] = ()
    rows = list(range(len(split)))[:LOOKED_AT]
    order = batches.ordered([split.lengths[row] for row in rows], learner.EVALUATION_BATCH)
    for units in order:
        subject.forward(split, task, [Part(subject.members[0], units)])
        _, real = split.spread(split.sequences(units), multiple=subject.multiple)
        mask = torch.from_numpy(real).double()
        for seen in subject.adapted.attention():
            weights = seen.weights.double().cpu() * mask[..., None]
            squared = seen.weights.double().cpu() ** 2 * mask[..., None]
            sums[seen.layer] = sums.get(seen.layer, torch.zeros(())) + weights.sum((0, 1))
            squares[seen.layer] = squares.get(seen.layer, torch.zeros(())) + squared.sum((0, 1))
            counts[seen.layer] = counts.get(seen.layer, 0.0) + float(mask.sum())
            names = seen.adapters
    layers = []
    for layer in sorted(sums):
        means = sums[layer] / counts[layer]
        spread = (squares[layer] / counts[layer] - means**2).clamp(min=0).sqrt()
        layers.append(
            AttentionLayer(
                layer=layer,
                weights=tuple(round(float(value), 6) for value in means),
                std=tuple(round(float(value), 6) for value in spread),
            )
        )
    tokens = int(max(counts.values(), default=0))
    return Attention(members=names, layers=tuple(layers), tokens=tokens)


def pruning(subject: Subject, lesson: Lesson, selected: Evaluation) -> list[Pruned]:
    """What the fusion of its m most attended members reaches, for every m, on the reported split.

    What is chosen on a split, such as thresholds, is what was chosen on validation.
    """
    clock = time.perf_counter if subject.device.type == "cuda" else time.process_time
    adapted, (member,) = subject.adapted, subject.members
    name, split = next(iter(adapted.fusions)), lesson.splits[lesson.dataset.reported]
    looked = looked_at(subject, lesson)
    subject.eval()
    found, whole = list[Pruned](), 0.0
    for keep in range(len(adapted.fusions[name].members), 0, -1):
        adapted.deactivate()
        kept, fewer = tuple(adapted.fusions[name].members), member
        if keep < len(kept):
            with torch.no_grad():
                pruned = adapted.prune_fusion(name, keep, looked, pruned_name(keep))
            kept = pruned.kept
            compositions: dict[str, str | None] = {lesson.name: pruned.name}
            fewer = Member(member.seed, compositions, member.heads, [])
        subject.forget_composition()
        began = clock()
        taken = learner.predict(subject, lesson.name, split, EXACT, ALONE, members=[fewer])[0]
        seconds = clock() - began
        labels = lesson.dataset.labels
        reached = lesson.kind.evaluate(split.encoded, taken, labels, selected)
        whole = whole or seconds
        found.append(
            Pruned(
                kept=kept,
                value=reached.value(lesson.metric),
                relative_time=round(seconds / whole, 3),
            )
        )
    adapted.deactivate()
    subject.forget_composition()
    return found


def looked_at(subject: Subject, lesson: Lesson) -> list[dict[str, Tensor]]:
    """The batches of validation on which the members that are kept are chosen."""
    split = lesson.splits["validation"]
    units = list(range(min(LOOKED_AT, len(split))))
    size = learner.EVALUATION_BATCH
    return [
        split.batch(units[at : at + size]).to(subject.device).inputs
        for at in range(0, len(units), size)
    ]


def pruned_name(keep: int) -> str:
    """What a fusion of so many members is called."""
    return f"kept-{keep}"


def examples(subject: Subject, lesson: Lesson, selected: Evaluation) -> list[Shown]:
    """The first few of the reported split, with what is predicted."""
    split = lesson.splits[lesson.dataset.reported]
    dataset, count = lesson.dataset, min(SHOWN, len(split))
    taken = learner.predict(subject, lesson.name, split.first(count), EXACT, ALONE)[0]
    told = lesson.kind.told(split.first(count).encoded, taken, dataset.labels, selected)
    asked = dataset.splits[dataset.reported][: len(told)]
    return [
        _shown(example.text, example.pair, lesson.kind, example.target, own, dataset.labels)
        for example, own in zip(asked, told, strict=False)
    ]


def embedding(subject: Subject, split: Split) -> Tensor:
    """The mean of what the bare base makes of the training texts, over their tokens: (features,).

    Source: TextEmb (Vu et al. 2020); Poth et al. 2021 found it to choose sources well.
    """
    subject.adapted.deactivate()
    subject.forget_composition()
    subject.eval()
    step = max(1, len(split) // EMBEDDED)
    total, texts = torch.zeros(subject.adapted.backbone.hidden_size, dtype=torch.float64), 0
    rows = list(range(0, len(split), step))
    order = batches.ordered([split.lengths[row] for row in rows], learner.EVALUATION_BATCH)
    for places in order:
        units = [rows[at] for at in places]
        batch = split.batch(units).to(subject.device)
        inputs = {k: v.flatten(0, -2) for k, v in batch.inputs.items()}
        _, real = split.spread(split.sequences(units))
        mask = torch.from_numpy(real).double()[..., None]
        hidden = subject.adapted.backbone.module(**inputs).last_hidden_state.double().cpu()
        total += ((hidden * mask).sum(1) / mask.sum(1)).sum(0)
        texts += len(hidden)
    return total / texts


def _timed(call: Callable[[], None], device: torch.device) -> float:
    """Seconds of a call; on a CPU those that this process worked, since others may work too."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    began = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began


def _shown(  # noqa: PLR0913, PLR0917
    text: str | tuple[str, ...],
    pair: str | tuple[str, ...] | None,
    kind: Kind,
    target: object,
    told: Prediction,
    labels: Sequence[str],
) -> Shown:
    label = None
    if kind.name in {"classification", "multiple_choice"} and isinstance(target, int):
        label = labels[target]
    return Shown(
        text=_cut(text),
        pair=None if pair is None else _cut(pair),
        label=label,
        probabilities=told.probabilities,
        value=told.score,
    )


def _cut(text: str | tuple[str, ...]) -> str:
    words = text if isinstance(text, str) else " · ".join(text)
    return words if len(words) <= LONGEST_SHOWN else words[: LONGEST_SHOWN - 1] + "…"
