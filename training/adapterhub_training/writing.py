"""What a run folder says about its results, beside the weights and `results.json`."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from adapterhub_client.formats.folder import RUN
from adapterhub_client.wire import REPORT_FILE as WIRE_REPORT
from adapterhub_training import building, measured, report
from adapterhub_training.experiment import Experiment
from adapterhub_training.material import Lesson
from adapterhub_training.provenance import push_file
from adapterhub_training.results import Results

REPORT_FILE = "report.md"
PUSH_FILE = RUN
FILES = (REPORT_FILE, PUSH_FILE)


def write(folder: Path, experiment: Experiment, found: Results) -> None:
    """Write the report, and what a push takes along."""
    (folder / REPORT_FILE).write_text(report.markdown(found), encoding="utf-8")
    push = push_file(experiment, found, folder)
    if push is None:
        return
    said = msgspec.json.format(msgspec.json.encode(measured.report(found)))
    (folder / push.folder / WIRE_REPORT).write_bytes(said + b"\n")
    (folder / PUSH_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(push)) + b"\n")


def opening(experiment: Experiment, lessons: Sequence[Lesson]) -> str:
    """What begins, in a line for each task."""
    method = building.method_name(experiment)
    lines = []
    for lesson in lessons:
        dataset = lesson.dataset
        counts = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
        held = " (cut from train)" if dataset.held_out else ""
        lines.append(f"{lesson.name}: {method} on {counts}{held}")
        cut = lesson.splits["train"].encoded.truncated
        if cut:
            longest = experiment.training.max_length
            lines.append(f"  {cut:,} training texts are longer than {longest} tokens and are cut")
    return "\n".join(lines)
