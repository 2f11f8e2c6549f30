"""What the frozen lower layers make of each text, computed once and kept for all epochs, seeds and ways to train.

The states after the last layer below the first trained one, and what is fixed inside that one, lie in a file beside the
other caches, packed without padding, under a name that says of what they are: the base's weights, the texts' tokens,
the layer, the number format and the versions that computed them. With them a forward pass begins there. Right only
where those layers are a fixed function of the text: nothing in them is trained, and they have no dropout.

Idea: PAC (parallel adapters with an activation cache) and Skip2-LoRA; the layers to leave out are AdapterDrop's.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from adapterhub_client import fingerprint
from adapterhub_client.compose import Adapted
from adapterhub_client.compose.sites.backbone import Backbone as Sites
from adapterhub_training import batches, inner
from adapterhub_training.batches import Split
from adapterhub_training.inner import Enough, Inner

LARGEST_BYTES = 8 * 1024**3
"""of all that is kept; what was used longest ago goes first"""
AT_ONCE = 64
"""texts that are computed together"""
CLOSE = 1e-4
"""how much the output may differ, on texts of the data, before the states are not used"""

Step = Callable[[], None]


class Lower(NamedTuple):
    """The layers below the first that is trained."""

    backbone: Sites
    depth: int
    """how many they are"""
    first_only: bool = False
    """whether nothing but the first token is read of what they make"""
    inner: Inner | None = None
    """what is fixed in the layer above them"""

    @property
    def keeps_output(self) -> bool:
        """Whether what the last of them makes is kept."""
        return self.depth > 0 and (self.inner is None or self.inner.needs_input)

    @property
    def features(self) -> int:
        """Numbers that are kept for each token."""
        own = self.backbone.hidden_size if self.keeps_output else 0
        return own + (0 if self.inner is None else self.inner.features)

    @property
    def whole(self) -> bool:
        """Whether they are all layers that there are."""
        return self.depth == len(self.backbone.layers)


class States:
    """The states of a split: (tokens, features), all sequences one after the other."""

    def __init__(self, values: NDArray[Any], split: Split, lower: Lower) -> None:
        self._values, self._split, self._lower = values, split, lower

    def of(self, rows: list[int], *, multiple: int, like: Tensor) -> Tensor:
        """What is kept of these units: (sequences, length, features), zero where padding is."""
        sequences = self._split.sequences(rows)
        if self._lower.first_only:
            found = torch.from_numpy(self._values[sequences][:, None])
        else:
            places, real = self._split.spread(sequences, multiple=multiple)
            found = torch.from_numpy(self._values[places])
            found = found.masked_fill_(~torch.from_numpy(real)[..., None], 0)
        return found.to(like.device, like.dtype)


def below(adapted: Adapted, *, first_only: bool) -> Lower | None:
    """The layers below the first that is trained or has something active: none where that is the very first.

    Of encoders beside decoders, and of models whose layers share their weights, nothing can be kept: None.
    """
    backbone = adapted.backbone
    if backbone.first_decoder_layer is not None or backbone.architecture.is_layer_shared:
        return None
    trained = {id(p) for p in adapted.parameters() if p.requires_grad}
    count, acting = len(backbone.layers), _acting(adapted)
    own = (
        number
        for number, layer in enumerate(backbone.layers)
        if number in acting or any(id(p) in trained for p in layer.parameters())
    )
    depth = next(own, count)
    return Lower(backbone, depth, first_only and depth == count)


def size(split: Split, lower: Lower, dtype: torch.dtype) -> int:
    """How many bytes the states of a split take."""
    tokens = len(split.sequence_lengths) if lower.first_only else int(split.sequence_lengths.sum())
    return tokens * lower.features * torch.finfo(dtype).bits // 8


def states(split: Split, lower: Lower, folder: Path, *, dtype: torch.dtype, step: Step) -> States:
    """The states of a split, from the folder or computed now; `step` is called after each batch.

    Raises:
        OSError: The disk is full; nothing is left there.
    """
    shape = (
        len(split.sequence_lengths) if lower.first_only else int(split.sequence_lengths.sum()),
        lower.features,
    )
    kept = np.float16 if dtype is torch.float16 else np.float32
    path = folder / f"{_key(split, lower, dtype)}.npy"
    if path.is_file():
        with suppress(OSError, ValueError):  # unreadable is as if it were not there
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            if found.shape == shape and found.dtype == kept:
                os.utime(path)
                return States(found, split, lower)
    folder.mkdir(parents=True, exist_ok=True)
    make_room(folder, int(np.prod(shape)) * np.dtype(kept).itemsize)
    handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
    part = Path(name)
    try:
        values = np.lib.format.open_memmap(part, mode="w+", dtype=kept, shape=shape)
        os.posix_fallocate(handle, 0, part.stat().st_size)  # a full disk is found out now
        compute(split, lower, values, step)
        values.flush()
        del values
        part.rename(path)
    finally:
        os.close(handle)
        part.unlink(missing_ok=True)
    return States(np.load(path, mmap_mode="r", allow_pickle=False), split, lower)


@contextmanager
def given(lower: Lower, values: Tensor) -> Iterator[None]:
    """Let the model begin with these states; the layers below pass on what they get, and the last hands on its own."""
    layers = lower.backbone.layers[: lower.depth]
    parts = list(torch.split(values, _widths(lower), dim=-1))
    places = _places(lower.backbone.module, layers)
    try:
        for parent, key in places:
            parent._modules[key] = _PASSING  # noqa: SLF001  setattr would register it again
        if places:
            output = parts.pop(0) if lower.keeps_output else parts[0]  # a stand-in of its shape
            places[-1][0]._modules[places[-1][1]] = _Given(output)  # noqa: SLF001
        if lower.inner is None:
            yield
        else:
            above = lower.backbone.layers[lower.depth]
            with inner.given(above, lower.inner, parts):
                yield
    finally:
        for (parent, key), layer in zip(places, layers, strict=True):
            parent._modules[key] = layer  # noqa: SLF001


class _Passing(nn.Module):
    """A layer that does nothing."""

    def forward(self, hidden_states: Tensor, *_args: Any, **_options: Any) -> Tensor:  # noqa: ANN401
        return hidden_states


class _Given(nn.Module):
    """A layer that hands on what is known."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self._values = values

    def forward(self, *_args: Any, **_options: Any) -> Tensor:  # noqa: ANN401
        return self._values


