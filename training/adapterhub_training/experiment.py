"""One TOML file as frozen structs: everything a run depends on.

Paths in the file are relative to the file; paths given on the command line are relative to the working directory.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from adapterhub_client import names
from adapterhub_training.errors import BadExperiment

PACKAGE = "package:"
PATHS = (("task", "data"), ("base", "path"), ("method", "own"), ("output", "folder"))
COUNTS = (
    "epochs",
    "batch_size",
    "evaluations_per_epoch",
    "max_length",
    "max_steps",
    "patience",
    "train_examples",
    "validation_examples",
    "test_examples",
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; a key it does not know is refused."""


class Task(Section, frozen=True, kw_only=True):
    """What is learned, and from which data."""

    name: str
    """the adapter's name, as composition expressions use it"""
    data: str
    """a folder with train, validation and test, each `.jsonl` or `.jsonl.gz`"""
    dataset: str = ""
    """under which the metrics are listed; the task's name where empty"""
    labels: tuple[str, ...] = ()
    """in the order of the head's outputs; sorted as found where empty"""
    metric: Literal["accuracy", "macro_f1"] = "accuracy"
    """decides which checkpoint and which seed are best"""


class Base(Section, frozen=True, kw_only=True):
    """The frozen transformer: a folder, `package:NAME`, or a name that transformers resolves."""

    path: str


class AdapterMethod(Section, frozen=True, kw_only=True, tag_field="mode", tag="adapter"):
    """Train a new adapter and its head (ST-A)."""

    config: str = "seq_bn[reduction_factor=16]"
    learning_rate: ClassVar[float] = 1e-3


class FusionMethod(Section, frozen=True, kw_only=True, tag_field="mode", tag="fusion"):
    """Train an AdapterFusion over frozen members, and its head."""

    members: tuple[str, ...]
    """references or folders"""
    own: str = ""
    """the adapter of this very task, as the last member; its head is where the new one starts"""
    regularization: float = 1.0
    """factor on the engine's pull of V towards the identity"""
    learning_rate: ClassVar[float] = 5e-4


class HeadMethod(Section, frozen=True, kw_only=True, tag_field="mode", tag="head"):
    """Train only a head on the frozen base: what adapters have to beat."""

    learning_rate: ClassVar[float] = 1e-3


class Training(Section, frozen=True, kw_only=True):
    """How it is trained."""

    seeds: tuple[int, ...] = (42,)
    epochs: int = 10
    max_steps: int | None = None
    learning_rate: float | None = None
    """the mode's own where absent"""
    batch_size: int = 32
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    patience: int | None = None
    """evaluations without progress before it stops early; never where absent"""
    evaluations_per_epoch: int = 1
    max_length: int = 128
    """in tokens; longer texts are cut"""
    train_examples: int | None = None
    """a random sample of this size, the same for all seeds; all where absent"""
    validation_examples: int | None = None
    test_examples: int | None = None
    dropout: bool = True
    """whether the frozen base keeps its dropout while training, as in the AdapterFusion paper's code"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Output(Section, frozen=True, kw_only=True):
    """Where the run goes, and what its manifest says when it is pushed."""

    folder: str = ""
    """`runs/<name of the file>` in the working directory where empty"""
    reference: str | None = None
    description: str = ""
    license: str | None = None
    languages: tuple[str, ...] = ()
    citation: str | None = None


class Experiment(Section, frozen=True, kw_only=True):
    """Everything a run depends on."""

    task: Task
    base: Base
    method: AdapterMethod | FusionMethod | HeadMethod
    training: Training = Training()
    output: Output = Output()

    @property
    def mode(self) -> str:
        """What is trained: `adapter`, `fusion` or `head`."""
        return str(self.method.__struct_config__.tag)

    @property
    def learning_rate(self) -> float:
        """The one given, or the mode's own."""
        given = self.training.learning_rate
        return self.method.learning_rate if given is None else given

    @property
    def dataset(self) -> str:
        """Under which the metrics are listed."""
        return self.task.dataset or self.task.name


