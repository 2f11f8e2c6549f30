"""A run's folder: what may not be lost in it, which seeds are done, what was reached.

A run that was killed at any moment leaves a folder that says so: `state/` names the experiment and the data it is of.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapterhub_training import checkpoint, writing
from adapterhub_training import experiment as experiments
from adapterhub_training.errors import RunExists
from adapterhub_training.experiment import Experiment
from adapterhub_training.kinds.kind import Array
from adapterhub_training.material import Lesson
from adapterhub_training.results import Choices, Results, SeedResult
from adapterhub_training.trainer import Fit

EXPERIMENT_FILE = "run.toml"
RESULTS_FILE = "results.json"
LOG_FILE = "log.jsonl"
MARK = "of"
"""what of the state says which experiment it is of, and which data"""
SCORES = "scores of "
SCORES_FILE = "scores.npy"
TASKS = "tasks"


class Kept(msgspec.Struct, frozen=True):
    """A finished seed, while others are trained: what it reached on each task."""

    results: dict[str, SeedResult]
    choices: Choices
    parameters: int


class Scored(NamedTuple):
    """What a seed reached on a task, and how good each prediction is."""

    result: SeedResult
    scores: Array


def begin(
    folder: Path, experiment: Experiment, lessons: Sequence[Lesson], *, overwrite: bool
) -> None:
    """Make the folder; an unfinished run of the same experiment and data stays, to go on.

    Raises:
        RunExists: There is an unfinished run of another experiment, and it was not to be overwritten.
    """
    text = experiments.encode(experiment)
    digests = "".join(f"# {l.name}: {l.dataset.digest}\n" for l in lessons)  # noqa: E741
    path, mark = folder / EXPERIMENT_FILE, folder / checkpoint.STATE / MARK
    if mark.is_file() and path.is_file() and not (folder / RESULTS_FILE).is_file():
        said = mark.read_text(encoding="utf-8")
        if said == text + digests:
            return
        if said and not overwrite:  # it says nothing where the training diverged
            raise RunExists(folder, unfinished=True)
    if path.is_file() and not mark.is_file():
        mark.parent.mkdir(exist_ok=True)
        mark.write_text("", encoding="utf-8")  # killed from here on, it is still a run
    _clear(folder)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(text + digests, encoding="utf-8")
    path.write_text(text, encoding="utf-8")


def require_free(folder: Path, *, overwrite: bool) -> None:
    """See that nothing will be lost but a run that is to be replaced, or was never finished."""
    if not folder.exists() or {path.name for path in folder.iterdir()} <= {checkpoint.STATE}:
        return
    finished = all((folder / name).is_file() for name in (RESULTS_FILE, EXPERIMENT_FILE))
    is_unfinished = (folder / checkpoint.STATE / MARK).is_file()
    if not (finished or is_unfinished) or (finished and not overwrite):
        raise RunExists(folder)


def forget(folder: Path) -> None:
    """Let a finished run be one that was never finished, to be done again."""
    mark = folder / checkpoint.STATE / MARK
    if (folder / RESULTS_FILE).is_file():
        mark.parent.mkdir(exist_ok=True)
        mark.write_text("", encoding="utf-8")
        (folder / RESULTS_FILE).unlink()


def _clear(folder: Path) -> None:
    """Delete a run; killed on the way, it leaves a run that was never finished."""
    for name in (RESULTS_FILE, *writing.FILES, SCORES_FILE, LOG_FILE):
        (folder / name).unlink(missing_ok=True)
    for name in ("adapter", "fusion", "head", "model", "base", TASKS):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / EXPERIMENT_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / checkpoint.STATE, ignore_errors=True)


def put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def keep(
    state: Path, fit: Fit, reached: Mapping[str, Scored], choices: Choices, parameters: int
) -> None:
    """Write down a finished seed: its weights and the score of each prediction, then what it reached."""
    state.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous().cpu() for name, value in fit.state.items()}
    tensors |= {f"{SCORES}{task}": torch.from_numpy(own.scores) for task, own in reached.items()}
    part = state / f"seed-{fit.seed}.part"
    save_file(tensors, part)
    part.replace(state / f"seed-{fit.seed}.safetensors")
    done = Kept({task: own.result for task, own in reached.items()}, choices, parameters)
    put(state / f"seed-{fit.seed}.json", msgspec.json.encode(done))


def kept(folder: Path, seed: int) -> Kept | None:
    """What a finished seed reached, or None where it is not finished."""
    path = folder / checkpoint.STATE / f"seed-{seed}.json"
    return msgspec.json.decode(path.read_bytes(), type=Kept) if path.is_file() else None


def weights(folder: Path, seed: int) -> dict[str, Tensor]:
    """The state of a finished seed's trained parts, and `scores of TASK`: how good each of its predictions is."""
    return load_file(folder / checkpoint.STATE / f"seed-{seed}.safetensors")


def write_results(folder: Path, found: Results) -> None:
    """Write `results.json`, whole or not at all."""
    put(folder / RESULTS_FILE, msgspec.json.format(msgspec.json.encode(found)) + b"\n")


def write_scores(folder: Path, scores: Array) -> None:
    """Write how good each prediction is: (seeds, examples)."""
    np.save(folder / SCORES_FILE, scores, allow_pickle=False)


def read_results(folder: Path) -> list[Results]:
    """What a finished run reached, on each of its tasks; nothing where it is not finished."""
    path = folder / RESULTS_FILE
    if not path.is_file():
        return []
    found = msgspec.json.decode(path.read_bytes())
    if "tasks" in found:
        return [each for name in found["tasks"] for each in read_results(folder / TASKS / name)]
    return [msgspec.convert(found, Results)]