_PASSING = _Passing()


def lower_output(lower: Lower, inputs: dict[str, Tensor]) -> Tensor:
    """Run what is below alone: (sequences, length, features)."""

    def runs() -> object:
        return lower.backbone.module(**inputs)

    if lower.inner is not None:
        above = lower.backbone.layers[lower.depth]
        output, parts = inner.outputs(above, lower.inner, runs)
        return torch.cat([output, *parts] if lower.keeps_output else parts, dim=-1)
    found: list[Tensor] = []

    def take(_module: nn.Module, _args: object, output: Any) -> None:  # noqa: ANN401
        found.append(output if isinstance(output, Tensor) else output[0])
        raise Enough

    handle = lower.backbone.layers[lower.depth - 1].register_forward_hook(take)
    try:
        with suppress(Enough):
            runs()
    finally:
        handle.remove()
    return found[0]


@torch.no_grad()
def compute(split: Split, lower: Lower, values: NDArray[Any], step: Step) -> None:
    """Fill in the states of a split: (tokens, features), or (sequences, features) of first tokens."""
    module, device = lower.backbone.module, lower.backbone.reference_parameter.device
    was_training = module.training
    module.eval()
    try:
        for rows in batches.ordered(split.lengths, AT_ONCE):
            batch = split.batch(rows).to(device)
            inputs = {k: v.flatten(0, -2) if v.dim() > 2 else v for k, v in batch.inputs.items()}  # noqa: PLR2004
            output = lower_output(lower, inputs).float().cpu().numpy()
            sequences = split.sequences(rows)
            if lower.first_only:
                values[sequences] = output[:, 0]
            else:
                places, real = split.spread(sequences)
                values[places[real]] = output[real]
            step()
    finally:
        module.train(was_training)


def _acting(adapted: Adapted) -> set[int]:
    """The layers in which something is active."""
    numbers = set()
    for name in adapted.adapters:
        if ("adapter", name) not in adapted.shelf.active:
            continue
        for key in adapted.adapters[name].places:
            first = str(key).split(" ", 1)[0]
            numbers.add(int(first) if first.isdigit() else 0)
    return numbers - adapted.activation.manner.skip_layers


def _widths(lower: Lower) -> list[int]:
    """The features of each thing that is kept."""
    own = [lower.backbone.hidden_size] if lower.keeps_output else []
    return own + [each.features for each in (lower.inner.modules if lower.inner else ())]


def _places(module: nn.Module, layers: list[nn.Module]) -> list[tuple[nn.Module, str]]:
    found = {
        id(child): (parent, key)
        for parent in module.modules()
        for key, child in parent.named_children()
    }
    return [found[id(layer)] for layer in layers]


def _key(split: Split, lower: Lower, dtype: torch.dtype) -> str:
    digest = hashlib.sha256()
    base = fingerprint.of_model(lower.backbone.module)
    facts = (
        base.root,
        type(lower.backbone.module).__name__,
        lower.backbone.config._attn_implementation,  # noqa: SLF001  how transformers chose to compute
        transformers.__version__,
        torch.__version__,
        str(lower.backbone.reference_parameter.device.type),
        lower.depth,
        lower.first_only,
        None if lower.inner is None else (lower.keeps_output, *lower.inner.modules),
        str(dtype),
        split.encoded.pad_left,
    )
    digest.update(repr(facts).encode())
    digest.update(split.sequence_lengths.tobytes())
    for key, values in sorted(split.tokens.items()):
        digest.update(key.encode() + values.tobytes())
    return digest.hexdigest()[:40]


def make_room(folder: Path, needed: int) -> None:
    """Delete what was used longest ago until there is room for more."""
    files = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    free = shutil.disk_usage(folder).free
    while files and (total + needed > LARGEST_BYTES or needed > free):
        oldest = files.pop(0)
        size = oldest.stat().st_size
        oldest.unlink(missing_ok=True)
        total, free = total - size, free + size
