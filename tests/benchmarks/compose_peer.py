"""The cases of `compose.py` in the `adapters` library: a process of its own that takes one command a line.

A command is a JSON object: `do` names a method of `Bench`, and the rest are its arguments. The answer is one line too.
"""

import dataclasses
import json
import logging
import sys
import tempfile

import adapters
from adapters import composition
from compose_workload import Base, Bench, Case, Job, Setting, folder_size

METHODS = {
    "double_seq_bn": "double_seq_bn",
    "lora": "lora",
    "ia3": "ia3",
    "prefix": "prefix_tuning",
}
BLOCKS = {
    "stack": composition.Stack,
    "fuse": composition.Fuse,
    "parallel": composition.Parallel,
    "average": composition.Average,
}


class Peer:
    """The `adapters` library."""

    def open(self, base: Base) -> None:
        self._base = base

    def job(self, case: Case) -> Job:
        if case.kind == "load":
            return self._load()
        model = self._active(case, train=case.kind == "step")
        return self._base.step(model) if case.kind == "step" else self._base.forward(model)

    def count(self, case: Case) -> float:
        fused = self._active(dataclasses.replace(case, what="fuse"), train=case.kind == "bytes")
        if case.kind == "bytes":
            alone = self._base.shared()
            with_fusion = self._base.bytes_for_backward(fused, fused)
            return with_fusion - self._base.bytes_for_backward(alone, alone)
        with tempfile.TemporaryDirectory() as folder:
            fused.save_adapter_fusion(folder, ",".join(_names(case.count)), use_safetensors=True)
            return folder_size(folder)

    def _active(self, case: Case, *, train: bool):
        model = self._base.shared()
        adapters.init(model)
        names = _names(case.count)
        for name in names:
            model.add_adapter(name, config=METHODS.get(case.what, "seq_bn"))
        setup = self._setup(case.what, names)
        if case.what == "fuse":
            model.add_adapter_fusion(setup)
        model.to(self._base.setting.device, self._base.setting.dtype)
        if case.what != "idle":
            model.set_active_adapters(setup)
        if train and case.what == "fuse":
            model.train_adapter_fusion(setup)
        elif train:
            model.train_adapter(setup)
        return model if train else model.eval()

    def _setup(self, what: str, names: list[str]):
        if what == "batchsplit":
            each = self._base.setting.batch // len(names)
            return composition.BatchSplit(*names, batch_sizes=[each] * len(names))
        return BLOCKS[what](*names) if what in BLOCKS else names[0]

    def _load(self) -> Job:
        model = self._base.shared()
        adapters.init(model)

        def prepare():
            for name in list(model.adapters_config.adapters):
                model.delete_adapter(name)

        def run():
            for index, folder in enumerate(self._base.setting.adapters):
                model.load_adapter(
                    folder, load_as=f"a{index}", with_head=False, use_safetensors=True
                )

        return Job(run, prepare, times=2)


def _names(count: int) -> list[str]:
    return [f"a{index}" for index in range(count)]


def answer(bench: Bench, command: dict) -> object:
    """Obey one command."""
    do = getattr(bench, command.pop("do"))
    if "case" in command:
        return do(Case(**command["case"]))
    if "setting" in command:
        return do(Setting(**command["setting"]))
    return do()


def main() -> None:
    """Answer until the input ends; what the libraries print goes to the errors."""
    replies, sys.stdout = sys.stdout, sys.stderr
    logging.getLogger("adapters").setLevel(logging.ERROR)
    bench = Bench(Peer())
    for line in sys.stdin:
        try:
            reply = {"value": answer(bench, json.loads(line))}
        except Exception as error:  # noqa: BLE001 - whatever the library raises is the row's result
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
