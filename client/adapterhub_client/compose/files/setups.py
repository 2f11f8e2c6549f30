"""Setups of the `adapters` library: a composition in `adapter_setup.json`, and what it is made of in sub-folders."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from adapterhub_client.compose import expression
from adapterhub_client.compose.activation import Activation
from adapterhub_client.compose.expression import (
    Average,
    BatchSplit,
    Block,
    Expression,
    Fuse,
    Leaf,
    Parallel,
    Split,
    Stack,
)
from adapterhub_client.compose.files import archive
from adapterhub_client.compose.files import folder as folders
from adapterhub_client.compose.files.folder import Format
from adapterhub_client.compose.files.sources import STATIC_HEAD, FusionFiles, Sources
from adapterhub_client.compose.heads.static import StaticHead
from adapterhub_client.compose.shelf import Shelf
from adapterhub_client.errors import CompositionError, Corrupt, NotAnAdapter

FILE = "adapter_setup.json"
ROUNDING = 1e-6
_OPTIONS = ("splits", "batch_sizes", "weights", "name")
_DIFFERING = (Average, Parallel, BatchSplit, Split)

Node = dict[str, Any]


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """A composition as it was saved, to be handed to `activate`."""

    expression: Expression
    heads: tuple[str, ...] | None = None
    """the heads it was saved with, in the order of its branches; None where nothing was said of heads"""
    compat: Literal["adapters"] | None = None
    """set where the reference library wrote it, and computes its blocks in a way of its own"""


def load(folder: Path, sources: Sources, shelf: Shelf, *, any_base: bool) -> Setup:
    """Load all adapters, fusions and heads of a setup, whole or not at all.

    Raises:
        NotAnAdapter, Corrupt: The folder holds no setup, or its file cannot be read.
        CompositionError: It has blocks that cannot be, or parts that are not there.
    """
    if archive.is_archive(folder):
        with archive.unpacked(folder) as unpacked:
            return load(unpacked, sources, shelf, any_base=any_base)
    written, tree = _read(folder)
    has_static_head = written.get("head_setup") is True
    heads = (STATIC_HEAD,) if has_static_head else _head_names(folder, written.get("head_setup"))
    with shelf.whole():
        for name in dict.fromkeys(expression.leaves(tree)):
            sources.load(_inside(folder, name), name, any_base=any_base)
        tree = _with_fusions(tree, folder, sources, any_base=any_base)
        for name in () if has_static_head else heads or ():
            place = _inside(folder, name)
            if folders.holds(place, folders.HEAD) or name not in shelf.heads:
                sources.load_head(place, name, any_base=any_base)
        if has_static_head:
            sources.load_head(folder, STATIC_HEAD, any_base=any_base)
    is_theirs = written.get("library") != folders.LIBRARY and _differs(tree)
    return Setup(expression=tree, heads=heads, compat="adapters" if is_theirs else None)


def active(activation: Activation, shelf: Shelf) -> Setup:
    """What is active now.

    Raises:
        CompositionError: Nothing is, or rows name their adapters.
    """
    tree = activation.expression
    if tree is None or activation.residents is not None:
        fault = "No composition is active" if tree is None else "Every row names its own adapter"
        raise CompositionError(f"{fault}, so there is none to save.", hint="activate a composition")
    names = {id(head): name for name, head in shelf.heads.items()}
    heads = [names[id(head)] for head in activation.heads]
    heads += [
        name
        for name, head in shelf.heads.items()
        if isinstance(head, StaticHead) and ("head", name) in shelf.active
    ]
    compat: Literal["adapters"] | None = "adapters" if activation.manner.as_reference else None
    return Setup(expression=tree, heads=tuple(heads) or None, compat=compat)


def save(folder: Path, setup: Setup, sources: Sources, shelf: Shelf, form: Format) -> None:
    """Write a composition with everything it is made of, so that the `adapters` library loads it.

    Raises:
        CompositionError: A name cannot be that of a sub-folder.
    """
    tree, heads = setup.expression, setup.heads or ()
    fusions = dict.fromkeys(fuse.fusion for fuse in expression.fusions(tree))
    adapters = [name for name in dict.fromkeys(expression.leaves(tree)) if name not in fusions]
    places = {name: _inside(folder, name) for name in [*adapters, *fusions, *heads]}
    for name in adapters:
        sources.save(name, places[name], None, form)
    for name in fusions:
        sources.save_fusion(name, places[name], FusionFiles(format=form), None)
    has_static_head = any(isinstance(shelf.heads[name], StaticHead) for name in heads)
    for name in dict.fromkeys(heads):
        sources.save_head(name, folder if has_static_head else places[name], form)
    written = {
        "adapter_setup": _node(tree if isinstance(tree, Block) else Stack((tree,))),
        "head_setup": True if has_static_head else _head_setup(tree, heads),
        "version": folders.VERSION,
    }
    if setup.compat is None:
        written["library"] = folders.LIBRARY
    (folder / FILE).write_text(json.dumps(written, indent=2), encoding="utf-8")


def _read(folder: Path) -> tuple[Node, Expression]:
    path = folder / FILE
    if not path.is_file():
        raise NotAnAdapter(folder, [FILE])
    try:
        written = json.loads(path.read_bytes())
    except ValueError as error:
        raise Corrupt(f"'{path}' cannot be read: {error}.") from error
    if not isinstance(written, dict):
        raise Corrupt(f"'{path}' holds no object.")
    tree = expression.parse(_text(written.get("adapter_setup"), path))
    if isinstance(tree, Stack) and len(tree.children) == 1:
        tree = tree.children[0]
    return written, tree


def _text(node: Any, path: Path) -> str:  # noqa: ANN401 - whatever stands in the file
    """The expression that a node of the tree is, so that it is checked as any other."""
    children = node.get("children") if isinstance(node, dict) else None
    options = node.get("kwargs") or {} if isinstance(node, dict) else None
    if not isinstance(children, list) or not children or not isinstance(options, dict):
        raise Corrupt(f"'{path}' has {node!r} where a block with children should be.")
    kind = str(node.get("type"))
    if kind == "single":
        return str(Leaf(str(children[0])))
    if kind.lower() not in expression.BLOCKS:
        hint = "split the batch by its tasks and activate `batchsplit`, or name each row's adapter"
        raise CompositionError(
            f"'{path}' composes by {kind!r}, which is not supported"
            + ("." if kind == "MultiTask" else ": there is no such block."),
            hint=hint if kind == "MultiTask" else "known: " + ", ".join(expression.BLOCKS),
        )
    options = dict(options) | ({"name": node["name"]} if "name" in node else {})
    if options.pop("normalize_weights", True) and options.get("weights"):
        options["weights"] = _normalised(options["weights"], path)
    said = "".join(f"; {name}={value!r}" for name, value in options.items())
    return f"{kind.lower()}({', '.join(_text(child, path) for child in children)}{said})"


def _normalised(weights: Any, path: Path) -> list[float]:  # noqa: ANN401
    """Weights that sum to one, as the reference library makes them when it reads them."""
    try:
        total = sum(weights)
        return (
            [weight / total for weight in weights] if abs(total - 1) > ROUNDING else list(weights)
        )
    except (TypeError, ZeroDivisionError) as error:
        raise Corrupt(f"'{path}' has {weights!r} as the weights of an average.") from error


def _head_names(folder: Path, written: Any) -> tuple[str, ...] | None:  # noqa: ANN401
    if written is None or written is False:
        return None
    if isinstance(written, dict):
        return tuple(expression.leaves(expression.parse(_text(written, folder / FILE))))
    names = [written] if isinstance(written, str) else written
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Corrupt(f"'{folder / FILE}' has {written!r} as its 'head_setup'.")
    return tuple(names)


def _with_fusions(
    tree: Expression, folder: Path, sources: Sources, *, any_base: bool
) -> Expression:
    """The tree with the names that its fusions have in their files, all loaded."""
    for fuse in list(expression.fusions(tree)):
        place = _fusion_folder(folder, fuse)
        found = sources.load_fusion(place, fuse.name, any_base=any_base)
        tree = expression.rename_fusion(tree, fuse.fusion, found)
    return tree


def _fusion_folder(folder: Path, fuse: Fuse) -> Path:
    """Where a fusion is: under its name, or, since the reference leaves out names of its own, by its members."""
    usual = _inside(folder, fuse.fusion)
    if folders.holds(usual, folders.FUSION):
        return usual
    members = [expression.last(child) for child in fuse.children]
    for config in sorted(folder.glob(f"*/{folders.FUSION.config}")):
        try:
            envelope = json.loads(config.read_bytes())
        except ValueError as error:
            raise Corrupt(f"'{config}' cannot be read: {error}.") from error
        if isinstance(envelope, dict) and envelope.get("adapter_names") == members:
            return config.parent
    raise CompositionError(
        f"'{folder}' composes {str(fuse)!r}, but holds no fusion of {', '.join(members)}.",
        hint=f"its folder would be '{usual}'",
    )


def _inside(folder: Path, name: str) -> Path:
    """The sub-folder of a name.

    Raises:
        CompositionError: The name leads out of the folder.
    """
    place = (folder / name).resolve()
    if folder.resolve() not in place.parents:
        raise CompositionError(f"{name!r} cannot be the name of a folder in '{folder}'.")
    return folder / name


def _node(tree: Expression) -> Node:
    if isinstance(tree, Leaf):
        return {"type": "single", "children": [tree.name]}
    children = tree.children
    if isinstance(tree, Stack):
        children = tuple(_flat(tree))
    options = {
        name: list(value) if isinstance(value, tuple) else value
        for name in _OPTIONS
        if (value := getattr(tree, name, None)) is not None
    }
    if isinstance(tree, Average):
        weights = options.get("weights") or [1 / len(children)] * len(children)
        # As they are: the reference library would make them sum to one.
        options = {"weights": weights, "normalize_weights": False}
    node: Node = {"type": type(tree).__name__, "children": [_node(child) for child in children]}
    return node | ({"kwargs": options} if options else {})


def _flat(stack: Stack) -> Iterator[Expression]:
    """The parts of a stack; the reference library has no stacks in stacks."""
    for child in stack.children:
        if isinstance(child, Stack):
            yield from _flat(child)
        else:
            yield child


def _head_setup(tree: Expression, heads: Sequence[str]) -> Any:  # noqa: ANN401
    if len(heads) > 1 and isinstance(tree, BatchSplit):
        return _node(BatchSplit(tuple(map(Leaf, heads)), batch_sizes=tree.batch_sizes))
    return list(heads) if len(heads) > 1 else (heads[0] if heads else None)


def _differs(tree: Expression) -> bool:
    """Whether the reference library computes something of it in a way of its own."""
    if isinstance(tree, Leaf):
        return False
    has_stack = isinstance(tree, Fuse) and any(isinstance(c, Stack) for c in tree.children)
    return isinstance(tree, _DIFFERING) or has_stack or any(map(_differs, tree.children))
