"""What is trained: the experiment's adapter, fusion or head on its base, set up, saved and restored."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from adapterhub_client import compose, fingerprint
from adapterhub_client.compose import Adapted
from adapterhub_client.wire import BASE_FINGERPRINT_FILE
from adapterhub_training.backbone import Backbone
from adapterhub_training.errors import BadExperiment
from adapterhub_training.experiment import AdapterMethod, Experiment, FusionMethod

FOLDERS = ("adapter", "fusion", "head")
"""the sub-folder a run keeps its weights in, by mode"""


@contextmanager
def prepared(base: Backbone, experiment: Experiment, labels: Sequence[str]) -> Iterator[Adapted]:
    """The base with fresh modules for the experiment, active, and nothing else trainable; afterwards as it was.

    Raises:
        CompositionError: The method, or a member, does not suit the base.
        WrongBase: A member was trained on another base.
    """
    adapted, name, method = compose.attach(base.model), experiment.task.name, experiment.method
    try:
        if isinstance(method, AdapterMethod):
            adapted.add(name, method.config)
            adapted.add_head(name, labels=labels)
            adapted.activate(name, head=name)
            adapted.trainable(name)
        elif isinstance(method, FusionMethod):
            fusion = adapted.add_fusion(*_members(adapted, method))
            adapted.add_head(fusion, labels=labels)
            _start_from_own(adapted, fusion, method)
            adapted.activate(fusion, head=fusion)
            adapted.trainable(fusion)
        else:
            adapted.add_head(name, labels=labels)
            adapted.activate(None, head=name)
            adapted.trainable(heads=[name])
        yield adapted
    finally:
        adapted.detach()


def save(adapted: Adapted, experiment: Experiment, run: Path) -> None:
    """Write the weights below the run's folder, in place of what was there."""
    folder = run / experiment.mode
    if isinstance(experiment.method, AdapterMethod):
        adapted.save(experiment.task.name, folder)
    elif isinstance(experiment.method, FusionMethod):
        adapted.save_fusion(next(iter(adapted.fusions)), folder)
    else:
        adapted.save_head(experiment.task.name, folder)


def restored(base: Backbone, experiment: Experiment, run: Path) -> Adapted:
    """The base with the weights of a finished run, active."""
    adapted, folder = compose.attach(base.model), run / experiment.mode
    if isinstance(experiment.method, AdapterMethod):
        adapted.activate(adapted.load(folder))
    elif isinstance(experiment.method, FusionMethod):
        _members(adapted, experiment.method)
        adapted.activate(adapted.load_fusion(folder))
    else:
        adapted.activate(None, head=adapted.load_head(folder))
    adapted.eval()
    return adapted


def base_fingerprint(run: Path) -> str | None:
    """The identity of the base as the saved weights have it; a head alone does not know it."""
    for name in FOLDERS:
        path = run / name / BASE_FINGERPRINT_FILE
        if path.is_file():
            return fingerprint.read(path).root
    return None


def method_name(experiment: Experiment) -> str:
    """The method in a few words."""
    method = experiment.method
    if isinstance(method, AdapterMethod):
        return method.config
    if isinstance(method, FusionMethod):
        return f"fusion of {len(_sources(method))} adapters"
    return "head only"


def _sources(method: FusionMethod) -> list[str]:
    return [*method.members, *([method.own] if method.own else [])]


def _members(adapted: Adapted, method: FusionMethod) -> list[str]:
    """Load the members; their names, in the order of the experiment."""
    names: list[str] = []
    for source in _sources(method):
        name = adapted.load(source)
        if name in names:
            raise BadExperiment(
                f"Two members of the fusion are named {name!r}; {source!r} is the second.",
                hint="give the tasks different names when they are trained",
            )
        names.append(name)
    return names


def _start_from_own(adapted: Adapted, fusion: str, method: FusionMethod) -> None:
    """Begin with the own adapter's head, where it has the same labels in the same order."""
    if not method.own:
        return
    own = adapted.heads.get(adapted.fusions[fusion].members[-1])
    head = adapted.heads[fusion]
    if own is not None and list(own.labels) == list(head.labels):
        head.load_state_dict(own.state_dict())
