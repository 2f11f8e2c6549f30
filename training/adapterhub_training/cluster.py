"""A study's runs on the machines of a Ray cluster, which all see the folders that it names."""

from typing import Any

import msgspec

from adapterhub_training import study as studies
from adapterhub_training.errors import TrainingError
from adapterhub_training.progress import Display, Quiet
from adapterhub_training.study import Item, Study
from adapterhub_training.workshop import Workshop


def run(study: Study, address: str, display: Display, *, overwrite: bool = False) -> None:
    """Do the runs that are not done, as many at once as the cluster has room for.

    A way's runs begin once those that it makes use of are done. A run that fails ends the others' waiting, and what is
    done stays done.

    Raises:
        TrainingError: Ray is not installed, or a run failed.
    """
    try:
        import ray  # noqa: PLC0415  an extra of its own
    except ImportError as error:
        raise TrainingError(
            "`--ray` needs the library `ray`.", hint='pip install "adapterhub[ray]"'
        ) from error
    ray.init(address=None if address == "local" else address, log_to_driver=False)
    try:
        studies.begin(study, Workshop(), overwrite=overwrite)
        open_items = list(study.items)
        done: set[str] = set()
        running: dict[Any, Item] = {}
        remote = ray.remote(num_cpus=1, max_retries=0)(_do)
        document = msgspec.json.encode(study)
        while open_items or running:
            waiting = {item.way for item in (*open_items, *running.values())}
            ready = [item for item in open_items if not waiting.intersection(item.after)]
            for item in ready:
                open_items.remove(item)
                running[remote.remote(document, item.folder, overwrite)] = item
            finished, _ = ray.wait(list(running), num_returns=1)
            for reference in finished:
                item = running.pop(reference)
                fault = ray.get(reference)
                if fault:
                    raise TrainingError(f"{studies.title(item)}: {fault}")
                done.add(item.folder)
                display.say(f"[{len(done)}/{len(study.items)}] {studies.title(item)}")
        studies.write(study)
    finally:
        ray.shutdown()


def _do(document: bytes, folder: str, overwrite: bool) -> str:  # noqa: FBT001  Ray passes values
    """One run, on a machine of the cluster; what went wrong, or nothing."""
    from pathlib import Path  # noqa: PLC0415  this runs elsewhere

    from adapterhub_client.errors import HubError  # noqa: PLC0415
    from adapterhub_training import run as runs  # noqa: PLC0415
    from adapterhub_training import runfolder  # noqa: PLC0415

    study = msgspec.json.decode(document, type=Study)
    item = next(each for each in study.items if each.folder == folder)
    if runfolder.read_results(Path(item.folder)):
        return ""
    try:
        runs.run(studies.experiment_of(item, study), Quiet(), overwrite=overwrite)
    except HubError as error:
        return str(error)
    return ""
