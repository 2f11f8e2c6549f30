"""What is trained: the experiment's adapter, fusion or head on its base, set up, saved and restored."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from adapterhub_client import compose, fingerprint, names
from adapterhub_client.compose import Adapted
from adapterhub_client.compose.shelf import Pin
from adapterhub_client.formats.folder import COMPOSITION_FILE, read_json
from adapterhub_client.wire import BASE_FINGERPRINT_FILE
from adapterhub_training import backbone
from adapterhub_training.backbone import Backbone
from adapterhub_training.batches import Batch
from adapterhub_training.errors import BadExperiment
from adapterhub_training.experiment import AdapterMethod, Experiment, FusionMethod
from adapterhub_training.memory import Memory

FOLDERS = ("adapter", "fusion", "head")
"""the sub-folder a run keeps its weights in, by mode"""


class Subject(NamedTuple):
    """What the loop trains and evaluates. With a memory, the base sees each example once."""

    adapted: Adapted
    memory: Memory | None = None

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.adapted.backbone.reference_parameter.device

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [p for p in self.adapted.parameters() if p.requires_grad]

    @property
    def value_maps(self) -> list[Tensor]:
        """The trained value maps of a fusion, which are pulled to the identity and so must not decay to zero."""
        layers = [layer for fusion in self.adapted.fusions.values() for layer in fusion.layers()]
        maps = [layer.value.weight for layer in layers if layer.value is not None]
        return [value for value in maps if value.requires_grad]

    def forward(self, batch: Batch) -> Any:  # noqa: ANN401  a ModelOutput; each kind has its own fields
        """Logits and the loss of a batch."""
        if self.memory is not None:
            return self.memory.forward(self.adapted, batch)
        return self.adapted(**batch.inputs, labels=batch.labels)

    def train(self, *, dropout: bool) -> None:
        """Get ready to train; without ``dropout`` only what is trained has any."""
        self.adapted.train()
        if not dropout:
            self.adapted.model.eval()

    def eval(self) -> None:
        """Get ready to evaluate."""
        self.adapted.eval()

    def regularization(self) -> Tensor:
        """What pulls a fusion's value maps towards the identity."""
        return self.adapted.regularization()


@contextmanager
def prepared(
    base: Backbone, experiment: Experiment, labels: Sequence[str], memory: Memory
) -> Iterator[Subject]:
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
        frozen = experiment.mode == "head" and not experiment.training.dropout
        # A decoder is summed up by its last token, which is not what the memory keeps.
        kept = frozen and all(head.reads_first_token for head in adapted.active_heads)
        yield Subject(adapted, memory if kept else None)
    finally:
        adapted.detach()


def pinned(base: Backbone, experiment: Experiment, labels: Sequence[str]) -> Experiment:
    """The experiment, tried out, with the versions its members' references stand for now.

    Raises:
        HubError: As `prepared`.
    """
    with prepared(base, experiment, labels, Memory()) as trial:
        method, fusions = experiment.method, list(trial.adapted.fusions.values())
        if not isinstance(method, FusionMethod):
            return experiment
        exact = [
            _exact(source, trial.adapted.adapters[name].pin)
            for source, name in zip(_sources(method), fusions[0].members, strict=True)
        ]
    members, own = tuple(exact[: len(method.members)]), "".join(exact[len(method.members) :])
    chosen = msgspec.structs.replace(method, members=members, own=own)
    return msgspec.structs.replace(experiment, method=chosen)


def save(adapted: Adapted, experiment: Experiment, run: Path) -> None:
    """Write the weights below the run's folder, in place of what was there."""
    folder = run / experiment.mode
    if isinstance(experiment.method, AdapterMethod):
        adapted.save(experiment.task.name, folder)
    elif isinstance(experiment.method, FusionMethod):
        adapted.save_fusion(next(iter(adapted.fusions)), folder)
    else:
        adapted.save_head(experiment.task.name, folder)
    _identify(folder / BASE_FINGERPRINT_FILE, experiment.base.path)


def restored(base: Backbone, experiment: Experiment, run: Path) -> Subject:
    """The base with the weights of a finished run, active."""
    adapted, folder = compose.attach(base.model), run / experiment.mode
    if isinstance(experiment.method, AdapterMethod):
        adapted.activate(adapted.load(folder))
    elif isinstance(experiment.method, FusionMethod):
        _load_unpublished(adapted, experiment.method, folder)
        adapted.activate(adapted.load_fusion(folder))  # loads the published ones as they are pinned
    else:
        adapted.activate(None, head=adapted.load_head(folder))
    return Subject(adapted)


def unpublished(adapted: Adapted) -> dict[str, str]:
    """The digest of every fused adapter that no published version stands for, by name."""
    fused = {name for fusion in adapted.fusions.values() for name in fusion.members}
    adapters = {name: adapted.adapters[name] for name in sorted(fused)}
    return {name: _digest(adapter) for name, adapter in adapters.items() if adapter.pin is None}


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
    loaded: list[str] = []
    for source in _sources(method):
        name = adapted.load(source)
        if name in loaded:
            raise BadExperiment(
                f"Two members of the fusion are named {name!r}; {source!r} is the second.",
                hint="give the tasks different names when they are trained",
            )
        loaded.append(name)
    return loaded


def _exact(source: str, pin: Pin | None) -> str:
    """A reference pinned to the version it was pulled as; a folder stays one."""
    if pin is None or Path(source).is_dir():
        return source
    return str(names.parse(pin.reference).at(pin.digest))


def _load_unpublished(adapted: Adapted, method: FusionMethod, folder: Path) -> None:
    """Load the members of a saved fusion that no reference names, from where the experiment has them."""
    members = read_json(folder / COMPOSITION_FILE)["members"]
    for source, member in zip(_sources(method), members, strict=True):
        if member.get("reference") is None:
            adapted.load(source, member["name"])


def _identify(path: Path, base: str) -> None:
    """Name the base as its files do: cast to float32 it has another fingerprint, but is no other base."""
    identity = backbone.identity(base) if path.is_file() else None
    if identity and fingerprint.compare(identity, fingerprint.read(path)).verdict == "cast":
        fingerprint.write(identity, path)


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.float().cpu().numpy().tobytes())
    return "sha256:" + digest.hexdigest()


def _start_from_own(adapted: Adapted, fusion: str, method: FusionMethod) -> None:
    """Begin with the own adapter's head, where it has the same labels in the same order."""
    if not method.own:
        return
    own = adapted.heads.get(adapted.fusions[fusion].members[-1])
    head = adapted.heads[fusion]
    if own is not None and list(own.labels) == list(head.labels):
        head.load_state_dict(own.state_dict())
