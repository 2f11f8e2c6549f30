"""One step of training: batches in, better weights out. And the same weights asked about a split."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from adapterhub_client.compose.engine import products
from adapterhub_training import batches
from adapterhub_training.batches import Batch, Split
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.experiment import Experiment, FusionMethod, MultitaskMethod, Training
from adapterhub_training.kinds.kind import Array, Sums
from adapterhub_training.material import Lesson, Timetable
from adapterhub_training.subject import Member, Part, Subject
from adapterhub_training.world import World

EVALUATION_BATCH = 64
AHEAD = 32
"""steps whose batches a CPU makes together: one alone is made in cold caches, which takes five times as long"""
_SMALLEST = 1e-12
T = TypeVar("T")


class Work(NamedTuple):
    """What one step learns from."""

    lesson: Lesson
    parts: list[Part]
    draw: int
    """decides what is drawn for its batch"""


class Ahead(Generic[T]):
    """Makes what coming steps need several steps at a time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._made: dict[tuple[int, tuple[int, ...]], T] = {}

    def take(self, step: int, seeds: tuple[int, ...], last: int, make: Callable[[int], T]) -> T:
        """What `make` makes for a step, of which `last` is the last; other seeds than before begin anew."""
        if (step, seeds) not in self._made:
            until = max(step + 1, min(step + self._count, last + 1))
            self._made = {(at, seeds): make(at) for at in range(step, until)}
        return self._made.pop((step, seeds))


