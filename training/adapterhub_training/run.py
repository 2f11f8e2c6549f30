"""One run from its experiment to its folder: read, train every seed, keep the best, write everything down.

The folder: `run.toml` (the experiment with every default, its members pinned), `log.jsonl` (what happened, as it
happened), `adapter/`, `fusion/`, `head/`, `model/` or `tasks/` (the best seed's weights), `scores.npy` (how good each
prediction is: seeds, examples), `report.md`, `push.json` (for `adapterhub-client push`), and last `results.json`: where
it is, the run is complete. Until then `state/` has what it takes to go on after a crash.
"""

import importlib.metadata
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from adapterhub_training import (
    batches,
    building,
    checkpoint,
    closing,
    economy,
    learner,
    results,
    runfolder,
    trainer,
    workshop,
    writing,
)
from adapterhub_training import experiment as experiments
from adapterhub_training.backbone import Backbone
from adapterhub_training.errors import Diverged
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.experiment import (
    AdapterMethod,
    Base,
    Experiment,
    MultitaskMethod,
    Training,
)
from adapterhub_training.kinds.kind import Array
from adapterhub_training.material import Lesson
from adapterhub_training.progress import Display, Quiet
from adapterhub_training.results import Choices, Extra, Results, SeedResult
from adapterhub_training.runfolder import Kept, Scored
from adapterhub_training.subject import Member, Subject
from adapterhub_training.tracking import Tracker, tracked
from adapterhub_training.trainer import Fit, Watch
from adapterhub_training.workshop import Workshop
from adapterhub_training.world import ALONE, World, same_everywhere

VERSIONS = ("adapterhub", "torch", "transformers")


class Ready(NamedTuple):
    """All that a run needs, read and checked; the experiment's members are pinned."""

    experiment: Experiment
    lessons: list[Lesson]
    base: Backbone


class Around(NamedTuple):
    """What a run is not about: who watches, with whom it trains, what it shares with other runs, when it must stop."""

    display: Display
    shop: Workshop
    world: World = ALONE
    wants_to_stop: Callable[[], bool] = lambda: False


def run(
    experiment: Experiment,
    display: Display,
    *,
    overwrite: bool = False,
    around: Around | None = None,
) -> list[Results]:
    """Train what the experiment asks for and write its folder; the results of each task.

    An unfinished run of the same experiment goes on from where it was.

    Raises:
        BadData: The data cannot be used; found before anything starts, as are the next three.
        BadExperiment: The base cannot read texts of this length, or two members have one name.
        BaseModelNotFound: There is no base model at this place.
        RunExists: The folder is not empty, and was not to be overwritten.
        Diverged: A loss is not finite any more.
        Interrupted: It was asked to stop; run again, it goes on.
    """
    around = around or Around(display, Workshop())
    if not around.world.is_first:
        around = around._replace(display=Quiet())
    folder = Path(experiment.output.folder)
    runfolder.require_free(folder, overwrite=overwrite)
    ready = prepare(experiment, around.shop)
    if around.world.is_first:
        runfolder.begin(folder, ready.experiment, ready.lessons, overwrite=overwrite)
    around.world.agree(None)
    around.display.say(writing.opening(ready.experiment, ready.lessons))
    with tracked(
        folder / runfolder.LOG_FILE, experiment, is_first=around.world.is_first
    ) as tracker:
        found = _train_all(ready, folder, around, tracker)
        around.world.agree(None)
        written = _close(ready, folder, found, around, tracker)
        around.world.agree(None)  # what comes next may read what this one has written
        return written


def prepare(experiment: Experiment, shop: Workshop) -> Ready:
    """Read the data, load the base and the members, tokenise: everything that can be wrong is found here."""
    base = shop.base(experiment)
    lessons = shop.lessons(experiment)
    pinned = building.pinned(base, experiment, workshop.datasets(lessons))
    return Ready(pinned, lessons, base)


def _train_all(ready: Ready, folder: Path, around: Around, tracker: Tracker) -> dict[int, Kept]:
    """Train every seed that is not done yet."""
    seeds = ready.experiment.training.seeds
    together, reason = economy.gang(*ready, around.world)
    groups = [seeds] if together else [(seed,) for seed in seeds]
    for group in groups:
        if all(runfolder.kept(folder, seed) for seed in group):
            continue
        _train(ready, folder, group, around, tracker, reason)
    return {seed: kept for seed in seeds if (kept := runfolder.kept(folder, seed)) is not None}


