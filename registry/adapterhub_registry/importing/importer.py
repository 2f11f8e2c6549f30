"""One import from beginning to end."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, select

from adapterhub_registry.importing import mirroring, reading, recording
from adapterhub_registry.importing.findings import Counts, Finding, Kind, Report
from adapterhub_registry.models import ImportedFile
from adapterhub_registry.runtime import Runtime


def run(
    runtime: Runtime,
    folder: Path,
    told: Callable[[str], None],
    *,
    metadata_only: bool = False,
    resume: bool = False,
) -> Report:
    """Bring the catalogue to what a reference hub's repository says, then fetch the weights it lists.

    Twice is as once; stopped, it goes on where it was. `resume` asks again for weights that could not be had.

    Raises:
        NoHub: The folder is no repository of a reference hub.
    """
    repository = reading.read(folder)
    findings = list(repository.findings)

    def note(kind: Kind, subject: str, wrong: str, done: str) -> None:
        findings.append(Finding(kind, subject, wrong, done))

    changes = recording.record(runtime, repository, note)
    brought = 0 if metadata_only else mirroring.mirror(runtime, note, told, again=resume)
    with runtime.database.reading() as session:
        rows = session.execute(
            select(ImportedFile.state, func.count()).group_by(ImportedFile.state)
        )
        states = {state: count for state, count in rows}  # noqa: C416 - rows are not pairs for mypy
    mirrored = states.pop("mirrored", 0)
    counts = Counts(
        entries=len(repository.entries),
        files=sum(len(entry.files) for entry in repository.entries),
        tasks=len(repository.tasks),
        subtasks=len(repository.subtasks),
        architectures=len(repository.architectures),
        identifiers=len({entry.reference for entry in repository.entries}),
        created=changes.created,
        updated=changes.updated,
        unchanged=changes.unchanged,
        mirrored=brought,
        mirrored_before=mirrored - brought,
        not_mirrored=sum(states.values()),
    )
    return Report(counts, findings)
