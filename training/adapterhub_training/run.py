"""One run from its experiment to its folder: read, train every seed, keep the best, write everything down.

The folder: `run.toml` (the experiment with every default, its members pinned), `log.jsonl` (what happened, as it
happened), `adapter/`, `fusion/` or `head/` (the best seed's weights), `report.md`, `push.json` (for
`adapterhub-client push`), and last `results.json`: where it is, the run is complete.
"""

import importlib.metadata
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from adapterhub_client.formats.folder import RUN
from adapterhub_training import backbone, batches, data, report, results, subject, trainer
from adapterhub_training import experiment as experiments
from adapterhub_training.backbone import Backbone
from adapterhub_training.batches import Encoded
from adapterhub_training.data import Dataset
from adapterhub_training.errors import BadExperiment, RunExists
from adapterhub_training.experiment import Experiment
from adapterhub_training.memory import Memory
from adapterhub_training.progress import Display
from adapterhub_training.provenance import push_file
from adapterhub_training.results import Results, SeedResult
from adapterhub_training.subject import Subject
from adapterhub_training.tracking import JsonLines
from adapterhub_training.trainer import Watch

EXPERIMENT_FILE = "run.toml"
RESULTS_FILE = "results.json"
LOG_FILE = "log.jsonl"
REPORT_FILE = "report.md"
PUSH_FILE = RUN
VERSIONS = ("adapterhub", "torch", "transformers")


class Ready(NamedTuple):
    """All that a run needs, read and checked; the experiment's members are pinned."""

    experiment: Experiment
    dataset: Dataset
    base: Backbone
    encoded: dict[str, Encoded]


def run(experiment: Experiment, display: Display, *, overwrite: bool = False) -> Results:
    """Train what the experiment asks for and write its folder.

    Raises:
        BadData: The data cannot be used; found before anything starts, as are the next three.
        BadExperiment: The base cannot read texts of this length, or two members have one name.
        BaseModelNotFound: There is no base model at this place.
        RunExists: The folder is not empty, and was not to be overwritten.
        Diverged: A loss is not finite any more.
    """
    folder = Path(experiment.output.folder)
    _require_free(folder, overwrite=overwrite)
    ready = prepare(experiment)
    _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EXPERIMENT_FILE).write_text(experiments.encode(ready.experiment), encoding="utf-8")
    display.say(_opening(ready))

    seeds, memory = list[SeedResult](), Memory()
    with JsonLines(folder / LOG_FILE) as tracker:
        tracker.record("run", task=experiment.task.name, mode=experiment.mode)
        for seed in experiment.training.seeds:
            torch.manual_seed(seed)
            labels = ready.dataset.labels
            with subject.prepared(ready.base, ready.experiment, labels, memory) as prepared:
                trained = sum(parameter.numel() for parameter in prepared.parameters)
                seeds.append(train(prepared, ready, seed, Watch(display, tracker)))
                if results.best_of(seeds, experiment.task.metric) is seeds[-1]:
                    subject.save(prepared.adapted, experiment, folder)
                    members = subject.unpublished(prepared.adapted)

    found = _results(ready, seeds, trained, subject.base_fingerprint(folder), members)
    write(folder, experiment, found)
    return found


def prepare(experiment: Experiment) -> Ready:
    """Read the data, load the base and the members, tokenise: everything that can be wrong is found here."""
    settings, dataset = experiment.training, read_data(experiment)
    base = backbone.load(experiment.base.path, trainer.device_of(settings))
    _require_positions(base, settings.max_length)
    pinned = subject.pinned(base, experiment, dataset.labels)
    encoded = {
        split: batches.encode(base.tokenizer, examples, settings.max_length)
        for split, examples in dataset.splits.items()
    }
    return Ready(pinned, dataset, base, encoded)


