"""Copies the batch for a parallel block, as late as possible: layers below its first adapter run once.

Where that first adapter stands at a post-norm slot, the slot itself hands on the copies, and the layer up to there runs
once as well. Elsewhere the layer's input is copied. The layers that follow are called with masks, positions and the
like of the original batch, and get copies of these. A decoder beside an encoder gets copies of all it is called with.
"""

from collections.abc import Collection, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose import expression
from adapterhub_client.compose.engine.masks import MaskHooks
from adapterhub_client.compose.expression import Expression, Parallel
from adapterhub_client.compose.methods import bitfit, prompt
from adapterhub_client.compose.methods.prompt import Prompt
from adapterhub_client.compose.shelf import Shelf
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.compose.sites.spots import HIDDEN, Slot
from adapterhub_client.errors import CompositionError


class Copies(NamedTuple):
    """Where the batch of a parallel block is copied."""

    number: int
    place: Place | None = None
    """the slot or layer where the copies are made; None for the embeddings' output"""
    is_in_decoder: bool = False
    """whether that is in a decoder beside an encoder, which gets copies of all its inputs"""
    is_of_inputs: bool = False
    """whether all that the model is called with is copied"""

    @property
    def slot(self) -> Place | None:
        """The slot that makes the copies itself."""
        if self.place is None or self.is_in_decoder or not isinstance(self.place.spot, Slot):
            return None
        return self.place if self.place.spot.norm is not None else None


def plan(
    tree: Expression | None,
    shelf: Shelf,
    backbone: Backbone,
    skip_layers: Collection[int] = (),
) -> Copies | None:
    """Where the batch has to be copied; None where nothing is parallel.

    Nothing is bound in the layers to skip, so nothing can be copied by what is bound there.

    Raises:
        CompositionError: Parallel blocks of one composition differ in their number of parts.
    """
    blocks = list(expression.blocks(tree, Parallel)) if tree is not None else []
    if not blocks:
        return None
    counts = {len(block.children) for block in blocks}
    if len(counts) > 1:
        raise CompositionError(
            f"The parallel blocks have {' and '.join(map(str, sorted(counts)))} parts; "
            "a batch is copied once, so they need equally many.",
            hint="give them equally many parts; the same adapter may stand in several",
        )
    names = {name for block in blocks for name in expression.leaves(block)}
    used = {key for name in names for key in shelf.adapters[name].places}
    if any(module.config.is_input for module in _prompts(shelf, names)):
        return Copies(counts.pop(), is_of_inputs=True)
    at_once = used & {"invertible", "prompt"} or any(bitfit.MARK in key for key in used)
    if at_once or backbone.architecture.is_layer_shared:
        return Copies(counts.pop())
    in_use = (place for place in backbone.places() if place.layer not in skip_layers)
    first = next((place for place in in_use if str(place) in used), None)
    decoder = backbone.first_decoder_layer
    is_in_decoder = first is not None and decoder is not None and first.layer >= decoder
    return Copies(counts.pop(), first, is_in_decoder)


def install(copies: Copies, backbone: Backbone) -> Iterator[RemovableHandle]:
    """Register the hooks that copy; each handle removes one."""
    if copies.is_of_inputs:
        inputs = _Inputs(copies.number)
        yield backbone.module.register_forward_pre_hook(inputs, with_kwargs=True)
        return
    if copies.place is None:
        embeddings = backbone.module.get_submodule(backbone.architecture.embeddings)
        # A mask that is read before is of the original rows then, and copied for each layer.
        if not backbone.architecture.masks_before_embeddings:
            yield from MaskHooks(backbone, partial(_copied, count=copies.number)).install()
        yield embeddings.register_forward_hook(partial(_copied_output, copies.number))
    begin = 0 if copies.place is None else copies.place.layer
    decoder = backbone.decoder
    if decoder is not None:
        yield decoder.register_forward_pre_hook(_Inputs(copies.number), with_kwargs=True)
    for number, layer in enumerate(backbone.layers[: backbone.first_decoder_layer]):
        if number < begin:
            continue
        starts = copies.place is not None and number == begin and copies.slot is None
        if starts or number > begin or copies.place is None:
            hook = _LayerInputs(copies.number, makes_copies=starts)
            yield layer.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)


class _Inputs:
    """What a model is called with, or its decoder beside an encoder, over all copies; the encoder may have its own."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __call__(
        self, _module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        read = next(
            value
            for value in (options.get("input_ids"), options.get("inputs_embeds"), *args)
            if isinstance(value, Tensor)
        )
        rows = read.shape[0]
        named = {name: self._over_all(value, rows) for name, value in options.items()}
        return tuple(self._over_all(value, rows) for value in args), named

    def _over_all(self, value: Any, rows: int) -> Any:  # noqa: ANN401 - whatever a decoder is called with
        is_of_batch = isinstance(value, Tensor) and value.dim() > 1 and value.shape[0] == rows
        return _copied(value, self._count) if is_of_batch else value


class _LayerInputs:
    """What a layer is called with, over all copies."""

    def __init__(self, count: int, *, makes_copies: bool) -> None:
        self._count, self._makes_copies = count, makes_copies

    def __call__(
        self, _module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        by_name = len(args) == 0  # compilers do not follow `not` of a tuple
        hidden: Tensor = options[HIDDEN] if by_name else args[0]
        if self._makes_copies:
            hidden = _copied(hidden, self._count)
        rows = hidden.shape[0]
        others = tuple(self._matched(value, rows) for value in args[1:])
        named = {name: self._matched(value, rows) for name, value in options.items()}
        if by_name:
            return (), named | {HIDDEN: hidden}
        return (hidden, *others), named

    def _matched(self, value: Any, rows: int) -> Any:  # noqa: ANN401 - whatever a layer is called with
        """A tensor of the original batch over all copies; all else as it is."""
        if isinstance(value, tuple) and all(isinstance(part, Tensor) for part in value):
            return tuple(self._matched(part, rows) for part in value)
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[0] * self._count == rows:
            return _copied(value, self._count)
        return value


def _prompts(shelf: Shelf, names: Iterable[str]) -> Iterator[Prompt]:
    for name in names:
        places = shelf.adapters[name].places
        module = places[prompt.KEY] if prompt.KEY in places else None  # noqa: SIM401 - no dict
        if isinstance(module, Prompt):
            yield module


def _copied_output(count: int, _module: nn.Module, _args: object, output: Tensor) -> Tensor:
    return _copied(output, count)


def _copied(tensor: Tensor, count: int) -> Tensor:
    return tensor.repeat(count, *[1] * (tensor.dim() - 1))
