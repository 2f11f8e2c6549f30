"""Rows from JSON lines, CSV, Parquet and `datasets`, each with the place it stands at.

A cell of a table that holds several values, such as `labels` or `choices`, is a list as JSON spells it.
"""

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from adapterhub_training.errors import BadData, TrainingError
from adapterhub_training.kinds import Row

ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
DATASETS = "datasets:"
"""before a name that the library `datasets` resolves"""
LISTS = ("labels", "tokens", "tags", "choices", "answers")
FIELDS = tuple(Row.__struct_fields__)


class Line(NamedTuple):
    """A row and where it stands."""

    path: Path
    number: int | None
    row: Row


class Read(NamedTuple):
    """All rows of a split, and a digest over every byte that they were read from."""

    lines: list[Line]
    digest: str


def file(folder: Path, split: str) -> Path | None:
    """The file of a split; the first of several.

    Raises:
        BadData: There is no such folder.
    """
    if not folder.is_dir():
        raise BadData(folder, None, "there is no such folder")
    paths = [folder / (split + ending) for ending in ENDINGS]
    return next((path for path in paths if path.is_file()), None)


def read(path: Path, columns: Mapping[str, str]) -> Read:
    """All rows of a file; `columns` says what a field is called there.

    Raises:
        BadData: The file is broken or empty, or a row is none.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if path.suffix == ".gz":
        content = _unpacked(path, content)
    reader = _READERS[plain.suffix]
    lines = list(reader(path, content, columns))
    if not lines:
        raise BadData(path, None, "the file has no examples")
    return Read(lines, digest)


def from_datasets(name: str, columns: Mapping[str, str]) -> dict[str, Read]:
    """All splits of what the library `datasets` calls so: `NAME` or `NAME/CONFIG`, or a folder it can read.

    Raises:
        BadData: It has not the columns of a task, or cannot be loaded.
    """
    try:
        import datasets  # type: ignore[import-untyped]  # noqa: PLC0415  an extra of its own
    except ImportError as error:
        raise TrainingError(
            "Reading from the library `datasets` needs that library.",
            hint='pip install "adapterhub[datasets]"',
        ) from error
    source = Path(DATASETS + name)
    place, _, config = name.partition(":")
    try:
        found = datasets.load_dataset(place, config or None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadData(source, None, f"it cannot be loaded ({reason})") from error
    return {
        ("validation" if split in {"dev", "valid"} else split): _of_table(
            source / split, table, columns
        )
        for split, table in found.items()
    }


def _of_table(source: Path, table: Any, columns: Mapping[str, str]) -> Read:  # noqa: ANN401  no types
    names = _mapped(table.column_names, columns, source)
    spell = {column: _names_of_classes(table.features[column]) for column in names}
    digest, lines = hashlib.sha256(), []
    for number, raw in enumerate(table, start=1):
        values = {names[key]: spell[key](raw[key]) for key in names}
        digest.update(msgspec.json.encode(values))
        lines.append(Line(source, number, _converted(values, source, number)))
    if not lines:
        raise BadData(source, None, "the split has no examples")
    return Read(lines, digest.hexdigest())


def _names_of_classes(feature: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    """What spells a value: classes are numbers there, and -1 where the label is hidden."""
    inner = getattr(feature, "feature", None)
    if inner is not None and hasattr(inner, "int2str"):
        return lambda values: [inner.int2str(value) for value in values]
    if hasattr(feature, "int2str"):
        return lambda value: feature.int2str(value) if value >= 0 else None
    return lambda value: value


def _unpacked(path: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(path, None, f"this is no gzip file, or a broken one ({error})") from error


def _json_lines(path: Path, content: bytes, columns: Mapping[str, str]) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Row) if not columns else None
    for number, text in enumerate(content.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            if decoder is not None:
                yield Line(path, number, decoder.decode(text))
                continue
            raw = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadData(path, number, f"this is no example ({error})") from error
        names = _mapped(raw, columns, path)
        values = {names[key]: value for key, value in raw.items() if key in names}
        yield Line(path, number, _converted(values, path, number))


def _table(
    path: Path, content: bytes, columns: Mapping[str, str], delimiter: str
) -> Iterator[Line]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(path, None, f"this is not UTF-8 ({error})") from error
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names = _mapped(reader.fieldnames or (), columns, path)
    try:
        for raw in reader:
            if None in raw or any(raw[key] is None for key in names):
                raise BadData(path, reader.line_num, "the row has not as many cells as the header")
            cells = {names[key]: raw[key] for key in names}
            yield Line(path, reader.line_num, _converted(_of_cells(cells), path, reader.line_num))
    except csv.Error as error:
        line = reader.reader.line_num
        raise BadData(path, line, f"this is no row of a table ({error})") from error


def _csv(path: Path, content: bytes, columns: Mapping[str, str]) -> Iterator[Line]:
    return _table(path, content, columns, ",")


def _tsv(path: Path, content: bytes, columns: Mapping[str, str]) -> Iterator[Line]:
    return _table(path, content, columns, "\t")


def _parquet(path: Path, content: bytes, columns: Mapping[str, str]) -> Iterator[Line]:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise TrainingError(
            f"Reading '{path}' needs the library `pyarrow`.",
            hint='pip install "adapterhub[datasets]"',
        ) from error
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BadData(path, None, f"this is no Parquet file, or a broken one ({reason})") from error
    names = _mapped(table.column_names, columns, path)
    for number, raw in enumerate(table.select(list(names)).to_pylist(), start=1):
        values = {names[key]: raw[key] for key in names}
        yield Line(path, number, _converted(values, path, number))


def _mapped(found: Iterable[str], columns: Mapping[str, str], source: Path) -> dict[str, str]:
    """The column of each field; others are ignored."""
    known = list(found)
    names = {field: field for field in FIELDS if field in known} | {
        column: field for field, column in columns.items()
    }
    missing = sorted(set(columns.values()) - set(known))
    if missing:
        raise BadData(
            source,
            None,
            f"there is no column {missing[0]!r}",
            hint="columns: " + ", ".join(known),
        )
    if not names:
        raise BadData(
            source,
            None,
            "it has none of the columns of a task",
            hint='say which is which, as in `columns = {text = "review", label = "stars"}`; it has '
            + ", ".join(known),
        )
    mapped_elsewhere = {field for field, column in columns.items() if column != field}
    return {c: f for c, f in names.items() if not (c == f and f in mapped_elsewhere)}


def _of_cells(cells: dict[str, str]) -> dict[str, Any]:
    """Cells in the types of their fields; an empty one is none."""
    values: dict[str, Any] = {}
    for field, cell in cells.items():
        if not cell:
            values[field] = None
        elif field in LISTS:
            try:
                values[field] = msgspec.json.decode(cell)
            except msgspec.DecodeError:
                values[field] = cell  # refused below, by its type
        else:
            values[field] = cell
    return values


def _converted(values: dict[str, Any], path: Path, number: int) -> Row:
    label = values.get("label")
    if isinstance(label, int | float) and not isinstance(label, bool):
        values = {**values, "label": f"{label:g}"}
    elif isinstance(label, bool):
        values = {**values, "label": str(label).lower()}
    if isinstance(values.get("score"), str):
        try:
            values = {**values, "score": float(values["score"])}
        except ValueError as error:
            raise BadData(path, number, f"the score {values['score']!r} is no number") from error
    try:
        return msgspec.convert(values, Row)
    except msgspec.ValidationError as error:
        raise BadData(path, number, f"this is no example ({error})") from error


_READERS: dict[str, Callable[[Path, bytes, Mapping[str, str]], Iterator[Line]]] = {
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
