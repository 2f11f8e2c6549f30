"""From TOML to structs and back.

Paths in the file are relative to the file; paths given on the command line are relative to the working directory.
`$NAME` in a path is the variable of the environment.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from adapterhub_training.errors import BadExperiment
from adapterhub_training.experiment import checks, sections
from adapterhub_training.experiment.sections import Experiment

PACKAGE = "package:"
DATASETS = "datasets:"
_PATHS = (("task", "data"), ("base", "path"), ("method", "own"), ("output", "folder"))
_ONLY_PATHS = {("task", "data"), ("output", "folder")}


def read(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file; each override, `table.key=value` or `table={...}`, wins over it.

    Raises:
        BadExperiment: The file is absent or no TOML, or a key or value cannot be; the message says which.
    """
    return decode(tables(path, overrides), str(path))


def tables(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a file as it has them, with absolute paths and a folder for the output.

    Raises:
        BadExperiment: The file is absent or no TOML.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadExperiment(f"'{path}' cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadExperiment(f"'{path}' is no TOML: {error}.") from error
    _anchor(found, path.parent)
    for override in overrides:
        _override(found, override)
    output = found.setdefault("output", {})
    if isinstance(output, dict) and not output.get("folder"):
        output["folder"] = str(Path("runs", path.stem).absolute())
    return found


def decode(found: dict[str, Any], source: str) -> Experiment:
    """Check plain tables and make an experiment of them.

    Raises:
        BadExperiment: A key or value cannot be; the message says which.
    """
    given = dict(found)
    if "task" in given:
        if "tasks" in given:
            raise BadExperiment(f"'{source}': `task` and `tasks` exclude each other.")
        given["tasks"] = [given.pop("task")]
    try:
        experiment = msgspec.convert(given, Experiment)
    except msgspec.ValidationError as error:
        said = str(error) if "tasks" in found else str(error).replace("$.tasks[0]", "$.task")
        said = said.replace("required field `tasks`", "required field `task`")
        raise BadExperiment(f"'{source}': {said}.", hint=_nearest(said)) from error
    for fault in checks.faults(experiment):
        raise BadExperiment(f"'{source}': {fault}.")
    return experiment


def encode(experiment: Experiment) -> str:
    """The experiment as TOML, every default written out; None has no spelling there and is left out."""
    lines: list[str] = []
    for name, values in msgspec.to_builtins(experiment).items():
        parts = [values] if isinstance(values, dict) else list(values)
        title = f"[{name}]"
        if name == "tasks":
            title = "[task]" if len(parts) == 1 else "[[tasks]]"
        for part in parts:
            own = (f"{key} = {_value(value)}" for key, value in part.items() if value is not None)
            lines += [title, *own, ""]
    return "\n".join(lines)


def _value(value: str | float | bool | list[Any] | dict[str, Any]) -> str:  # noqa: FBT001  any TOML value
    if isinstance(value, dict):
        pairs = (f"{_value(key)} = {_value(each)}" for key, each in value.items())
        return "{" + ", ".join(pairs) + "}"
    # JSON's strings, numbers, booleans and lists are TOML's too, once DEL is escaped.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def _anchor(found: dict[str, Any], folder: Path) -> None:
    """Make the paths absolute; what is a package, a reference or a name on a hub stays."""
    for name, key in _PATHS:
        for table in _each(found, name):
            value = table.get(key)
            if isinstance(value, str) and value:
                table[key] = _anchored(value, folder, only_paths=(name, key) in _ONLY_PATHS)
    for method in _each(found, "method"):
        if isinstance(method.get("members"), list):
            method["members"] = [
                _anchored(member, folder) if isinstance(member, str) else member
                for member in method["members"]
            ]


def _each(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The tables that have this name: one, several tasks, or the ways that are compared."""
    parts = [found.get(name), *(found.get("tasks") or () if name == "task" else ())]
    compared = found.get("compare")
    ways = compared.values() if isinstance(compared, dict) else ()
    parts += [way.get(name) for way in ways if isinstance(way, dict)]
    return [part for part in parts if isinstance(part, dict)]


def _anchored(value: str, folder: Path, *, only_paths: bool = False) -> str:
    value = os.path.expandvars(value)
    if unset := re.search(r"\$(\w+|\{\w+\})", value):
        name = unset[1].strip("{}")
        raise BadExperiment(
            f"`{value}` needs the variable `{name}` of the environment, which is not set.",
            hint=f"for example `{name}=/folder adapterhub-train run FILE`",
        )
    path = folder / Path(value).expanduser()
    if value.startswith((PACKAGE, DATASETS)) or not (only_paths or path.is_dir()):
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


def _nearest(message: str) -> str | None:
    unknown = re.search(r"unknown field `(.+?)`", message)
    if not unknown:
        return None
    tables = (section for section in vars(sections).values() if isinstance(section, type))
    keys = {key for table in tables for key in getattr(table, "__struct_fields__", ())}
    near = difflib.get_close_matches(unknown[1], keys, n=1)
    return f"did you mean `{near[0]}`?" if near else None