def _train(  # noqa: PLR0913, PLR0917
    ready: Ready,
    folder: Path,
    seeds: Sequence[int],
    around: Around,
    tracker: Tracker,
    reason: str,
) -> None:
    """Train one seed, or several in one pass, and keep what they reached."""
    experiment, lessons, base = ready
    world, display, state = around.world, around.display, folder / checkpoint.STATE
    tasks = workshop.datasets(lessons)
    torch.manual_seed(seeds[0])
    with building.prepared(base, experiment, tasks, seeds) as subject:
        same_everywhere(subject.parameters, world)
        began = torch.get_rng_state()
        layers, size, why = economy.keep_states(subject, experiment, lessons, display, world)
        torch.set_rng_state(began)  # what was computed drew nothing that counts
        choices = Choices(
            gang=len(seeds) > 1, cached_layers=layers, cache_bytes=size, reasons=(reason, why)
        )
        display.say(f"  {reason}; {why}")
        watch = Watch(display, tracker, around.wants_to_stop)
        try:
            fits = trainer.fit(subject, lessons, experiment, watch=watch, folder=state, world=world)
        except Diverged:
            (state / checkpoint.FILE).unlink(missing_ok=True)  # nothing comes of going on
            runfolder.put(state / runfolder.MARK, b"")
            raise
        finally:
            display.end()
        found = _scored(subject, lessons, fits, experiment, world)
        count = sum(parameter.numel() for parameter in subject.members[0].parameters)
        if world.is_first:
            for fit, reached in zip(fits, found, strict=True):
                runfolder.keep(state, fit, reached, choices, count)
            (state / checkpoint.FILE).unlink(missing_ok=True)
            for fit, reached in zip(fits, found, strict=True):
                _tell(lessons, fit, reached, display, tracker)
        world.agree(None)


def _scored(
    subject: Subject,
    lessons: Sequence[Lesson],
    fits: Sequence[Fit],
    experiment: Experiment,
    world: World,
) -> list[dict[str, Scored]]:
    """Score the best state of each seed on the split that is reported, in float32: as whoever uses it will."""
    subject.adapted.load_state_dict({n: v for fit in fits for n, v in fit.state.items()})
    exact = msgspec.structs.replace(experiment.training, precision="float32")
    if learner.is_half(subject.device, experiment.training):
        subject.states.clear()  # what was kept was computed in bf16 as well
    found: list[dict[str, Scored]] = [{} for _ in fits]
    for lesson in lessons:
        split = lesson.splits[lesson.dataset.reported]
        taken = learner.predict(subject, lesson.name, split, exact, world)
        for own, fit, outputs in zip(found, fits, taken, strict=True):
            selected = fit.selected[lesson.name]
            reached, scores = _judged(lesson, outputs, selected)
            result = SeedResult(
                seed=fit.seed,
                selected=selected,
                reported=reached,
                best_step=fit.best_step,
                steps=fit.steps,
                stopped_early=fit.stopped_early,
                seconds=round(fit.seconds, 3),
                curve=fit.curve,
            )
            own[lesson.name] = Scored(result, scores)
    return found


def score(
    subject: Subject, lesson: Lesson, member: Member, selected: Evaluation
) -> tuple[Evaluation, Array]:
    """Score a member on the split that is reported, with what was chosen on validation; and each prediction."""
    split, exact = lesson.splits[lesson.dataset.reported], Training(precision="float32")
    taken = learner.predict(subject, lesson.name, split, exact, ALONE, members=[member])[0]
    return _judged(lesson, taken, selected)


def _judged(
    lesson: Lesson, taken: Sequence[Array], selected: Evaluation
) -> tuple[Evaluation, Array]:
    # What is chosen on a split, such as thresholds, was chosen on validation.
    encoded, labels = lesson.splits[lesson.dataset.reported].encoded, lesson.dataset.labels
    reached = lesson.kind.evaluate(encoded, taken, labels, selected)
    return reached, lesson.kind.scores(encoded, taken, labels, selected)


def _close(
    ready: Ready, folder: Path, kept: Mapping[int, Kept], around: Around, tracker: Tracker
) -> list[Results]:
    """Save the best seed's weights, measure it, and write everything down; `results.json` last."""
    experiment, lessons, base = ready
    best = _best(lessons, kept)
    tasks = workshop.datasets(lessons)
    extras: dict[str, Extra] = {}
    around.display.say("  measuring the best seed")
    with building.prepared(base, experiment, tasks, [best]) as subject:
        _load(subject, runfolder.weights(folder, best), best)
        if around.world.is_first:
            building.save(subject, experiment, folder)
            for lesson in lessons:
                own = folder / runfolder.TASKS / lesson.name if len(lessons) > 1 else folder
                selected = kept[best].results[lesson.name].selected
                extras[lesson.name] = closing.measure(subject, lesson, selected, own)
        members = building.unpublished(subject.adapted)
    if not around.world.is_first:
        return []
    found = []
    for lesson in lessons:
        scores = {seed: each.results[lesson.name] for seed, each in kept.items()}
        reached = _results(ready, lesson, scores, best, kept[best], extras[lesson.name])
        place, asked = _place(experiment, lesson, folder)
        reached = msgspec.structs.replace(
            reached,
            members=members,
            base=asked.base.path,
            base_fingerprint=building.base_fingerprint(place),
        )
        each = [
            runfolder.weights(folder, seed)[runfolder.SCORES + lesson.name].numpy() for seed in kept
        ]
        runfolder.write_scores(place, np.stack(each))
        if place != folder:
            (place / runfolder.EXPERIMENT_FILE).write_text(
                experiments.encode(asked), encoding="utf-8"
            )
        writing.write(place, asked, reached)
        if place != folder:
            runfolder.write_results(place, reached)
        found.append(reached)
    for reached in found:
        tracker.record("result", task=reached.task, mean=reached.mean, std=reached.std)
    if len(lessons) > 1:
        document = {"tasks": [lesson.name for lesson in lessons]}
        runfolder.put(folder / runfolder.RESULTS_FILE, msgspec.json.encode(document))
    else:
        runfolder.write_results(folder, found[0])
    shutil.rmtree(folder / checkpoint.STATE, ignore_errors=True)
    return found


