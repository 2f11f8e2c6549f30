"""Several runs from one file: ways to learn compared on one or more tasks, and settings tried out.

A file with `[compare.NAME]` tables, with `[sweep]`, or with several tasks, is a study. Each run is one of its own, in a
folder below the study's: `WAY/TASK`, and `/KEY=VALUE` of what is tried. `runs:WAY` in a way's members, own adapter or
base stands for what an earlier way of the same study has made. Run again, a study goes on where it was.
"""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec

from adapterhub_training import experiment as experiments
from adapterhub_training import run as runs
from adapterhub_training import runfolder
from adapterhub_training.errors import BadExperiment, NotARun, StudyChanged
from adapterhub_training.experiment import Experiment, Task, Training
from adapterhub_training.results import Results
from adapterhub_training.run import Around
from adapterhub_training.workshop import Workshop

RUNS = "runs:"
STUDY_FILE = "study.json"
SAMPLING_SEED = 20201
_WAY = {"tasks", "sweep"}
_KNOWN = {"task", "tasks", "base", "method", "head", "training", "tracking", "output"}


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a study."""

    way: str
    task: str
    """empty where a way learns all tasks together"""
    point: dict[str, Any] = {}
    """what is tried out in it"""
    folder: str
    tables: dict[str, Any]
    after: tuple[str, ...] = ()
    """ways that have to be done before"""


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of a file, in an order in which they can be done."""

    name: str
    folder: str
    items: tuple[Item, ...]
    replacing: bool = False
    """whether what was done before is being done again"""

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways, in the order of the file."""
        return tuple(dict.fromkeys(item.way for item in self.items))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order of the file."""
        return tuple(dict.fromkeys(item.task for item in self.items if item.task))


def is_study(tables: Mapping[str, Any]) -> bool:
    """Whether a file has more than one run."""
    mode = tables.get("method", {}).get("mode") if isinstance(tables.get("method"), dict) else None
    several = len(tables.get("tasks") or ()) > 1 and mode != "multitask"
    return "compare" in tables or "sweep" in tables or several


def read(tables: Mapping[str, Any], source: str) -> Study:
    """Make the runs of a study's tables.

    Raises:
        BadExperiment: A way or a setting cannot be; the message says which.
    """
    folder = Path(tables["output"]["folder"])
    ways: Mapping[str, Any] = tables.get("compare") or {"": {}}
    if unknown := sorted(set(tables) - _KNOWN - {"compare", "sweep"}):
        raise BadExperiment(f"'{source}': there is no table `{unknown[0]}`.")
    tasks = list(tables.get("tasks") or [tables.get("task")])
    if not all(isinstance(task, dict) and task.get("name") for task in tasks):
        raise BadExperiment(f"'{source}': every task needs a `name`.")
    items: list[Item] = []
    for name, way in ways.items():
        if not isinstance(way, dict) or (unknown := sorted(set(way) - _KNOWN - _WAY)):
            raise BadExperiment(f"'{source}': `compare.{name}` is no table of an experiment's.")
        known = tuple(dict.fromkeys(item.way for item in items))
        items += _of_way(tables, folder, name, way, tasks, known, source)
    study = Study(name=folder.name, folder=str(folder), items=tuple(items))
    for item in study.items:  # what cannot be is found before anything starts
        experiments.decode(_resolved(item, study, dry=True), f"{source}, {item.way} {item.task}")
    return study


def experiment_of(item: Item, study: Study) -> Experiment:
    """The experiment of a run, with what earlier ways have made in it."""
    return experiments.decode(_resolved(item, study), item.folder)


def run(study: Study, around: Around, *, overwrite: bool = False) -> list[tuple[Item, Results]]:
    """Do every run that is not done; all results.

    Raises:
        HubError: As for a run; what is done stays done.
    """
    if around.world.is_first:
        begin(study, around.shop, overwrite=overwrite)
    around.world.agree(None)
    for number, item in enumerate(study.items, start=1):
        if runfolder.read_results(Path(item.folder)):
            continue
        around.display.say(f"[{number}/{len(study.items)}] {title(item)}")
        runs.run(experiment_of(item, study), around.display, overwrite=overwrite, around=around)
    if around.world.is_first:
        write(study)
    return results(study)


def begin(study: Study, shop: Workshop, *, overwrite: bool = False) -> None:
    """Write down what runs there are, and see that those that are done are what they would be now.

    With `overwrite` all are done again, once: stopped, the same command goes on.

    Raises:
        StudyChanged: One was made with other settings or other data.
    """
    path = Path(study.folder) / STUDY_FILE
    before = load(path.parent) if path.is_file() else None
    goes_on = before is not None and before.replacing and before.items == study.items
    for item in study.items:
        if overwrite and not goes_on:
            runfolder.forget(Path(item.folder))
        elif found := runfolder.read_results(Path(item.folder)):
            _require_same(item, found, before, shop)
    write(msgspec.structs.replace(study, replacing=overwrite))


