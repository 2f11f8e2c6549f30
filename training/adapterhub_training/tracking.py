"""Where the facts of a run are recorded while it runs: a file of JSON lines, and MLflow where that is asked for."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, Self

import msgspec

from adapterhub_training.errors import TrainingError
from adapterhub_training.experiment import Experiment


class Tracker(Protocol):
    """Takes facts; what has been recorded survives a crash."""

    def record(self, event: str, **facts: object) -> None:
        """Keep one event with its facts."""


class JsonLines:
    """A file with one JSON object per event, written at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def record(self, event: str, **facts: object) -> None:
        """Append one line."""
        if self._file is not None:
            line = {"event": event, "time": round(time.time(), 3), **facts}
            self._file.write(msgspec.json.encode(line) + b"\n")


class MLflow:
    """A run of an MLflow experiment: the settings as parameters, losses and scores as metrics by step."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        try:
            import mlflow  # noqa: PLC0415  an extra of its own
        except ImportError as error:
            raise TrainingError(
                "`tracking.mlflow` needs the library `mlflow`.",
                hint='pip install "adapterhub[mlflow]"',
            ) from error
        self._mlflow: Any = mlflow

    def __enter__(self) -> Self:
        tracking, experiment = self._experiment.tracking, self._experiment
        self._mlflow.set_tracking_uri(tracking.mlflow)
        self._mlflow.set_experiment(tracking.experiment)
        self._mlflow.start_run(run_name=Path(experiment.output.folder).name)
        settings = {**msgspec.to_builtins(experiment.training), "mode": experiment.mode}
        settings |= msgspec.to_builtins(experiment.method)
        self._mlflow.log_params({key: str(value)[:500] for key, value in settings.items()})
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._mlflow.end_run("FINISHED" if kind is None else "FAILED")

    def record(self, event: str, **facts: object) -> None:
        """Log the numbers of an event."""
        step = facts.get("step")
        mark = f"seed{facts['seed']}." if "seed" in facts else ""
        values = {
            f"{mark}{event}.{name}": float(value)
            for name, value in facts.items()
            if name not in {"step", "seed"} and isinstance(value, int | float)
        }
        means = facts.get("mean")
        if isinstance(means, dict):
            values |= {f"mean.{name}": float(value) for name, value in means.items()}
        if values:
            self._mlflow.log_metrics(values, step=step if isinstance(step, int) else None)


class Several:
    """All of these."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def record(self, event: str, **facts: object) -> None:
        """Let each keep it."""
        for tracker in self._trackers:
            tracker.record(event, **facts)


@contextmanager
def tracked(path: Path, experiment: Experiment, *, is_first: bool = True) -> Iterator[Tracker]:
    """What a run is recorded with; of several processes the first one records."""
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        if is_first:
            trackers.append(stack.enter_context(JsonLines(path)))
        if is_first and experiment.tracking.mlflow:
            trackers.append(stack.enter_context(MLflow(experiment)))
        tracker = Several(trackers)
        tasks = ", ".join(task.name for task in experiment.tasks)
        tracker.record("run", task=tasks, mode=experiment.mode)
        yield tracker
