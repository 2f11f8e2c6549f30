"""Examples from a folder of `.jsonl` or `.jsonl.gz` files: one object a line, the labels as strings.

A line is `{"text", "label"}` or `{"text_a", "text_b", "label"}`; other keys are ignored. Everything is read and checked
before anything starts: whatever cannot be used is an error that names file and line.
"""

import gzip
import hashlib
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from adapterhub_training.errors import BadData

SPLITS = ("train", "validation", "test")
ENDINGS = (".jsonl", ".jsonl.gz")
SAMPLING_SEED = 20201
HELD_OUT = 0.1
"""share of train that becomes the validation split where there is none"""


class Example(msgspec.Struct, frozen=True):
    """A sentence or a pair of them, and the position of its label."""

    text: str
    pair: str | None
    label: int


class Dataset(msgspec.Struct, frozen=True):
    """All splits of a task; `digest` is over every byte that was read."""

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
        """Whether these are pairs of sentences."""
        return self.splits["train"][0].pair is not None


class _Row(msgspec.Struct, frozen=True):
    text: str | None = None
    text_a: str | None = None
    text_b: str | None = None
    label: str | None = None


class _Line(msgspec.Struct, frozen=True):
    """A row and where it stands."""

    path: Path
    number: int
    row: _Row


def load(
    folder: Path, labels: Sequence[str] = (), caps: dict[str, int | None] | None = None
) -> Dataset:
    """Read all splits of a folder; `caps` limits a split to a random sample, the same every time.

    Raises:
        BadData: A file is absent or broken, or a row cannot be used.
    """
    files = {split: path for split in SPLITS if (path := _file(folder, split))}
    if "train" not in files:
        raise BadData(folder, None, "there is no train.jsonl or train.jsonl.gz in this folder")
    digest, lines = hashlib.sha256(), {}
    for split, path in files.items():
        content = _content(path)
        digest.update(f"{split} {len(content)}\n".encode() + content)
        lines[split] = _lines(path, content)
    known = tuple(labels) or tuple(sorted({str(line.row.label) for line in lines["train"]}))
    if len(known) < 2:  # noqa: PLR2004
        raise BadData(files["train"], None, f"all examples have the one label {known[0]!r}")
    _same_shape(lines)
    splits = {split: _examples(rows, known) for split, rows in lines.items()}
    held_out = len(splits) == 1 or "validation" not in splits
    if held_out:
        splits["train"], splits["validation"] = _hold_out(splits["train"])
    for split, cap in (caps or {}).items():
        if split in splits:
            splits[split] = sample(splits[split], cap)
    return Dataset(known, splits, "sha256:" + digest.hexdigest(), held_out)


def load_split(folder: Path, split: str, labels: Sequence[str]) -> tuple[Example, ...]:
    """Read one split, with the labels of a model that exists already.

    Raises:
        BadData: The file is absent or broken, or a row cannot be used.
    """
    path = _file(folder, split)
    if path is None:
        raise BadData(folder, None, f"there is no {split}.jsonl or {split}.jsonl.gz in this folder")
    return _examples(_lines(path, _content(path)), labels)


def reported_split(folder: Path) -> str:
    """The split of a folder to report on: test where there is one."""
    return "test" if _file(folder, "test") else "validation"


def texts(line: str, number: int) -> tuple[str, str | None]:
    """What to predict on, from a line of input: plain text, or an object as in the data, its label ignored.

    Raises:
        BadData: The object has no text.
    """
    if not line.startswith("{"):
        return line, None
    source = Path("standard input")
    try:
        row = msgspec.structs.replace(msgspec.json.decode(line, type=_Row), label="?")
    except msgspec.DecodeError as error:
        raise BadData(source, number, f"this is no example ({error})") from error
    if fault := _fault(row):
        raise BadData(source, number, fault)
    return (str(row.text), None) if row.text_b is None else (str(row.text_a), row.text_b)


def sample(examples: tuple[Example, ...], size: int | None) -> tuple[Example, ...]:
    """A random sample in the order of the file; all of them where there are no more."""
    if size is None or size >= len(examples):
        return examples
    chooser = random.Random(SAMPLING_SEED)  # noqa: S311  a sample, no secret
    return tuple(examples[i] for i in sorted(chooser.sample(range(len(examples)), size)))


def _hold_out(
    examples: tuple[Example, ...],
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    held = set(sample(examples, max(1, round(len(examples) * HELD_OUT))))
    rest = tuple(example for example in examples if example not in held)
    return rest, tuple(example for example in examples if example in held)


def _file(folder: Path, split: str) -> Path | None:
    if not folder.is_dir():
        raise BadData(folder, None, "there is no such folder")
    paths = [folder / (split + ending) for ending in ENDINGS]
    return next((path for path in paths if path.is_file()), None)


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(path, None, f"this is no gzip file, or a broken one ({error})") from error


def _lines(path: Path, content: bytes) -> list[_Line]:
    decoder = msgspec.json.Decoder(_Row)
    lines = []
    for number, text in enumerate(content.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            row = decoder.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadData(path, number, f"this is no example ({error})") from error
        if fault := _fault(row):
            raise BadData(path, number, fault)
        lines.append(_Line(path, number, row))
    if not lines:
        raise BadData(path, None, "the file has no examples")
    return lines


def _fault(row: _Row) -> str | None:
    if row.text is not None and (row.text_a is not None or row.text_b is not None):
        return "`text` and `text_a`, `text_b` exclude each other"
    pair = row.text is None
    for key in ("text_a", "text_b") if pair else ("text",):
        value = getattr(row, key)
        if value is None:
            return f"there is no `{key}`" if row.text_a or row.text_b else "there is no text"
        if not value.strip():
            return f"`{key}` is empty"
    if not row.label:
        return "there is no `label`"
    return None


def _same_shape(lines: dict[str, list[_Line]]) -> None:
    """All rows are single sentences, or all are pairs."""
    pairs = lines["train"][0].row.text is None
    for line in (line for rows in lines.values() for line in rows):
        if (line.row.text is None) != pairs:
            first, this = ("pairs", "a sentence") if pairs else ("sentences", "a pair")
            raise BadData(
                line.path, line.number, f"this is {this}, where the data began with {first}"
            )


def _examples(lines: list[_Line], labels: Sequence[str]) -> tuple[Example, ...]:
    positions = {label: position for position, label in enumerate(labels)}
    examples = []
    for line in lines:
        row = line.row
        if row.label not in positions:
            raise BadData(
                line.path,
                line.number,
                f"the label {row.label!r} is unknown",
                hint="known labels: " + ", ".join(labels),
            )
        text = row.text if row.text is not None else row.text_a
        examples.append(Example(str(text), row.text_b, positions[row.label]))
    return tuple(examples)
