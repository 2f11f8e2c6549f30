"""An experiment's modules on its base: set up, put away, saved, and found again."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from adapterhub_client import compose, fingerprint, names
from adapterhub_client.compose import Adapted
from adapterhub_client.compose.shelf import Pin
from adapterhub_client.formats.folder import COMPOSITION_FILE, read_json
from adapterhub_client.wire import BASE_FINGERPRINT_FILE
from adapterhub_training import backbone, learner
from adapterhub_training.backbone import Backbone
from adapterhub_training.data import Dataset
from adapterhub_training.errors import BadExperiment
from adapterhub_training.experiment import (
    AdapterMethod,
    Experiment,
    FullMethod,
    FusionMethod,
    HeadMethod,
    MultitaskMethod,
    TopLayersMethod,
)
from adapterhub_training.subject import Member, Streams, Subject, random_state

SHARED = "shared"
"""the name of the one adapter that several tasks share, while it is trained"""


@contextmanager
def prepared(
    base: Backbone,
    experiment: Experiment,
    datasets: Mapping[str, Dataset],
    seeds: Sequence[int],
) -> Iterator[Subject]:
    """The base with fresh modules for each seed, and nothing else trainable; afterwards as it was.

    Raises:
        CompositionError: The method, or a member of a fusion, does not suit the base.
        WrongBase: A member was trained on another base.
    """
    adapted, settings = compose.attach(base.model), experiment.training
    streams, kept = None, dict[str, Tensor]()
    try:
        members, begin = [], {}
        for seed in seeds:
            torch.manual_seed(seed)
            suffix = f"-{seed}" if len(seeds) > 1 else ""
            members.append(_member(adapted, experiment, datasets, seed, suffix))
            begin[seed] = random_state(adapted.backbone.reference_parameter.device)
        _make_trainable(adapted, experiment, members)
        members = [_trained(adapted, member, alone=len(members) == 1) for member in members]
        kept = {
            n: p.detach().clone() for n, p in adapted.model.named_parameters() if p.requires_grad
        }
        if settings.gradient_checkpointing:
            backbone.checkpoint_gradients(base.model, enabled=True)
        streams = Streams(adapted, members, begin) if len(seeds) > 1 else None
        subject = Subject(
            adapted,
            members,
            dropout=experiment.base_drops,
            skip_layers=_skipped(experiment),
            compiled=settings.compile,
            checkpointed=settings.gradient_checkpointing,
            streams=streams,
        )
        with learner.quick(subject, settings):
            yield subject
    finally:
        if streams is not None:
            streams.close()
        if settings.gradient_checkpointing:
            backbone.checkpoint_gradients(base.model, enabled=False)
        with torch.no_grad():
            for name, value in kept.items():
                base.model.get_parameter(name).copy_(value)
        adapted.detach()


def pinned(base: Backbone, experiment: Experiment, datasets: Mapping[str, Dataset]) -> Experiment:
    """The experiment, tried out, with the versions its members' references stand for now.

    Raises:
        HubError: As `prepared`.
    """
    with prepared(base, experiment, datasets, experiment.training.seeds[:1]) as trial:
        method, fusions = experiment.method, list(trial.adapted.fusions.values())
        if not isinstance(method, FusionMethod):
            return experiment
        exact = [
            _exact(source, trial.adapted.adapters[name].pin)
            for source, name in zip(sources(method), fusions[0].members, strict=True)
        ]
    members, own = tuple(exact[: len(method.members)]), "".join(exact[len(method.members) :])
    chosen = msgspec.structs.replace(method, members=members, own=own)
    return msgspec.structs.replace(experiment, method=chosen)


def save(subject: Subject, experiment: Experiment, run: Path) -> None:
    """Write the weights below the run's folder, in place of what was there."""
    adapted, (member,) = subject.adapted, subject.members
    task = experiment.task.name
    match experiment.method:
        case AdapterMethod():
            adapted.save(task, run / "adapter")
        case FusionMethod():
            adapted.save_fusion(next(iter(adapted.fusions)), run / "fusion")
        case HeadMethod():
            adapted.save_head(task, run / "head")
        case FullMethod() | TopLayersMethod():
            adapted.save_head(task, run / "head")
            _save_base(adapted, experiment, run / "model")
        case MultitaskMethod():
            for name, composition in member.compositions.items():
                folder = run / "tasks" / name / "adapter"
                folder.parent.mkdir(parents=True, exist_ok=True)
                adapted.save(str(composition), folder, head=member.heads[name])
            if experiment.method.shared == "base":
                _save_base(adapted, experiment, run / "base")
    for path in run.glob(f"**/{BASE_FINGERPRINT_FILE}"):
        _identify(path, experiment.base.path)