def results(study: Study) -> list[tuple[Item, Results]]:
    """What every finished run of a study reached, a row for each task."""
    return [
        (item, found) for item in study.items for found in runfolder.read_results(Path(item.folder))
    ]


def write(study: Study) -> None:
    """Remember what runs there are."""
    folder = Path(study.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STUDY_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(study)) + b"\n")


def load(folder: Path) -> Study:
    """A study that was begun in a folder, wherever that is now."""
    study = msgspec.json.decode((folder / STUDY_FILE).read_bytes(), type=Study)
    items = tuple(
        msgspec.structs.replace(
            item, folder=str(folder / Path(item.folder).relative_to(study.folder))
        )
        for item in study.items
    )
    return msgspec.structs.replace(study, folder=str(folder), items=items)


def of_runs(folders: Sequence[Path]) -> Study:
    """Runs that were made apart, as if of one study: a way for each folder's name.

    Raises:
        NotARun: A folder has no finished run.
    """
    items = []
    for folder in folders:
        found = runfolder.read_results(folder)
        if not found:
            raise NotARun(folder, runfolder.RESULTS_FILE)
        way = _told_apart(folder, folders)
        task = found[0].task if len(found) == 1 else ""
        items.append(Item(way=way, task=task, folder=str(folder), tables={}))
    return Study(name="compared", folder=str(folders[0].parent), items=tuple(items))


def _told_apart(folder: Path, folders: Sequence[Path]) -> str:
    """As much of a path's end as no other path has."""
    parts = folder.parts
    for length in range(1, len(parts)):
        if sum(other.parts[-length:] == parts[-length:] for other in folders) == 1:
            return "/".join(parts[-length:])
    return str(folder)


def title(item: Item) -> str:
    """What a run is called among the others."""
    tried = " ".join(f"{key}={_spelt(value)}" for key, value in item.point.items())
    return " ".join(part for part in (item.way, item.task, tried) if part)


def best(study: Study, way: str, task: str) -> Item:
    """The run of a way on a task, of several that were tried the best on validation."""
    items = [item for item in study.items if item.way == way and item.task in {task, ""}]
    if len(items) == 1:
        return items[0]
    scored = []
    for item in items:  # tasks that were learned together belong together: their mean decides
        found = runfolder.read_results(Path(item.folder))
        own = [_on_validation(each) for each in found if not item.task or each.task == task]
        if own:
            scored.append((sum(own) / len(own), item))
    if not scored:
        raise BadExperiment(f"There is no finished run of `{way}` on {task!r}.")
    return max(scored, key=lambda pair: pair[0])[1]


def _require_same(
    item: Item, found: Sequence[Results], before: Study | None, shop: Workshop
) -> None:
    """See that a finished run is of these settings and this data."""
    known = {each.folder: each for each in before.items} if before else {}
    if item.folder not in known or _facts(known[item.folder]) != _facts(item):
        raise StudyChanged(Path(item.folder), "settings")
    settings = msgspec.convert(item.tables.get("training", {}), Training)
    tasks = {task["name"]: msgspec.convert(task, Task) for task in item.tables["tasks"]}
    for own in found:
        if shop.dataset(tasks[own.task], settings).digest != own.data_digest:
            raise StudyChanged(Path(item.folder), "data")


def _facts(item: Item) -> dict[str, Any]:
    """What of a run's settings decides what comes out."""
    output = {k: v for k, v in item.tables.get("output", {}).items() if k != "folder"}
    return {k: v for k, v in item.tables.items() if k != "tracking"} | {"output": output}


def _on_validation(found: Results) -> float:
    values = [seed.selected.value(found.metric) for seed in found.seeds]
    return sum(values) / len(values) * (1 if found.higher_is_better else -1)