def read(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file; each override, `table.key=value` or `table={...}`, wins over it.

    Raises:
        BadExperiment: The file is absent or no TOML, or a key or value cannot be; the message says which.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadExperiment(f"'{path}' cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadExperiment(f"'{path}' is no TOML: {error}.") from error
    _anchor(tables, path.parent)
    for override in overrides:
        _override(tables, override)
    experiment = decode(tables, str(path))
    if experiment.output.folder:
        return experiment
    folder = str(Path("runs", path.stem).absolute())
    output = msgspec.structs.replace(experiment.output, folder=folder)
    return msgspec.structs.replace(experiment, output=output)


def decode(tables: dict[str, Any], source: str) -> Experiment:
    """Check plain tables and make an experiment of them.

    Raises:
        BadExperiment: A key or value cannot be; the message says which.
    """
    try:
        experiment = msgspec.convert(tables, Experiment)
    except msgspec.ValidationError as error:
        raise BadExperiment(f"'{source}': {error}.", hint=_nearest(str(error))) from error
    for fault in _faults(experiment):
        raise BadExperiment(f"'{source}': {fault}.")
    return experiment


def encode(experiment: Experiment) -> str:
    """The experiment as TOML, every default written out; None has no spelling there and is left out."""
    lines = []
    for table, values in msgspec.to_builtins(experiment).items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {_value(value)}" for key, value in values.items() if value is not None]
        lines.append("")
    return "\n".join(lines)


def _value(value: str | float | bool | list[Any]) -> str:  # noqa: FBT001  any TOML value
    # JSON's strings, numbers, booleans and lists are TOML's too, once DEL is escaped.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def _anchor(tables: dict[str, Any], folder: Path) -> None:
    """Make the paths absolute; what is a package, a reference or a hub name stays."""
    for table, key in PATHS:
        value = tables.get(table, {}).get(key) if isinstance(tables.get(table), dict) else None
        if isinstance(value, str) and value:
            only_paths = (table, key) in {("task", "data"), ("output", "folder")}
            tables[table][key] = _anchored(value, folder, only_paths=only_paths)
    method = tables.get("method")
    if isinstance(method, dict) and isinstance(method.get("members"), list):
        method["members"] = [
            _anchored(member, folder) if isinstance(member, str) else member
            for member in method["members"]
        ]


def _anchored(value: str, folder: Path, *, only_paths: bool = False) -> str:
    path = folder / Path(value).expanduser()
    if value.startswith(PACKAGE) or not (only_paths or path.is_dir()):
        return value
    return str(path.resolve())


def _override(tables: dict[str, Any], override: str) -> None:
    """Set one value, or a whole table."""
    place, equals, text = (part.strip() for part in override.partition("="))
    table, dot, key = place.partition(".")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a string without its quotes, as one types it in a shell
    if not equals or not (dot or isinstance(value, dict)):
        raise BadExperiment(
            f"`--set {override}` does not say what to set.",
            hint="for example `--set training.epochs=2`",
        )
    given = {table: {key: value} if dot else value}
    _anchor(given, Path())
    if dot and isinstance(tables.get(table), dict):
        tables[table] |= given[table]
    else:
        tables[table] = given[table]


def _faults(experiment: Experiment) -> list[str]:
    task, training, method = experiment.task, experiment.training, experiment.method
    faults = [
        f"`training.{key}` must be at least 1, not {value}"
        for key in COUNTS
        if (value := getattr(training, key)) is not None and value < 1
    ]
    if not NAME.fullmatch(task.name):
        faults.append(f"`task.name` {task.name!r} may hold only letters, digits, `_` and `-`")
    if len(set(task.labels)) != len(task.labels):
        faults.append("`task.labels` names a label twice")
    if not training.seeds or len(set(training.seeds)) != len(training.seeds):
        faults.append("`training.seeds` must be different numbers, at least one")
    above = {"learning_rate": experiment.learning_rate, "clip_norm": training.clip_norm}
    faults += [
        f"`training.{key}` must be a number above 0, not {value}"
        for key, value in above.items()
        if not 0 < value < math.inf
    ]
    if not 0 <= training.weight_decay < math.inf:
        faults.append("`training.weight_decay` must be a number, at least 0")
    if not 0 <= training.warmup_fraction < 1:
        faults.append("`training.warmup_fraction` must be from 0 to below 1")
    if isinstance(method, FusionMethod):
        faults += _fusion_faults(method)
    if experiment.output.reference is not None and not names.is_reference(
        experiment.output.reference
    ):
        faults.append(f"`output.reference` {experiment.output.reference!r} is not TASK/NAME@ORG")
    return faults


def _fusion_faults(method: FusionMethod) -> list[str]:
    faults = []
    if len(method.members) + bool(method.own) < 2:  # noqa: PLR2004
        faults.append("`method.members` must name at least two adapters to fuse")
    if not 0 <= method.regularization < math.inf:
        faults.append("`method.regularization` must be a number, at least 0")
    return faults


def _nearest(message: str) -> str | None:
    unknown = re.search(r"unknown field `(.+?)`", message)
    if not unknown:
        return None
    sections = (Task, Base, AdapterMethod, FusionMethod, HeadMethod, Training, Output, Experiment)
    keys = {key for section in sections for key in section.__struct_fields__}
    near = difflib.get_close_matches(unknown[1], keys, n=1)
    return f"did you mean `{near[0]}`?" if near else None
