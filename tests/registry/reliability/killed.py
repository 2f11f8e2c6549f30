"""Publish in a process that kills itself at a step: run by `test_crashes.py` with the step's name and a seed."""

import os
import signal
import sys

from sqlalchemy import event
from sqlalchemy.orm import Session
from tests.factories import make_files, make_manifest

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.runtime import Runtime, open_runtime
from adapterhub_registry.service import account as accounts
from adapterhub_registry.service import publishing, receiving, recording
from adapterhub_registry.settings import from_environment
from adapterhub_registry.storage import store as stores

STEPS = [
    "begun",
    "first blob",
    "a part",
    "all blobs",
    "a hash",
    "a promotion",
    "recorded",
    "before the commit",
    "after the commit",
    "discarded",
]
LARGE = bytes(range(256)) * (stores.PART_BYTES // 128 + 1)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def contents() -> dict[str, bytes]:
    return {**make_files(), "large.txt": LARGE}


def viewer(runtime: Runtime) -> Viewer:
    with runtime.database.reading() as session:
        found = accounts.find_account(session, "ukp")
        return Viewer(account_id=found.id, name="ukp", is_admin=False, scopes=("write",))


def publish(runtime: Runtime, step: str | None = None) -> wire.Version:
    files = contents()
    manifest, who = make_manifest(files=files), viewer(runtime)
    by_digest = {file.sha256: files[file.path] for file in manifest.files}
    begun = publishing.begin(runtime, who, wire.UploadDraft(manifest=manifest))
    if step == "begun":
        die()
    if begun.published:
        return begun.published
    for target in begun.missing:
        content = by_digest[target.sha256]
        place = (begun.id, target.sha256)
        if not target.in_parts:
            receiving.blob(runtime, who, place, [content])
            if step == "first blob":
                die()
            continue
        for part in receiving.parts(runtime, who, place).missing:
            chunk = content[part.start : part.start + part.size_bytes]
            receiving.part(runtime, who, (*place, part.number), [chunk])
            if step == "a part":
                die()
    if step == "all blobs":
        die()
    version, _ = publishing.commit(runtime, who, begun.id)
    return version


def arm(runtime: Runtime, step: str) -> None:
    """Put the end of this process at a step of the commit."""
    store = runtime.store
    if step == "a hash":
        publishing.Inspection.finish = lambda _self: die()  # type: ignore[method-assign]
    if step == "a promotion":
        promote = store.promote
        store.promote = lambda *given: (promote(*given), die())  # type: ignore[method-assign]
    if step == "discarded":
        discard = store.discard
        store.discard = lambda upload: (discard(upload), die())  # type: ignore[method-assign]
    if step == "recorded":
        record = recording.record
        recording.record = lambda *given: (record(*given), die())  # type: ignore[assignment]
    if step in {"before the commit", "after the commit"}:
        record = recording.record

        def recorded(*given):
            moment = "before_commit" if step.startswith("before") else "after_commit"
            event.listen(Session, moment, lambda _session: die())
            return record(*given)

        recording.record = recorded  # type: ignore[assignment]


def main(step: str) -> None:
    runtime = open_runtime(from_environment())
    arm(runtime, step)
    publish(runtime, step)


if __name__ == "__main__":
    main(sys.argv[1])