class Learner:
    """A subject with its optimizer."""

    def __init__(
        self,
        subject: Subject,
        experiment: Experiment,
        lessons: Sequence[Lesson],
        world: World,
        *,
        ahead: int = AHEAD,
    ) -> None:
        self.subject = subject
        # A GPU works on a step while the next batch is made, and would wait for several.
        count = ahead if subject.device.type == "cpu" else 1
        self._ahead: Ahead[tuple[Work, Batch]] = Ahead(count)
        self.lessons, self.world = lessons, world
        self._settings = experiment.training
        method = experiment.method
        self._pull = method.regularization if isinstance(method, FusionMethod) else 0.0
        self.optimizer = torch.optim.AdamW(_groups(subject, experiment), fused=True)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.losses = {m.seed: torch.zeros((), device=subject.device) for m in subject.members}

    def learn(
        self, timetable: Timetable, step: int, members: Sequence[Member], *, rate: float
    ) -> None:
        """One step of these members; their losses are added up in `losses`."""
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        if self._settings.micro_batch_size is None and self.world.size == 1:
            seeds = tuple(member.seed for member in members)

            def make(at: int) -> tuple[Work, Batch]:
                work = self._work(timetable, at, members)
                return work, self._batch(work)

            self._at_once(*self._ahead.take(step, seeds, timetable.steps, make))
        else:
            self._in_parts(self._work(timetable, step, members))
        for member in members:
            nn.utils.clip_grad_norm_(member.parameters, self._settings.clip_norm, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _work(self, timetable: Timetable, step: int, members: Sequence[Member]) -> Work:
        turn = timetable.turn(step)
        parts = [Part(m, self.world.share(timetable.rows(turn, m.seed))) for m in members]
        return Work(self.lessons[turn.task], parts, members[0].seed * 1_000_003 + step)

    def _batch(self, work: Work) -> Batch:
        return self.subject.batch(work.lesson.splits["train"], work.parts, draw=work.draw)

    def _at_once(self, work: Work, batch: Batch) -> None:
        losses = [total / weight for total, weight in self._sums(work, batch)]
        for part, loss in zip(work.parts, losses, strict=True):
            self.losses[part.member.seed] += loss.detach()
        together = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        if self._pull:
            together = together + self._pull * self.subject.regularization()
        together.backward()  # type: ignore[no-untyped-call]

    def _in_parts(self, work: Work) -> None:
        """Add up the gradients of parts, over micro-batches and processes, then divide by what all weigh."""
        size = self._settings.micro_batch_size
        members = [part.member for part in work.parts]
        totals = {m.seed: torch.zeros(2, device=self.subject.device) for m in members}
        shares = zip(*(batches.micro(part.rows, size) for part in work.parts), strict=True)
        for number, rows in enumerate(shares):
            if not any(rows):
                continue
            parts = [Part(member, own) for member, own in zip(members, rows, strict=True)]
            share = Work(work.lesson, parts, work.draw + number)
            sums = self._sums(share, self._batch(share))
            torch.stack([total for total, _ in sums]).sum().backward()  # type: ignore[no-untyped-call]
            for member, (total, weight) in zip(members, sums, strict=True):
                totals[member.seed] += torch.stack(
                    [total.detach(), torch.as_tensor(weight).to(total)]
                )
        grads: list[Tensor] = []
        for member in members:
            for parameter in member.parameters:
                if parameter.grad is None and self.world.size > 1:
                    parameter.grad = torch.zeros_like(parameter)
            grads += [p.grad for p in member.parameters if p.grad is not None]
        self.world.add_up([*grads, *totals.values()])
        for member in members:
            total, weight = totals[member.seed]
            own = [p.grad for p in member.parameters if p.grad is not None]
            torch._foreach_div_(own, weight.clamp(min=_SMALLEST))
            self.losses[member.seed] += total / weight.clamp(min=_SMALLEST)
        if self._pull:
            (self._pull * self.subject.regularization()).backward()  # type: ignore[no-untyped-call]

    def _sums(self, work: Work, batch: Batch) -> list[Sums]:
        lesson = work.lesson
        split = lesson.splits["train"]
        with precision(self.subject.device, self._settings):
            answers = self.subject.forward(split, lesson.name, work.parts, batch=batch)
            sums = [lesson.kind.sums(a.output, a.targets, lesson.wanted) for a in answers]
        return [each._replace(weight=_at_least(each.weight)) for each in sums]


def evaluate(  # noqa: PLR0913
    subject: Subject,
    lesson: Lesson,
    split: Split,
    settings: Training,
    world: World,
    *,
    members: Sequence[Member] | None = None,
) -> list[Evaluation]:
    """Score each member on a split."""
    taken = predict(subject, lesson.name, split, settings, world, members=members)
    labels = lesson.dataset.labels
    return [lesson.kind.evaluate(split.encoded, own, labels) for own in taken]


def predict(  # noqa: PLR0913
    subject: Subject,
    task: str,
    split: Split,
    settings: Training,
    world: World,
    *,
    members: Sequence[Member] | None = None,
) -> list[list[Array]]:
    """What each member puts out for every unit of a split, in their order."""
    subject.eval()
    asked = subject.members if members is None else members
    order = batches.ordered(split.lengths, EVALUATION_BATCH)
    found: list[dict[int, Array]] = [{} for _ in asked]
    with torch.no_grad(), precision(subject.device, settings), quick(subject, settings):
        for rows in world.share(range(len(order))):
            units = order[rows]
            answers = subject.forward(split, task, [Part(member, units) for member in asked])
            for own, answer in zip(found, answers, strict=True):
                own.update(zip(units, split.kind.take(answer.output, answer.targets), strict=True))
    everyone = world.gather(found)
    return [
        [
            {row: array for share in everyone for row, array in share[at].items()}[row]
            for row in range(len(split))
        ]
        if world.size > 1
        else [own[row] for row in range(len(split))]
        for at, own in enumerate(found)
    ]


def device_of(settings: Training) -> torch.device:
    """The device to train on."""
    if settings.device != "auto":
        return torch.device(settings.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(
    device: torch.device, settings: Training
) -> contextlib.AbstractContextManager[object]:
    """Autocast to bf16 where that is asked for, or where CUDA can do it."""
    return (
        torch.autocast(device.type, torch.bfloat16)
        if is_half(device, settings)
        else contextlib.nullcontext()
    )


def quick(subject: Subject, settings: Training) -> contextlib.AbstractContextManager[object]:
    """The quicker products, where torch's compiler does not choose them itself."""
    return contextlib.nullcontext() if settings.compile else products.quick(subject.adapted)


def is_half(device: torch.device, settings: Training) -> bool:
    """Whether it is computed in bf16."""
    return settings.precision == "bfloat16" or (
        settings.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )


def _groups(subject: Subject, experiment: Experiment) -> list[dict[str, Any]]:
    """The parameters by how they are trained.

    Value maps of fusions are pulled to the identity, and norms and biases of the base are no matrices: none of these
    decays.
    """
    settings, method = experiment.training, experiment.method
    peak = experiment.learning_rate
    below = method.base_learning_rate if isinstance(method, MultitaskMethod) else peak
    maps = {id(value) for value in subject.value_maps}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in _named(subject):
        is_base = name.startswith("model.")
        decays = id(parameter) not in maps and not (is_base and parameter.dim() < 2)  # noqa: PLR2004
        key = below if is_base else peak, settings.weight_decay if decays else 0.0
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _named(subject: Subject) -> Iterator[tuple[str, nn.Parameter]]:
    return ((n, p) for n, p in subject.adapted.named_parameters() if p.requires_grad)


def _at_least(weight: Tensor | float) -> Tensor | float:
    """A weight that can be divided by."""
    return max(weight, _SMALLEST) if isinstance(weight, float) else weight.clamp(min=_SMALLEST)


def is_finite(*values: float) -> bool:
    """Whether all are numbers."""
    return all(math.isfinite(value) for value in values)
