"""What both sides of the comparison share: the base model, the inputs, the clock, and the cases without adapters.

This file also runs in the peer's environment, so it needs torch, transformers and safetensors only.
"""

import copy
import dataclasses
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import safetensors.torch
import torch
import transformers
from torch import nn
from torch.nn import functional

CLASSES = 2
INNER_LOADS = 5
MEGABYTE = 1e6


@dataclasses.dataclass(frozen=True)
class Setting:
    """On what everything is measured: a base model in a folder, and the size of a batch."""

    base: str
    """a folder with the weights both sides load"""
    adapters: tuple[str, ...]
    """folders of adapters for this base, in the format of the `adapters` library"""
    batch: int
    length: int
    device: str

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.device == "cpu" else torch.bfloat16


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure; each side knows how it is done there."""

    kind: str
    """forward, step, load, compiled: timed; bytes, disk: counted"""
    what: str
    count: int = 1


@dataclasses.dataclass
class Job:
    """A case ready to be timed; what `prepare` does is not."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    times: int = 1


class Base:
    """The base model, loaded once, and handed out with its weights shared or copied."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        loaded = transformers.BertModel.from_pretrained(setting.base, add_pooling_layer=False)
        self.model = (
            loaded.to(setting.device, setting.dtype).eval().requires_grad_(requires_grad=False)
        )
        torch.manual_seed(0)
        size = (setting.batch, setting.length)
        ids = torch.randint(5, self.model.config.vocab_size, size, device=setting.device)
        self.inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def shared(self) -> nn.Module:
        """A model with modules, and so hooks, of its own, over the same weights."""
        return copy.deepcopy(self.model, {id(p): p for p in self.model.parameters()})

    def copied(self) -> nn.Module:
        return copy.deepcopy(self.model).requires_grad_(requires_grad=True)

    def forward(self, model: nn.Module, **further: object) -> Job:
        def run():
            with torch.no_grad():
                model(**self.inputs, **further)

        return Job(run)

    def step(self, model: nn.Module) -> Job:
        """One step of training what is trainable: a linear head on the first token, fused AdamW."""
        head, loss = self._head_and_loss(model)
        model.train()
        trained = [p for p in [*model.parameters(), *head.parameters()] if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)

        def run():
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()

        return Job(run)

    def floor(self) -> Job:
        """The least a step of training adapters can be: forward, and gradients of activations above layer 0."""
        model = self.shared().train()
        head, loss = self._head_and_loss(model)
        head.requires_grad_(requires_grad=False)
        first = model.encoder.layer[0]
        first.register_forward_hook(_begin_gradients)
        return Job(lambda: loss().backward())

    def _head_and_loss(self, model):
        config, setting = self.model.config, self.setting
        head = nn.Linear(config.hidden_size, CLASSES, device=setting.device, dtype=setting.dtype)
        labels = torch.arange(setting.batch, device=setting.device) % CLASSES

        def loss():
            return functional.cross_entropy(
                head(model(**self.inputs).last_hidden_state[:, 0]), labels
            )

        return head, loss

    def bytes_for_backward(self, whole: nn.Module, model: nn.Module) -> float:
        """Megabytes that autograd keeps for the backward pass: storages, each once, without what lasts.

        The gradient starts at the embeddings, so that the base keeps its own part whether or not anything is
        attached, and the difference of two models is what was attached.
        """
        handle = model.embeddings.register_forward_hook(_begin_gradients)
        whole.train()
        torch.manual_seed(0)
        kept, again = (_kept_for_backward(lambda: whole(**self.inputs)) for _ in range(2))
        handle.remove()
        own = {t.untyped_storage().data_ptr() for t in [*whole.parameters(), *whole.buffers()]}
        # What both passes keep, while both live, is there once and for good, like a parameter.
        sizes = {
            key: size for key, size in again.sizes.items() if key not in own | kept.sizes.keys()
        }
        return sum(sizes.values()) / MEGABYTE


class Kept(NamedTuple):
    """What a forward pass kept for backward: bytes by storage; the output keeps them alive, so none is met twice."""

    sizes: dict[int, int]
    output: Any


def _kept_for_backward(forward: Callable[[], Any]) -> Kept:
    sizes: dict[int, int] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        return Kept(sizes, forward())


def _begin_gradients(_module, _args, output):
    if isinstance(output, tuple):
        return (output[0].detach().requires_grad_(), *output[1:])
    return output.detach().requires_grad_()


class Library(Protocol):
    """How one library does the cases with adapters."""

    def open(self, base: Base) -> None: ...

    def job(self, case: Case) -> Job: ...

    def count(self, case: Case) -> float: ...


class Bench:
    """One side: builds cases, times them, counts bytes."""

    def __init__(self, library: Library) -> None:
        torch.set_num_threads(1)
        self._library = library
        self._jobs: dict[Case, Job] = {}

    def open(self, setting: Setting) -> None:
        """Load the base model, in place of the one before."""
        self.clear()
        self._base = Base(setting)
        self._library.open(self._base)

    def build(self, case: Case) -> None:
        """Make a case ready and run it twice to warm up; an error of the library passes through."""
        job = self._common(case) or self._library.job(case)
        self._jobs[case] = job
        for _ in range(2):
            self.seconds(case)

    def seconds(self, case: Case) -> float:
        """Time one run: processor time of this process on a CPU, wall time around synchronisations on a GPU."""
        job = self._jobs[case]
        spent = 0.0
        for _ in range(job.times):
            job.prepare()
            began = self._clock()
            job.run()
            spent += self._clock() - began
        return spent / job.times

    def count(self, case: Case) -> float:
        return self._library.count(case)

    def clear(self) -> None:
        """Let go of all cases."""
        self._jobs.clear()
        gc.collect()

    def _clock(self) -> float:
        if self._base.setting.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def _common(self, case: Case) -> Job | None:
        base = self._base
        match case.kind, case.what:
            case "forward", "base":
                return base.forward(base.shared())
            case "compiled", "base":
                return base.forward(torch.compile(base.shared()))
            case "step", "base":
                return base.step(base.copied())
            case "step", "floor":
                return base.floor()
            case "load", "base":
                return Job(self._read_files, times=INNER_LOADS)
        return None

    def _read_files(self) -> None:
        for folder in self._base.setting.adapters:
            safetensors.torch.load_file(Path(folder) / "adapter.safetensors")


def folder_size(folder: str | Path) -> float:
    """Megabytes of all files."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / MEGABYTE