def restored(base: Backbone, experiment: Experiment, run: Path) -> Subject:
    """The base with the weights of a finished run, active; of several tasks, those of the first."""
    adapted, task = compose.attach(base.model), experiment.task.name
    composition: str | None = None
    match experiment.method:
        case AdapterMethod():
            composition = head = adapted.load(run / "adapter")
        case FusionMethod():
            _load_unpublished(adapted, experiment.method, run / "fusion")
            composition = adapted.load_fusion(run / "fusion")  # loads the published ones as pinned
            head = _head_of(adapted, composition)
        case HeadMethod() | FullMethod() | TopLayersMethod():
            head = adapted.load_head(run / "head")
        case MultitaskMethod():
            composition = head = adapted.load(run / "tasks" / task / "adapter")
    member = Member(experiment.training.seeds[0], {task: composition}, {task: head}, [])
    return Subject(adapted, [member], skip_layers=_skipped(experiment))


def _head_of(adapted: Adapted, fusion: str) -> str:
    """The name of the head that came with a fusion, which may have been made for a larger one."""
    adapted.activate(fusion)
    (active,) = adapted.active_heads
    adapted.deactivate()
    return next(name for name, head in adapted.heads.items() if head is active)


def base_path(experiment: Experiment, run: Path) -> str:
    """Where the base is that a finished run's weights are for: its own, where it trained that too."""
    for name in ("model", "base"):
        if (run / name).is_dir():
            return str(run / name)
    return experiment.base.path


def unpublished(adapted: Adapted) -> dict[str, str]:
    """The digest of every fused adapter that no published version stands for, by name."""
    fused = {name for fusion in adapted.fusions.values() for name in fusion.members}
    adapters = {name: adapted.adapters[name] for name in sorted(fused)}
    return {name: _digest(adapter) for name, adapter in adapters.items() if adapter.pin is None}


def base_fingerprint(folder: Path) -> str | None:
    """The identity of the base as the saved weights have it; a head alone does not know it."""
    path = next(folder.glob(f"**/{BASE_FINGERPRINT_FILE}"), None)
    return None if path is None else fingerprint.read(path).root


def method_name(experiment: Experiment) -> str:  # noqa: PLR0911  one for each mode
    """The method in a few words."""
    match experiment.method:
        case AdapterMethod(config=config, drop_layers=0):
            return config
        case AdapterMethod(config=config, drop_layers=dropped):
            return f"{config} without the lowest {dropped} layers"
        case FusionMethod():
            return f"fusion of {len(sources(experiment.method))} adapters"
        case HeadMethod():
            return "head only"
        case FullMethod():
            return "full fine-tuning"
        case TopLayersMethod(layers=layers):
            return f"top {layers} layers" if layers > 1 else "top layer"
        case MultitaskMethod(shared="base"):
            return f"{experiment.method.config}, {len(experiment.tasks)} tasks on one trained base"
    return f"one {experiment.method.config} for {len(experiment.tasks)} tasks"


def sources(method: FusionMethod) -> list[str]:
    """The members of a fusion, its own last."""
    return [*method.members, *([method.own] if method.own else [])]


def head_options(experiment: Experiment) -> dict[str, Any]:
    """What `add_head` is told beside the kind's own options."""
    head = experiment.head
    said = {
        "layers": head.layers,
        "activation_function": head.activation,
        "dropout_prob": head.dropout,
        "use_pooler": head.use_pooler,
    }
    return {name: value for name, value in said.items() if value is not None}


