"""A task's examples by split. All is read and checked before anything starts; faults name file and line."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from adapterhub_training import kinds
from adapterhub_training.data import readers
from adapterhub_training.data.readers import DATASETS, Line, Read
from adapterhub_training.errors import BadData
from adapterhub_training.experiment import Task
from adapterhub_training.kinds import Example, Kind, Row, UnknownLabel

SPLITS = ("train", "validation", "test")
SAMPLING_SEED = 20201
HELD_OUT = 0.1
"""share of train that becomes the validation split where there is none"""


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """All splits of a task; `digest` is over every byte that was read."""

    kind: str
    scale: tuple[str, ...] = ()
    labels: tuple[str, ...]
    splits: dict[str, tuple[Example, ...]]
    digest: str
    held_out: bool
    """whether validation was cut from train, for want of its own"""

    @property
    def reported(self) -> str:
        """The split to report on: test where there is one."""
        return "test" if "test" in self.splits else "validation"

    @property
    def pairs(self) -> bool:
        """Whether a text is read with another."""
        return self.splits["train"][0].pair is not None

    @property
    def rules(self) -> Kind:
        """What its kind has to say."""
        return kinds.named(self.kind, self.scale)


def load(
    task: Task, labels: Sequence[str] = (), caps: Mapping[str, int | None] | None = None
) -> Dataset:
    """Read all splits of a task; `caps` limits a split to a random sample, the same every time.

    `labels`, of a model that exists already, win over the task's own.

    Raises:
        BadData: A file is absent or broken, or a row cannot be used.
    """
    source, found = _read_all(task)
    lines = {split: read.lines for split, read in found.items()}
    kind = kinds.named(task.kind or kinds.kind_of(lines["train"][0].row), task.scale)
    _check(lines, kind)
    known = _labels(tuple(labels) or task.labels, lines["train"], kind, source)
    splits = {split: _examples(rows, known, kind) for split, rows in lines.items()}
    held_out = "validation" not in splits
    if held_out:
        splits["train"], splits["validation"] = _hold_out(splits["train"], source)
    for split, cap in (caps or {}).items():
        if split in splits:
            splits[split] = sample(splits[split], cap)
    digest = hashlib.sha256()
    for split, read in sorted(found.items()):
        digest.update(f"{split} {read.digest}\n".encode())
    return Dataset(
        kind=kind.name,
        scale=task.scale,
        labels=known,
        splits=splits,
        digest="sha256:" + digest.hexdigest(),
        held_out=held_out,
    )


def load_split(  # noqa: PLR0913, PLR0917
    folder: Path,
    split: str,
    labels: Sequence[str],
    kind: Kind,
    scale: tuple[str, ...] = (),
    columns: Mapping[str, str] | None = None,
) -> Dataset:
    """One split of other data, with the kind, the labels and the columns of a model that exists already.

    Raises:
        BadData: The file is absent or broken, or a row cannot be used.
    """
    path = readers.file(folder, split)
    if path is None:
        raise BadData(folder, None, f"there is no {split} split in this folder", hint=_FORMATS)
    read = readers.read(path, columns or {})
    _check({split: read.lines}, kind)
    return Dataset(
        kind=kind.name,
        scale=scale,
        labels=tuple(labels),
        splits={split: _examples(read.lines, labels, kind)},
        digest="sha256:" + read.digest,
        held_out=False,
    )


def reported_split(folder: Path) -> str:
    """The split of a folder to report on: test where there is one."""
    return "test" if readers.file(folder, "test") else "validation"


def row(line: str, number: int, kind: Kind) -> Row:
    """What to predict on, from a line of input: plain text, or an object as in the data, its answer ignored.

    Raises:
        BadData: The object has no text.
    """
    source = Path("standard input")
    try:
        found = msgspec.json.decode(line, type=Row) if line.startswith("{") else Row(text=line)
    except msgspec.DecodeError as error:
        raise BadData(source, number, f"this is no example ({error})") from error
    if fault := kind.unreadable(found):
        raise BadData(source, number, fault)
    return found


def sample(examples: tuple[Example, ...], size: int | None) -> tuple[Example, ...]:
    """A random sample in the order of the file; all of them where there are no more."""
    if size is None or size >= len(examples):
        return examples
    chooser = random.Random(SAMPLING_SEED)  # noqa: S311  a sample, no secret
    return tuple(examples[i] for i in sorted(chooser.sample(range(len(examples)), size)))


_FORMATS = "a split is one file, such as train.jsonl, train.jsonl.gz, train.csv or train.parquet"


def _read_all(task: Task) -> tuple[Path, dict[str, Read]]:
    if task.data.startswith(DATASETS):
        source = Path(task.data)
        found = readers.from_datasets(task.data.removeprefix(DATASETS), task.columns)
        found = {split: read for split, read in found.items() if split in SPLITS}
        if "train" not in found:
            raise BadData(source, None, "there is no train split")
        return source, _without_hidden(found)
    source = Path(task.data)
    files = {split: path for split in SPLITS if (path := readers.file(source, split))}
    if "train" not in files:
        raise BadData(source, None, "there is no train split in this folder", hint=_FORMATS)
    return source, {split: readers.read(path, task.columns) for split, path in files.items()}


def _without_hidden(found: dict[str, Read]) -> dict[str, Read]:
    """Without a test split whose answers nobody gives away: all missing, or all one number that train has not."""
    test, train = found.get("test"), found["train"].lines
    if test is None:
        return found
    hidden = {line.row.label is None for line in test.lines} == {True}
    hidden = hidden and any(line.row.label is not None for line in train)
    scores = {line.row.score for line in test.lines}
    constant = len(scores) == 1 and scores != {None} and len(test.lines) > 1
    if constant and not scores & {line.row.score for line in train}:
        hidden = True
    return {split: read for split, read in found.items() if split != "test" or not hidden}


def _check(lines: Mapping[str, list[Line]], kind: Kind) -> None:
    """Refuse rows that are not of the kind, or not of the shape that the data began with."""
    began: Row | None = None
    for line in (line for rows in lines.values() for line in rows):
        if fault := kind.fault(line.row):
            raise BadData(line.path, line.number, fault)
        began = began or line.row
        if (line.row.text is None) != (began.text is None):
            first, this = ("pairs", "a sentence") if began.text is None else ("sentences", "a pair")
            raise BadData(
                line.path, line.number, f"this is {this}, where the data began with {first}"
            )


def _labels(given: tuple[str, ...], train: list[Line], kind: Kind, source: Path) -> tuple[str, ...]:
    if not kind.has_labels:
        return ()
    known = given or tuple(sorted(kind.names(line.row for line in train), key=_as_numbers))
    if len(known) < 2:  # noqa: PLR2004
        said = f"all examples have the one label {known[0]!r}" if known else "there are no labels"
        raise BadData(train[0].path if train else source, None, said)
    return known


def _as_numbers(label: str) -> tuple[int, str]:
    """The order of labels: numbers by their value, before words."""
    return (int(label), "") if label.isdecimal() else (2**63, label)


def _examples(lines: list[Line], labels: Sequence[str], kind: Kind) -> tuple[Example, ...]:
    examples = []
    for line in lines:
        try:
            examples.append(kind.example(line.row, labels))
        except UnknownLabel as error:
            raise BadData(
                line.path,
                line.number,
                str(error),
                hint="known labels: " + ", ".join(error.known),
            ) from error
    return tuple(examples)


def _hold_out(
    examples: tuple[Example, ...], source: Path
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    if len(examples) < 2:  # noqa: PLR2004
        raise BadData(source, None, "one example is not enough to learn from and to choose by")
    count = max(1, round(len(examples) * HELD_OUT))
    chooser = random.Random(SAMPLING_SEED)  # noqa: S311  a sample, no secret
    held = set(chooser.sample(range(len(examples)), count))
    rest = tuple(example for at, example in enumerate(examples) if at not in held)
    return rest, tuple(examples[at] for at in sorted(held))
