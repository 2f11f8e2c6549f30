"""The cases of `compose.py` in this library, and LoRA in peft, which lives in the same environment."""

import tempfile
import warnings
from pathlib import Path

import torch
from compose_workload import Base, Case, Job, folder_size

from adapterhub_client import compose

METHODS = {
    "double_seq_bn": "double_seq_bn",
    "lora": "lora[r=8]",
    "ia3": "ia3",
    "prefix": "prefix_tuning",
}
ROWS_AT_ONCE = 8


class Ours:
    """This library."""

    def open(self, base: Base) -> None:
        self._base = base

    def job(self, case: Case) -> Job:
        if case.what == "peft":
            return self._base.forward(_in_peft(self._base))
        match case.kind:
            case "forward" if case.what == "resident":
                return self._resident(case.count)
            case "forward":
                return self._base.forward(self._active(case))
            case "compiled":
                return self._base.forward(torch.compile(self._active(case)))
            case "step":
                return self._base.step(self._active(case, train=True))
        return self._load(case.what)

    def count(self, case: Case) -> float:
        if case.kind == "bytes":
            fused, alone = self._active(case, train=True), self._base.shared()
            with_fusion = self._base.bytes_for_backward(fused, fused.model)
            return with_fusion - self._base.bytes_for_backward(alone, alone)
        fused = self._active(Case("disk", "fuse", case.count))
        options = {"form": "compiled"} if case.what == "compiled" else {}
        with tempfile.TemporaryDirectory() as folder:
            fused.save_fusion(_fusion(case.count), Path(folder) / "fusion", **options)
            return folder_size(folder)

    def _active(self, case: Case, *, train: bool = False) -> compose.Adapted:
        """A model of its own with a composition in effect; in training, only that is trainable."""
        adapted = compose.attach(self._base.shared())
        names = _names(case.count)
        for name in names:
            adapted.add(name, METHODS.get(case.what, "seq_bn"))
        if case.what == "fuse":
            adapted.add_fusion(*names)
        if case.what != "idle":
            adapted.activate(self._expression(case.what, names))
        trained = _fusion(case.count) if case.what == "fuse" else names[0]
        adapted.trainable(*([trained] if train else []))
        return adapted

    def _expression(self, what: str, names: list[str]) -> str:
        listed = ", ".join(names)
        if what == "batchsplit":
            each = self._base.setting.batch // len(names)
            return f"batchsplit({listed}; batch_sizes={[each] * len(names)})"
        if what in ("stack", "fuse", "parallel", "average"):
            return f"{what}({listed})"
        return listed

    def _resident(self, count: int) -> Job:
        """A batch whose rows name different adapters, with ``count`` adapters to choose from."""
        adapted = compose.attach(self._base.shared())
        names = _names(count)
        for name in names:
            adapted.add(name)
        adapted.trainable()
        adapted.activate_rows(names)
        chosen = [names[row * (count - 1) // (ROWS_AT_ONCE - 1)] for row in range(ROWS_AT_ONCE)]
        rows = [chosen[row % ROWS_AT_ONCE] for row in range(self._base.setting.batch)]
        return self._base.forward(adapted, adapters=rows)

    def _load(self, what: str) -> Job:
        """Load into a model that has loaded before, like the peer's; or the first time, which fingerprints the base."""
        model = self._base.shared()
        attached = compose.attach(model)

        def prepare():
            nonlocal attached
            if what == "first":
                attached = compose.attach(model)
            for name in list(attached.adapters):
                attached.delete(name)

        def run():
            for index, folder in enumerate(self._base.setting.adapters):
                attached.load(folder, name=f"a{index}")

        return Job(run, prepare, times=5)


def write_adapters(base: Base, folder: Path, count: int) -> tuple[str, ...]:
    """Adapters on disk, for both sides to load."""
    adapted = compose.attach(base.shared())
    for name in _names(count):
        adapted.add(name)
        adapted.save(name, folder / name)
    return tuple(str(folder / name) for name in _names(count))


def _names(count: int) -> list[str]:
    return [f"a{index}" for index in range(count)]


def _fusion(count: int) -> str:
    return ",".join(_names(count))


def _in_peft(base: Base) -> torch.nn.Module:
    import peft  # noqa: PLC0415 - of all rows only this one needs it

    config = peft.LoraConfig(r=8, target_modules=["query", "value"])
    with warnings.catch_warnings(category=FutureWarning, action="ignore"):
        return peft.get_peft_model(base.shared(), config).eval()