def _member(
    adapted: Adapted,
    experiment: Experiment,
    datasets: Mapping[str, Dataset],
    seed: int,
    suffix: str,
) -> Member:
    """Add one seed's modules."""
    method, task = experiment.method, experiment.task.name
    before = {id(parameter) for parameter in adapted.parameters()}
    compositions: dict[str, str | None] = {task: None}
    heads = {each.name: each.name + suffix for each in experiment.tasks}
    match method:
        case AdapterMethod():
            left_out = range(method.drop_layers)
            compositions = {task: adapted.add(task + suffix, method.config, leave_out=left_out)}
        case FusionMethod():
            loaded = _load_members(adapted, method)
            before |= {id(parameter) for parameter in adapted.parameters()}
            compositions = {task: adapted.add_fusion(*loaded)}
            heads = {task: str(compositions[task])}
        case MultitaskMethod(shared="adapter"):
            name = adapted.add(SHARED + suffix, method.config)
            compositions = dict.fromkeys(heads, name)
        case MultitaskMethod():
            compositions = {each: adapted.add(each + suffix, method.config) for each in heads}
    for name, head in heads.items():
        dataset = datasets[name]
        options = dataset.rules.head(dataset.labels) | head_options(experiment)
        adapted.add_head(head, **options)
        if dataset.kind == "multilabel" and experiment.training.loss != "softmax":
            _start_from_rates(adapted.heads[head].layers, dataset)
    if isinstance(method, FusionMethod):
        _start_from_own(adapted, str(compositions[task]), method)
    own = [p for p in adapted.parameters() if id(p) not in before]
    return Member(seed, compositions, heads, own)


def _start_from_rates(layers: nn.Module, dataset: Dataset) -> None:
    """Let a head begin with how often each label is given.

    Of many labels nearly all are absent: from a bias of zero the first steps push every logit down with one gradient,
    and small heads and adapters do not come back from there.

    Source: Lin et al. 2017 (focal loss), section 3.3.
    """
    train = dataset.splits["train"]
    counts = torch.tensor(dataset.rules.counts(train, len(dataset.labels)), dtype=torch.float32)
    rates = (counts + 1) / (len(train) + 2)
    last = [module for module in layers.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.bias.copy_(torch.logit(rates))


def _make_trainable(adapted: Adapted, experiment: Experiment, members: Sequence[Member]) -> None:
    chosen = {name for member in members for name in member.compositions.values() if name}
    heads = sorted({head for member in members for head in member.heads.values()})
    adapted.trainable(*sorted(chosen), heads=heads)
    layers = adapted.backbone.layers
    match experiment.method:
        case FullMethod() | MultitaskMethod(shared="base"):
            adapted.backbone.module.requires_grad_(requires_grad=True)
        case TopLayersMethod(layers=count):
            _require_layers(adapted, count, "method.layers")
            for layer in layers[len(layers) - count :]:
                layer.requires_grad_(requires_grad=True)


def _trained(adapted: Adapted, member: Member, *, alone: bool) -> Member:
    """The member with what is trained of it: of one alone, everything that is."""
    own = {id(parameter) for parameter in member.parameters}
    trained = [p for p in adapted.parameters() if p.requires_grad and (alone or id(p) in own)]
    return member._replace(parameters=trained)


def _require_layers(adapted: Adapted, count: int, key: str) -> None:
    most = len(adapted.backbone.layers)
    if count > most:
        raise BadExperiment(f"`{key}` is {count}, but the base has {most} layers.")


def _skipped(experiment: Experiment) -> range:
    method = experiment.method
    return range(method.drop_layers if isinstance(method, FusionMethod) else 0)


def _load_members(adapted: Adapted, method: FusionMethod) -> list[str]:
    """Load the members; their names, in the order of the experiment."""
    loaded: list[str] = []
    for source in sources(method):
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
    for source, member in zip(sources(method), members, strict=True):
        if member.get("reference") is None:
            adapted.load(source, member["name"])


def _save_base(adapted: Adapted, experiment: Experiment, folder: Path) -> None:
    module: Any = adapted.backbone.module
    module.save_pretrained(folder)
    backbone.load_tokenizer(experiment.base.path).save_pretrained(folder)


def _identify(path: Path, base: str) -> None:
    """Name the base as its files do: cast to float32 it has another fingerprint, but is no other base."""
    identity = backbone.identity(base)
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