def train(prepared: Subject, ready: Ready, seed: int, watch: Watch) -> SeedResult:
    """Train one seed and score its best checkpoint on the split that is reported."""
    experiment, dataset, encoded = ready.experiment, ready.dataset, ready.encoded
    settings, labels = experiment.training, dataset.labels
    try:
        fitted = trainer.fit(
            prepared,
            encoded["train"],
            encoded["validation"],
            experiment,
            labels=labels,
            seed=seed,
            watch=watch,
        )
    finally:
        watch.display.end()
    reported = fitted.selected
    if dataset.reported != "validation":
        reported = trainer.evaluate(prepared, encoded[dataset.reported], labels, settings)
    result = SeedResult(
        seed=seed,
        selected=fitted.selected,
        reported=reported,
        best_step=fitted.best_step,
        steps=fitted.steps,
        stopped_early=fitted.stopped_early,
        seconds=round(fitted.seconds, 3),
        curve=fitted.curve,
    )
    watch.tracker.record("seed", seed=seed, accuracy=reported.accuracy, macro_f1=reported.macro_f1)
    metric = experiment.task.metric
    watch.display.say(
        f"{experiment.task.name}, seed {seed}: {metric} {reported.value(metric):.4f} on "
        f"{dataset.reported} (step {fitted.best_step} of {fitted.steps}, {fitted.seconds:.1f} s)"
    )
    return result


def read_data(experiment: Experiment, labels: Sequence[str] = ()) -> Dataset:
    """Read and check the experiment's data; ``labels``, of a model that exists already, win over its own."""
    settings = experiment.training
    caps = {
        "train": settings.train_examples,
        "validation": settings.validation_examples,
        "test": settings.test_examples,
    }
    return data.load(Path(experiment.task.data), labels or experiment.task.labels, caps)


def write(folder: Path, experiment: Experiment, found: Results) -> None:
    """Write the files that say what came out; `results.json` last."""
    (folder / REPORT_FILE).write_text(report.markdown(found), encoding="utf-8")
    push = push_file(experiment, found, folder)
    if push is not None:
        (folder / PUSH_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(push)) + b"\n")
    document = msgspec.json.format(msgspec.json.encode(found))
    (folder / RESULTS_FILE).write_bytes(document + b"\n")


def hardware(device: torch.device) -> str:
    """The device's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _results(
    ready: Ready,
    seeds: list[SeedResult],
    trained: int,
    identity: str | None,
    members: dict[str, str],
) -> Results:
    experiment, dataset, base, encoded = ready
    settings, train = experiment.training, encoded["train"]
    mean, std = results.over_seeds(seeds)
    order = batches.shuffled(train, settings.batch_size, settings.seeds[0])
    return Results(
        task=experiment.task.name,
        dataset=experiment.dataset,
        mode=experiment.mode,
        method=subject.method_name(experiment),
        base=experiment.base.path,
        base_fingerprint=identity,
        labels=dataset.labels,
        pairs=dataset.pairs,
        metric=experiment.task.metric,
        split=dataset.reported,
        held_out=dataset.held_out,
        mean=mean,
        std=std,
        seeds=tuple(seeds),
        best_seed=results.best_of(seeds, experiment.task.metric).seed,
        examples={split: len(examples) for split, examples in dataset.splits.items()},
        data_digest=dataset.digest,
        members=members,
        padding_share=batches.padding_share(train, order),
        parameters_trained=trained,
        parameters_base=sum(parameter.numel() for parameter in base.model.parameters()),
        seconds=round(sum(seed.seconds for seed in seeds), 3),
        hardware=hardware(base.model.device),
        versions={name: importlib.metadata.version(name) for name in VERSIONS}
        | {"python": platform.python_version()},
    )


def _opening(ready: Ready) -> str:
    splits, held_out = ready.dataset.splits, ready.dataset.held_out
    counts = ", ".join(f"{len(examples):,} {split}" for split, examples in splits.items())
    method = subject.method_name(ready.experiment)
    held = " (cut from train)" if held_out else ""
    return f"{ready.experiment.task.name}: {method} on {counts}{held}"


def _require_free(folder: Path, *, overwrite: bool) -> None:
    """See that nothing will be lost but a run that is to be replaced, or was never finished."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    finished, is_run = (folder / RESULTS_FILE).is_file(), (folder / EXPERIMENT_FILE).is_file()
    if not is_run or (finished and not overwrite):
        raise RunExists(folder)


def _require_positions(base: Backbone, max_length: int) -> None:
    most = backbone.positions(base.model)
    if most is not None and max_length > most:
        raise BadExperiment(
            f"`training.max_length` is {max_length}, but the base model reads at most {most} tokens.",
            hint=f"`--set training.max_length={most}`",
        )


def _clear(folder: Path) -> None:
    """Delete a run; killed on the way, it leaves a run that was never finished."""
    for name in (RESULTS_FILE, PUSH_FILE, REPORT_FILE, LOG_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in subject.FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / EXPERIMENT_FILE).unlink(missing_ok=True)


def _processor() -> str:
    """The processor's name where Linux tells it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
