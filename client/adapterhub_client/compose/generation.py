"""Generation with what is active: the model's own, where that gives the numbers of whole passes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from adapterhub_client.compose.activation import Activation
from adapterhub_client.compose.engine.residents import Residents
from adapterhub_client.compose.expression import Block, Expression, Parallel, leaves
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.errors import CompositionError

Names = Sequence[str | None] | Tensor


def generate(
    model: nn.Module,
    activation: Activation,
    adapters: Mapping[str, LoadedAdapter],
    names: Names | None,
    options: dict[str, Any],
) -> Any:  # noqa: ANN401 - tokens, or what the options ask for
    """What the model generates; ``names`` are the rows' adapters where they choose among residents.

    Raises:
        CompositionError: The model does not generate, or what is active does not go with it or with the options.
    """
    own: Any = getattr(model, "generate", None)
    if own is None:
        raise CompositionError(
            f"{type(model).__name__} does not generate: it has no language model's head.",
            hint="attach to a model of AutoModelForCausalLM or AutoModelForSeq2SeqLM",
        )
    _require_own_head(activation)
    tree = activation.expression
    if tree is not None:
        _require_one_copy(tree)
        _require_countable(tree, adapters, model, options)
    residents = activation.residents
    if residents is None:
        _require_no_names(names)
        return own(**options)
    return _of_rows(own, model, residents, names, options)


def _of_rows(
    own: Any,  # noqa: ANN401 - the model's method
    model: nn.Module,
    residents: Residents,
    names: Names | None,
    options: dict[str, Any],
) -> Any:  # noqa: ANN401 - tokens, or what the options ask for
    for option in ("num_beams", "num_return_sequences"):
        count = _setting(model, options, option) or 1
        if count > 1:
            raise CompositionError(
                f"{option}={count} makes {count} rows of each, and the rows name their adapters one by one.",
                hint="activate one adapter at a time for it"
                if option == "num_beams"
                else "repeat the inputs and the names instead",
            )
    first = next((value for value in options.values() if isinstance(value, Tensor)), None)
    if first is None:
        raise CompositionError("There is nothing to generate from.", hint="give `input_ids`")
    residents.choose(names, first.shape[0], first.device)
    try:
        return own(**options)
    finally:
        residents.release()


def _require_own_head(activation: Activation) -> None:
    residents = activation.residents
    if activation.heads or (residents is not None and residents.heads):
        raise CompositionError(
            "Heads are active, and what generates is the model's own head.",
            hint="activate without a head (`head=False`); a language model's head that was loaded as the "
            "model's own kind, `default`, can be active",
        )


def _require_one_copy(tree: Expression) -> None:
    if any(isinstance(block, Parallel) for block in _blocks(tree)):
        raise CompositionError(
            f"`{tree}` makes copies of a batch inside the model, which generation cannot continue.",
            hint="repeat the inputs, and activate `batchsplit(...; batch_sizes=[...])` with a part for each copy",
        )


def _require_countable(
    tree: Expression,
    adapters: Mapping[str, LoadedAdapter],
    model: nn.Module,
    options: Mapping[str, Any],
) -> None:
    """Refuse gates with a cache: they are means over all tokens, of which only the newest would be there."""
    if _setting(model, options, "use_cache") is False:
        return
    for name in leaves(tree):
        modules = adapters[name].modules() if name in adapters else ()
        if any(getattr(module, "gate", None) is not None for module in modules):
            raise CompositionError(
                f"The gate of the adapter {name!r} is a mean over all tokens, and with a cache only the newest "
                "are there.",
                hint="generate with use_cache=False",
            )


def _require_no_names(names: Names | None) -> None:
    if names is not None:
        raise CompositionError(
            "Rows name adapters, but none are resident.", hint="call `activate_rows` first"
        )


def _setting(model: nn.Module, options: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401
    """An option of generation, where the model's method finds it."""
    configs = [options.get("generation_config"), getattr(model, "generation_config", None)]
    given = [options.get(name), *(getattr(config, name, None) for config in configs)]
    return next((value for value in given if value is not None), None)


def _blocks(tree: Expression) -> Iterator[Block]:
    if isinstance(tree, Block):
        yield tree
        for child in tree.children:
            yield from _blocks(child)
