"""The tables of an experiment file."""

from typing import ClassVar, Literal

import msgspec

Kind = Literal[
    "",
    "classification",
    "multilabel",
    "regression",
    "tagging",
    "multiple_choice",
    "extractive_qa",
    "masked_lm",
]
Auto = Literal["auto", "yes", "no"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; a key it does not know is refused."""


class Task(Section, frozen=True, kw_only=True):
    """What is learned, and from which data."""

    name: str
    """the adapter's name, as composition expressions use it"""
    data: str
    """a folder with a file for each split, or `datasets:NAME`"""
    kind: Kind = ""
    """of the task; what the data looks like where empty"""
    dataset: str = ""
    """under which the metrics are listed; the task's name where empty"""
    labels: tuple[str, ...] = ()
    """in the order of the head's outputs; sorted as found where empty"""
    scale: tuple[str, ...] = ()
    """of a regression: labels from the least to the most, laid evenly over [-1, 1]"""
    columns: dict[str, str] = {}
    """what a field is called in the data, such as `text = "review"`"""
    metric: str = ""
    """decides which checkpoint and which seed are best; the kind's first where empty"""


class Base(Section, frozen=True, kw_only=True):
    """The transformer below: a folder, `package:NAME`, or a name that transformers resolves."""

    path: str


class Head(Section, frozen=True, kw_only=True):
    """What the head is like; the defaults of the `adapters` library where absent."""

    layers: int | None = None
    activation: str | None = None
    dropout: float | None = None
    use_pooler: bool | None = None


class AdapterMethod(Section, frozen=True, kw_only=True, tag_field="mode", tag="adapter"):
    """Train a new adapter and its head (ST-A)."""

    config: str = "seq_bn[reduction_factor=16]"
    drop_layers: int = 0
    """how many of the lowest layers have no adapter (AdapterDrop): nothing below the first is computed backwards"""
    learning_rate: ClassVar[float] = 1e-3


class FusionMethod(Section, frozen=True, kw_only=True, tag_field="mode", tag="fusion"):
    """Train an AdapterFusion over frozen members, and its head."""

    members: tuple[str, ...]
    """references or folders"""
    own: str = ""
    """the adapter of this very task, as the last member; its head is where the new one starts"""
    drop_layers: int = 0
    """how many of the lowest layers nothing is fused in (AdapterDrop)"""
    regularization: float = 1.0
    """factor on the engine's pull of V towards the identity"""
    learning_rate: ClassVar[float] = 5e-4


class HeadMethod(Section, frozen=True, kw_only=True, tag_field="mode", tag="head"):
    """Train only a head on the frozen base: what adapters have to beat."""

    learning_rate: ClassVar[float] = 1e-3


class FullMethod(Section, frozen=True, kw_only=True, tag_field="mode", tag="full"):
    """Train the whole base and a head: what adapters have to equal."""

    learning_rate: ClassVar[float] = 5e-5


class TopLayersMethod(Section, frozen=True, kw_only=True, tag_field="mode", tag="top-layers"):
    """Train the uppermost layers of the base and a head."""

    layers: int = 1
    learning_rate: ClassVar[float] = 5e-5


class MultitaskMethod(Section, frozen=True, kw_only=True, tag_field="mode", tag="multitask"):
    """Train the adapters of several tasks together (MT-A)."""

    config: str = "seq_bn[reduction_factor=16]"
    shared: Literal["base", "adapter"] = "base"
    """what the tasks share: the base, trained along, under an adapter for each (Pfeiffer et al. 2021, after Stickland
    and Murray 2019); or one adapter on the frozen base"""
    sampling: Literal["proportional", "uniform", "temperature", "annealed"] = "annealed"
    """how often a task is drawn: by its size; alike; by the `temperature`-th root of its size; or from by size at the
    begin to almost alike at the end (Stickland and Murray 2019)"""
    temperature: float = 2.0
    base_learning_rate: float = 5e-5
    learning_rate: ClassVar[float] = 1e-3


Method = AdapterMethod | FusionMethod | HeadMethod | FullMethod | TopLayersMethod | MultitaskMethod


class Training(Section, frozen=True, kw_only=True):
    """How it is trained."""

    seeds: tuple[int, ...] = (42,)
    epochs: int = 10
    max_steps: int | None = None
    min_epochs: float = 0.0
    """before which it does not stop early"""
    min_steps: int = 0
    learning_rate: float | None = None
    """the mode's own where absent"""
    batch_size: int = 32
    micro_batch_size: int | None = None
    """examples that go through the model at once; gradients of a batch are added up. All of it where absent"""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """of the learning rate after the warm-up"""
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    loss: str = ""
    """the kind's own where empty; `focal`, `softmax`"""
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = "none"
    """how much each label counts, in their order; `balanced` lets all labels count alike"""
    focus: float = 2.0
    """of the focal loss"""
    smoothing: float = 0.0
    """share of a target that goes to all labels alike"""
    patience: int | None = None
    """evaluations without progress before it stops early; never where absent"""
    stop_metric: str = ""
    """what progress is seen by: any metric of the kind, or `loss`; the task's metric where empty"""
    target: float | None = None
    """a value of the task's metric: the report says when it was reached first"""
    evaluations_per_epoch: int = 1
    max_length: int = 128
    """in tokens; longer texts are cut"""
    train_examples: int | None = None
    """a random sample of this size, the same for all seeds; all where absent"""
    validation_examples: int | None = None
    test_examples: int | None = None
    dropout: bool | None = None
    """whether the base has its dropout while training; where absent, only if it is itself trained"""
    cache: Auto = "auto"
    """whether what the frozen layers below the first trained one make of each text is computed once and kept"""
    gang: Auto = "auto"
    """whether all seeds are trained in one pass"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_seconds: float = 60.0
    """how much work is lost at most when it is killed"""


class Tracking(Section, frozen=True, kw_only=True):
    """Where it is followed, beside the run's own `log.jsonl`."""

    mlflow: str = ""
    """a tracking address, or a folder"""
    experiment: str = "adapterhub"


class Output(Section, frozen=True, kw_only=True):
    """Where the run goes, and what its manifest says when it is pushed."""

    folder: str = ""
    """`runs/<name of the file>` in the working directory where empty"""
    reference: str | None = None
    description: str = ""
    license: str | None = None
    languages: tuple[str, ...] = ()
    citation: str | None = None


class Experiment(Section, frozen=True, kw_only=True):
    """Everything a run depends on. Only `multitask` has more than one task."""

    tasks: tuple[Task, ...]
    base: Base
    method: Method
    head: Head = Head()
    training: Training = Training()
    tracking: Tracking = Tracking()
    output: Output = Output()

    @property
    def task(self) -> Task:
        """The task, or the first."""
        return self.tasks[0]

    @property
    def mode(self) -> str:
        """What is trained: `adapter`, `fusion`, `head`, `full`, `top-layers` or `multitask`."""
        return str(self.method.__struct_config__.tag)

    @property
    def learning_rate(self) -> float:
        """The one given, or the mode's own."""
        given = self.training.learning_rate
        return self.method.learning_rate if given is None else given

    @property
    def base_drops(self) -> bool:
        """Whether the base has its dropout: as is said, or where it is itself trained."""
        given, method = self.training.dropout, self.method
        trains_base = isinstance(method, FullMethod | TopLayersMethod) or (
            isinstance(method, MultitaskMethod) and method.shared == "base"
        )
        return trains_base if given is None else given

    @property
    def dataset(self) -> str:
        """Under which the metrics are listed."""
        return self.task.dataset or self.task.name