def hardware(device: torch.device) -> str:
    """The device's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _place(experiment: Experiment, lesson: Lesson, folder: Path) -> tuple[Path, Experiment]:
    """The folder of a task's results, and the experiment that its weights are of.

    A task that was learned together with others is from then on an adapter like any other, on the base that they share.
    """
    method = experiment.method
    if not isinstance(method, MultitaskMethod):
        return folder, experiment
    place = folder / runfolder.TASKS / lesson.name
    task = next(task for task in experiment.tasks if task.name == lesson.name)
    path = str(folder / "base") if method.shared == "base" else experiment.base.path
    output = msgspec.structs.replace(experiment.output, folder=str(place), reference=None)
    alone = msgspec.structs.replace(
        experiment,
        tasks=(task,),
        base=Base(path=path),
        method=AdapterMethod(config=method.config),
        output=output,
    )
    return place, alone


def _results(  # noqa: PLR0913, PLR0917
    ready: Ready,
    lesson: Lesson,
    own: Mapping[int, SeedResult],
    best: int,
    kept: Kept,
    extra: Extra,
) -> Results:
    experiment, dataset, base = ready.experiment, lesson.dataset, ready.base
    task = next(task for task in experiment.tasks if task.name == lesson.name)
    settings, train = experiment.training, lesson.splits["train"]
    seeds = [own[seed] for seed in settings.seeds]
    mean, std = results.over_seeds(seeds)
    order = batches.shuffled(train.lengths, settings.batch_size, settings.seeds[0], 0)
    return Results(
        task=lesson.name,
        dataset=task.dataset or task.name,
        kind=dataset.kind,
        mode=experiment.mode,
        method=building.method_name(experiment),
        base=experiment.base.path,
        base_fingerprint=None,
        labels=dataset.labels,
        scale=dataset.scale,
        pairs=dataset.pairs,
        metric=lesson.metric,
        higher_is_better=lesson.higher_is_better,
        split=dataset.reported,
        held_out=dataset.held_out,
        mean=mean,
        std=std,
        seeds=tuple(seeds),
        best_seed=best,
        examples={split: len(examples) for split, examples in dataset.splits.items()},
        truncated={name: split.encoded.truncated for name, split in lesson.splits.items()},
        data_digest=dataset.digest,
        padding_share=batches.padding_share(train.lengths, order),
        parameters_trained=kept.parameters,
        parameters_base=sum(parameter.numel() for parameter in base.model.parameters()),
        seconds=round(sum(seed.seconds for seed in seeds), 3),
        target=settings.target,
        choices=kept.choices,
        extra=extra,
        hardware=hardware(base.model.device),
        versions={name: importlib.metadata.version(name) for name in VERSIONS}
        | {"python": platform.python_version()},
    )


def _best(lessons: Sequence[Lesson], kept: Mapping[int, Kept]) -> int:
    """The seed that was best on validation, over all tasks; the first of equals."""

    def good(seed: int) -> float:
        own = kept[seed].results
        values = [
            (1 if lesson.higher_is_better else -1) * own[lesson.name].selected.value(lesson.metric)
            for lesson in lessons
        ]
        return sum(values) / len(values)

    return max(kept, key=good)


def _tell(
    lessons: Sequence[Lesson],
    fit: Fit,
    reached: Mapping[str, Scored],
    display: Display,
    tracker: Tracker,
) -> None:
    for lesson in lessons:
        found = reached[lesson.name].result.reported
        tracker.record("seed", seed=fit.seed, task=lesson.name, **found.values)
        display.say(
            f"{lesson.name}, seed {fit.seed}: {lesson.metric} {found.value(lesson.metric):.4f} on "
            f"{lesson.dataset.reported} (step {fit.best_step} of {fit.steps}, {fit.seconds:.1f} s)"
        )


def _load(subject: Subject, state: Mapping[str, Tensor], seed: int) -> None:
    """Load what was trained alone, or among other seeds under the seed's own names."""
    wanted = subject.adapted.state_dict()
    (member,) = subject.members
    own = {
        **{f"adapter {n}-{seed}.": f"adapter {n}." for n in member.compositions.values() if n},
        **{f"head {name}-{seed}.": f"head {name}." for name in member.heads.values()},
    }
    found = {}
    for name, value in state.items():
        for before, after in own.items():
            name = name.replace(before, after)  # noqa: PLW2901  one name becomes the other
        if name in wanted:
            found[name] = value
    subject.adapted.load_state_dict(found)


def _processor() -> str:
    """The processor's name where Linux tells it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
