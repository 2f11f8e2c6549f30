"""Where the first and last real tokens of each row are, in a whole pass and in one that continues a cache."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose import caches
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError

MASK = "attention_mask"
MASK_BESIDE = "encoder_attention_mask"
STATES_BESIDE = "encoder_hidden_states"
ADDED = 4  # masks of so many dimensions are added to scores where they are no booleans

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Extent:
    """The first and the last real tokens of each row of a call, for one stack of layers.

    Tokens are counted from the first real one of a row, those in the cache too: a token is the third whether it comes
    with the prompt or alone. The last ones are those of the call that begins a cache: what is generated after them is
    not changed, since a token that was the last can no longer be changed back.
    """

    def __init__(self, stack: nn.Module) -> None:
        self._stack = stack
        self._names = list(inspect.signature(stack.forward).parameters)
        self._real: tuple[Tensor, Tensor] | None = None
        self._past: int | Tensor = 0

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook; the handle removes it."""
        yield self._stack.register_forward_pre_hook(self._record, with_kwargs=True)

    def bounds(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Start and end of the real tokens, counted from the first token of a layer's output.

        Shapes:
            hidden: (batch, tokens, features)
            result: (batch) each; the end is not positive where no token is one of the last
        """
        rows, length = hidden.shape[:2]
        start, end = self._of_rows(rows, length, hidden.device)
        return start - self._past, self._before_cache(end)

    def _of_rows(self, rows: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Start and end in the whole sequence."""
        if self._real is None:
            start = torch.zeros(rows, dtype=torch.long, device=device)
            return start, start + length
        start, end = (bound.repeat(rows // bound.shape[0]) for bound in self._real)
        return start, end

    def _before_cache(self, end: Tensor) -> Tensor:
        """The end in a call that begins a cache; zero in one that continues it."""
        if isinstance(self._past, Tensor):
            return end * (self._past == 0)
        return torch.zeros_like(end) if self._past else end

    def _record(self, _module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._past = self._length_of_cache(args, options)
        self._real = _real_tokens(self._given(MASK, (args, options)))

    def _length_of_cache(self, args: tuple[Any, ...], options: dict[str, Any]) -> int | Tensor:
        cache = caches.given(options | {caches.NAME: self._given(caches.NAME, (args, options))})
        length: int | Tensor = 0 if cache is None else cache.get_seq_length()
        # Static caches hand out the counter that they go on counting with.
        return length.clone() if isinstance(length, Tensor) else length

    def _given(self, name: str, call: Call) -> Any:  # noqa: ANN401 - whatever a model is called with
        args, options = call
        if name in options or name not in self._names:
            return options.get(name)
        at = self._names.index(name)
        return args[at] if at < len(args) else None


class ExtentBeside(Extent):
    """The same for a decoder beside an encoder, which takes the encoder's positions, as in the reference library.

    So its last ones are where the encoder's are. Without a mask it has its own where it is the shorter one.
    """

    def __init__(self, stack: nn.Module) -> None:
        super().__init__(stack)
        self._length: int | None = None

    def bounds(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Start and end of the encoder's real tokens, counted from the first token of a layer's output."""
        rows, length = hidden.shape[:2]
        if self._real is not None:
            start, end = self._of_rows(rows, length, hidden.device)
            return start - self._past, end - self._past
        if self._length is not None and self._length <= length:
            length = self._length
        start, end = self._of_rows(rows, length, hidden.device)
        return start - self._past, self._before_cache(end)

    def _record(self, _module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._past = self._length_of_cache(args, options)
        self._real = _real_tokens(self._given(MASK_BESIDE, (args, options)))
        states = self._given(STATES_BESIDE, (args, options))
        self._length = states.shape[1] if isinstance(states, Tensor) else None


def extents(backbone: Backbone) -> Sequence[Extent]:
    """One for the model; or one for the encoder and one for the decoder, which generation calls apart."""
    if backbone.encoder is None or backbone.decoder is None:
        return [Extent(backbone.module)]
    return [Extent(backbone.encoder), ExtentBeside(backbone.decoder)]


def _real_tokens(mask: Any) -> tuple[Tensor, Tensor] | None:  # noqa: ANN401 - whatever a model takes
    """Start and end of the real tokens, (batch) each; None without a mask.

    Shapes:
        mask: (batch, tokens), or what is seen by each token, (batch, heads, tokens, tokens); one for each kind of
            layer, or only one
    """
    if isinstance(mask, Mapping):
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise CompositionError(
            f"The first and last tokens (ReFT) cannot be seen in a mask of the kind {type(mask).__name__!r}.",
            hint="give an attention mask of the shape (batch, length)",
        )
    is_added = mask.dim() == ADDED and mask.is_floating_point()
    is_real = mask == 0 if is_added else mask != 0
    while is_real.dim() > 2:  # noqa: PLR2004 - (batch, length)
        is_real = is_real.any(dim=1)
    is_real = is_real.long()
    start = is_real.argmax(dim=1)
    return start, start + is_real.sum(dim=1)
