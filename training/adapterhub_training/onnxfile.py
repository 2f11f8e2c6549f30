"""A run's model as one ONNX file: any batch, any length, checked against what torch computes."""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch

from adapterhub_training import backbone
from adapterhub_training.batches import Split
from adapterhub_training.errors import NotTheSame, TrainingError
from adapterhub_training.kinds import Limits
from adapterhub_training.saved import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET = 18
CLOSE = 1e-4
"""how much an output may differ at most"""
SHAPES = ((1, 5), (3, 17), (8, 64))
"""texts and tokens that the file is tried with, beside texts of the data; no more tokens than the base reads"""
TRIED = 8


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written. `largest_difference` is over all outputs and all inputs that were tried."""

    path: str
    bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    largest_difference: float
    tried: tuple[tuple[int, ...], ...]


def export(model: Model, path: Path) -> Exported:
    """Write a run's model, composition and head in one graph, and compare it with onnxruntime.

    Raises:
        TrainingError: The libraries of the extra `onnx` are not installed.
        NotTheSame: The file does not compute what torch does; it is not kept.
        OSError: The disk is full; nothing is left.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]  # noqa: PLC0415  an extra of its own
        import onnxscript  # noqa: F401, PLC0415
    except ImportError as error:
        raise TrainingError(
            "Writing ONNX files needs the libraries `onnx`, `onnxscript` and `onnxruntime`.",
            hint='pip install "adapterhub[onnx]"',
        ) from error
    subject, task = model.subject, model.experiment.task.name
    subject.eval()
    subject.compose(task, [(subject.members[0], 0)])
    split = _examples(model)
    names = list(split.encoded.inputs)
    module = subject.adapted.exportable(*names)
    example = _inputs(split, names)
    with torch.no_grad():
        outputs = list(module(*example))
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(module, example, names, outputs, part, _facts(model))
        session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
        longest = backbone.positions(model.base.model)
        tried = list(_tried(example, names, model.base.tokenizer.vocab_size, longest))
        worst = max(_difference(module, session, names, inputs) for inputs in tried)
        if not worst <= CLOSE:
            raise NotTheSame(worst)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return Exported(
        path=str(path),
        bytes=path.stat().st_size,
        inputs=tuple(names),
        outputs=tuple(outputs),
        largest_difference=worst,
        tried=tuple(tuple(inputs[0].shape) for inputs in tried),
    )


def _write(  # noqa: PLR0913, PLR0917
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    names: list[str],
    outputs: list[str],
    path: Path,
    facts: dict[str, str],
) -> None:
    dimensions: dict[int, Any] = {0: torch.export.Dim("batch")}
    dimensions[example[0].dim() - 1] = torch.export.Dim("length")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter's own libraries
        noisy = logging.getLogger("torch.onnx")
        level = noisy.level
        noisy.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=(tuple(dimensions for _ in names),),
                opset_version=OPSET,
                verbose=False,
            )
        finally:
            noisy.setLevel(level)
    if program is None:
        raise TrainingError("torch has written no ONNX program.")
    program.model.metadata_props.update(facts)
    program.save(path)


def _examples(model: Model) -> Split:
    """A few texts, in batches the length of the longest of them."""
    dataset = model.dataset()
    examples = dataset.splits[dataset.reported][:TRIED]
    limits = Limits(model.experiment.training.max_length)
    return Split(model.kind.encode(model.base.tokenizer, examples, limits), model.kind)


def _inputs(split: Split, names: list[str]) -> tuple[torch.Tensor, ...]:
    batch = split.batch(list(range(len(split))))
    return tuple(batch.inputs[name] for name in names)


def _tried(
    example: tuple[torch.Tensor, ...], names: list[str], vocabulary: int, longest: int | None
) -> Iterator[tuple[torch.Tensor, ...]]:
    """The example, and made-up texts of other shapes with padding."""
    yield example
    chance = torch.Generator().manual_seed(0)
    between = example[0].shape[1:-1]
    for count, tokens in SHAPES:
        length = min(tokens, longest or tokens)
        shape = (count, *between, length)
        ids = torch.randint(vocabulary // 2, vocabulary, shape, generator=chance)
        mask = torch.ones_like(ids)
        mask[0, ..., length // 2 :] = 0
        made = {"input_ids": ids, "attention_mask": mask}
        yield tuple(made.get(name, torch.zeros_like(ids)) for name in names)


def _difference(
    module: torch.nn.Module,
    session: Any,  # noqa: ANN401  of onnxruntime
    names: list[str],
    inputs: tuple[torch.Tensor, ...],
) -> float:
    with torch.no_grad():
        expected = module(*inputs)
    known = {each.name for each in session.get_inputs()}
    feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True) if name in known}
    found: list[NDArray[np.float32]] = session.run(list(expected), feed)
    pairs = zip(found, expected.values(), strict=True)
    return max(float(np.abs(own - other.numpy()).max()) for own, other in pairs)


def _facts(model: Model) -> dict[str, str]:
    """What whoever serves the file has to know."""
    results = model.results
    return {
        "task": results.task,
        "kind": results.kind,
        "labels": msgspec.json.encode(results.labels or results.scale).decode(),
        "base": results.base,
        "base_fingerprint": results.base_fingerprint or "",
        "max_length": str(model.experiment.training.max_length),
    }