def _of_way(  # noqa: PLR0913, PLR0917
    tables: Mapping[str, Any],
    folder: Path,
    name: str,
    way: Mapping[str, Any],
    tasks: Sequence[dict[str, Any]],
    before: Sequence[str],
    source: str,
) -> Iterator[Item]:
    chosen = way.get("tasks")
    own = [task for task in tasks if chosen is None or task["name"] in chosen]
    if chosen is not None and (missing := sorted(set(chosen) - {task["name"] for task in own})):
        raise BadExperiment(f"'{source}': `compare.{name}` is of {missing[0]!r}, which is no task.")
    common = {key: deepcopy(tables[key]) for key in _KNOWN - {"task", "tasks"} if key in tables}
    place = folder / name if name else folder
    points = list(_points(way.get("sweep", tables.get("sweep", {})), source))
    method = {**common.get("method", {}), **way.get("method", {})}
    together = method.get("mode") == "multitask"
    for group in [own] if together else [[task] for task in own]:
        base = deepcopy(common)
        for task in group if not together else []:
            _lay(base, {"training": task.get("training", {})})
        _lay(base, {key: value for key, value in way.items() if key not in _WAY})
        if "method" in way and way["method"].get("mode"):
            base["method"] = deepcopy(way["method"])  # another mode has other keys
        plain = [{k: v for k, v in task.items() if k != "training"} for task in group]
        title = "" if together else group[0]["name"]
        for point in points:
            made = deepcopy(base)
            for key, value in point.items():
                _set(made, key, value, source)
            tried = "".join(f"/{key}={_spelt(value)}" for key, value in point.items())
            where = str(place / title if title and len(tasks) > 1 else place) + tried
            made["tasks"] = plain
            made.setdefault("output", {})["folder"] = where
            after = tuple(dict.fromkeys(_mentioned(made)))
            if unknown := sorted(set(after) - set(before)):
                raise BadExperiment(
                    f"'{source}': `{RUNS}{unknown[0]}` in `compare.{name}` is no way before it.",
                    hint="ways before: " + (", ".join(before) or "none"),
                )
            yield Item(way=name, task=title, point=point, folder=where, tables=made, after=after)


def _points(sweep: Mapping[str, Any], source: str) -> Iterator[dict[str, Any]]:
    """Every combination of what is tried, or a sample of them."""
    given = dict(sweep)
    samples = given.pop("samples", None)
    if not all(isinstance(values, list) and values for values in given.values()):
        raise BadExperiment(
            f"'{source}': `sweep` has a list of values for each key.",
            hint='such as `"training.learning_rate" = [1e-4, 1e-3]`',
        )
    points = [
        dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())
    ]
    if isinstance(samples, int) and samples < len(points):
        chooser = random.Random(SAMPLING_SEED)  # noqa: S311  a sample, no secret
        points = [points[at] for at in sorted(chooser.sample(range(len(points)), samples))]
    yield from points


def _lay(tables: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Lay tables over others, key by key."""
    for name, values in over.items():
        if isinstance(values, dict):
            tables.setdefault(name, {}).update(deepcopy(values))


def _set(tables: dict[str, Any], key: str, value: Any, source: str) -> None:  # noqa: ANN401
    table, dot, name = key.partition(".")
    if not dot or table not in _KNOWN:
        raise BadExperiment(f"'{source}': `sweep` tries `{key}`, which is no key of a table.")
    tables.setdefault(table, {})[name] = value


def _spelt(value: object) -> str:
    return str(value).replace("/", "_")


def _mentioned(tables: Mapping[str, Any]) -> Iterator[str]:
    """The ways that a run makes use of."""
    method, base = tables.get("method", {}), tables.get("base", {})
    for value in (*method.get("members", ()), method.get("own", ""), base.get("path", "")):
        if isinstance(value, str) and value.startswith(RUNS):
            yield value.removeprefix(RUNS)


def _resolved(item: Item, study: Study, *, dry: bool = False) -> dict[str, Any]:
    """The tables of a run with the folders that `runs:` stands for; `dry`, with any that could be."""
    tables = deepcopy(item.tables)
    method = tables.get("method", {})
    if "members" in method:
        members = []
        for member in method["members"]:
            if not member.startswith(RUNS):
                members.append(member)
                continue
            way = member.removeprefix(RUNS)
            made = [task for task in _tasks_of(study, way) if task != item.task]
            members += [_weights(study, way, task, dry=dry) for task in made]
        method["members"] = members
    own = method.get("own", "")
    if own.startswith(RUNS):
        method["own"] = _weights(study, own.removeprefix(RUNS), item.task, dry=dry)
    base = tables.get("base", {})
    if base.get("path", "").startswith(RUNS):
        way = base["path"].removeprefix(RUNS)
        made_by = next(each for each in study.items if each.way == way)
        chosen = made_by if dry else best(study, way, made_by.task)
        base["path"] = str(Path(chosen.folder) / "base")
    return tables


def _tasks_of(study: Study, way: str) -> list[str]:
    found: dict[str, None] = {}
    for item in study.items:
        if item.way == way:
            found |= dict.fromkeys(task["name"] for task in item.tables["tasks"])
    return list(found)


def _weights(study: Study, way: str, task: str, *, dry: bool) -> str:
    items = [item for item in study.items if item.way == way and item.task in {task, ""}]
    item = items[0] if dry or len(items) == 1 else best(study, way, task)
    mode = item.tables["method"].get("mode", "adapter")
    if mode == "multitask":
        return str(Path(item.folder) / runfolder.TASKS / task / "adapter")
    return str(Path(item.folder) / mode)
