"""What can go wrong for a user of the trainer, and with which exit code.

HubError (of the client)
└── TrainingError             1
    ├── BadExperiment         2   the experiment file asks for something that cannot be
    ├── BadData              65   a row, a label or a file of the data; names file and line
    ├── WrongShape           65   a sentence for a model of pairs, or a pair for one of sentences
    ├── MemberChanged        65   a member of the run's fusion has other weights now
    ├── NotARun              66   the folder holds no finished run
    ├── RunExists            73   the folder holds another run already
    ├── StudyChanged         73   a run of the study was made with other settings or data
    ├── NotTheSame            70   an exported file computes something else
    ├── Interrupted           75   it was stopped in time, and goes on when it is run again
    └── Diverged             70   the loss is no number any more
"""

from collections.abc import Sequence
from pathlib import Path

from adapterhub_client.errors import HubError


class TrainingError(HubError):
    """Anything a user of the trainer can meet."""


class BadExperiment(TrainingError):
    """The experiment file asks for something that cannot be."""

    exit_code = 2


class BadData(TrainingError):
    """The data cannot be used as it is."""

    exit_code = 65

    def __init__(
        self, path: Path, line: int | None, fault: str, *, hint: str | None = None
    ) -> None:
        place = f"'{path}'" if line is None else f"'{path}', line {line}"
        super().__init__(f"{place}: {fault}.", hint=hint)
        self.path, self.line, self.fault = path, line, fault


class WrongShape(TrainingError):
    """A sentence for a model of pairs, or a pair for one of sentences."""

    exit_code = 65

    def __init__(self, *, pairs: bool) -> None:
        trained, given = ("pairs", "a sentence") if pairs else ("single sentences", "a pair")
        super().__init__(
            f"The run was trained on {trained}, and this is {given}.",
            hint="give `--text` and `--text-b`" if pairs else "give `--text` alone",
        )


class MemberChanged(TrainingError):
    """A member of the run's fusion was never published, and has other weights now."""

    exit_code = 65

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            f"The fusion was trained on other weights of {', '.join(map(repr, names))}.",
            hint="train the run again; a member that is published and named by its reference stays as it was",
        )
        self.names = tuple(names)


class NotARun(TrainingError):
    """The folder holds no finished run."""

    exit_code = 66

    def __init__(self, folder: Path, missing: str) -> None:
        super().__init__(
            f"'{folder}' is no finished run: it has no `{missing}`.",
            hint="`adapterhub-train run FILE.toml` makes one",
        )
        self.folder, self.missing = folder, missing


class RunExists(TrainingError):
    """The folder holds something already, and nothing may be lost."""

    exit_code = 73

    def __init__(self, folder: Path, *, unfinished: bool = False) -> None:
        super().__init__(
            f"'{folder}' has an unfinished run of another experiment, or of other data."
            if unfinished
            else f"'{folder}' is not empty.",
            hint="choose another folder with `--output`, or replace the run in it with `--overwrite`",
        )
        self.folder = folder


class StudyChanged(TrainingError):
    """A run of the study was made with other settings or other data than it would be now."""

    exit_code = 73

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(
            f"'{folder}' was made with other {what} than it would be now.",
            hint="choose another folder with `--output`, or do all runs again with `--overwrite`",
        )
        self.folder = folder


class Diverged(TrainingError):
    """The loss is no number any more; nothing sensible can come of this run."""

    exit_code = 70

    def __init__(self, step: int, seed: int) -> None:
        super().__init__(
            f"The loss is not finite any more at step {step} of seed {seed}.",
            hint="a lower `training.learning_rate` helps most often",
        )
        self.step, self.seed = step, seed


class Interrupted(TrainingError):
    """It was asked to stop before it was done."""

    exit_code = 75

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(
            f"Stopped at step {step:,} of {steps:,}.",
            hint="run the same command again: it goes on from there",
        )
        self.step, self.steps = step, steps


class NotTheSame(TrainingError):
    """An exported file does not compute what the model does."""

    exit_code = 70

    def __init__(self, difference: float) -> None:
        super().__init__(
            f"The exported file's outputs differ by {difference:.2g}; it is not kept.",
            hint="please report this with the versions of torch and onnxscript",
        )
        self.difference = difference
