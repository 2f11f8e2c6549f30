"""Composition expressions: a frozen syntax tree, its parser, and its nesting rules.

    stack(a, b)   fuse(a, b, c)   parallel(a, b)   split(a, b; splits=[64, 64])
    batchsplit(a, b; batch_sizes=[1, 3])   average(a, b; weights=[0.3, 0.7])

A leaf is the name of a loaded adapter or a reference; names with other characters stand in quotes. `str()` of a tree
is an expression that parses back to it.
"""

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from adapterhub_client.errors import CompositionError

_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[(),;=])|(?P<list>\[[^\]]*\])|(?P<quoted>'[^']*'|"[^"]*")"""
    r"""|(?P<word>[^\s(),;=\[\]'"]+))"""
)
_PLAIN = re.compile(r"[^\s(),;=\[\]'\"]+")


class Leaf(msgspec.Struct, frozen=True):
    """One adapter."""

    name: str

    def __str__(self) -> str:
        return self.name if _PLAIN.fullmatch(self.name) else f"'{self.name}'"


class Block(msgspec.Struct, frozen=True):
    """Several adapters, and how they act together."""

    children: tuple["Leaf | Block", ...]

    def __str__(self) -> str:
        options = "".join(
            f"; {name}={_literal(value)}"
            for name, value in msgspec.structs.asdict(self).items()
            if name != "children" and value is not None
        )
        return f"{self.operator}({', '.join(map(str, self.children))}{options})"

    @property
    def operator(self) -> str:
        """The word before the bracket."""
        return type(self).__name__.lower()


class Stack(Block, frozen=True):
    """One after the other."""


class Fuse(Block, frozen=True):
    """Mixed by attention (AdapterFusion); `name` only where the fusion has another than its members'."""

    name: str | None = None

    @property
    def fusion(self) -> str:
        """The name of the fusion layer: that of its members, joined by commas."""
        return self.name or ",".join(last(child) for child in self.children)


class Parallel(Block, frozen=True):
    """Each on its own copy of the batch."""


class Split(Block, frozen=True):
    """Each on some tokens of the sequence."""

    splits: tuple[int, ...] | None = None


class BatchSplit(Block, frozen=True):
    """Each on some rows of the batch."""

    batch_sizes: tuple[int, ...] | None = None


class Average(Block, frozen=True):
    """The weighted mean of what they put out."""

    weights: tuple[float, ...] | None = None


class Rows(Block, frozen=True):
    """Each row by the adapter it names in the call; only `activate_rows` makes it."""


Expression = Leaf | Block
Kind = TypeVar("Kind", bound=Block)

BLOCKS: dict[str, type[Block]] = {
    block.__name__.lower(): block for block in (Stack, Fuse, Parallel, Split, BatchSplit, Average)
}
OPTIONS: dict[str, Any] = {
    "name": str,
    "splits": tuple[int, ...],
    "batch_sizes": tuple[int, ...],
    "weights": tuple[float, ...],
}
# A stack in a stack is the longer stack; all else as the reference library has it (AdapterHub, composition blocks).
NESTING: dict[type[Block], tuple[type[Expression], ...]] = {
    Stack: (Leaf, Stack, Fuse, Split, Parallel, BatchSplit, Average),
    Fuse: (Leaf, Stack),
    Split: (Leaf, Split, Stack, BatchSplit, Average),
    Parallel: (Leaf, Stack, BatchSplit, Average),
    BatchSplit: (Leaf, Stack, Split, BatchSplit, Average),
    Average: (Leaf, Stack, Split, BatchSplit),
}


def parse(text: str) -> Expression:
    """Read an expression and check its nesting.

    Raises:
        CompositionError: Says where the text stops making sense, or which block may not stand where.
    """
    tokens = list(_tokens(text))
    tree, end = _parse_at(tokens, 0, text)
    if end != len(tokens):
        raise CompositionError(
            f"{text!r} has {tokens[end].text!r} after its end, at character {tokens[end].at + 1}."
        )
    check_nesting(tree)
    return tree


def check_nesting(tree: Expression, level: int = 0) -> None:
    """Refuse blocks where they cannot stand.

    Raises:
        CompositionError: Names both blocks, and what may stand there.
    """
    if isinstance(tree, Leaf):
        return
    if level > 1 and not isinstance(tree, Stack):
        raise CompositionError(
            f"`{tree.operator}` cannot stand at level {level}: the composition is too deep.",
            hint="below the second level only stacks and adapters are possible",
        )
    for child in tree.children:
        if not isinstance(child, NESTING[type(tree)]):
            allowed = ", ".join(kind.__name__.lower() for kind in NESTING[type(tree)])
            raise CompositionError(
                f"`{_kind(child)}` cannot stand inside `{tree.operator}`: {_why(tree, child)}.",
                hint=f"inside `{tree.operator}` can stand: {allowed}",
            )
        deeper = 0 if isinstance(tree, Stack) and isinstance(child, Stack) else 1
        check_nesting(child, level + deeper)


def leaves(tree: Expression) -> Iterator[str]:
    """The names of all adapters, in order, each as often as it occurs."""
    if isinstance(tree, Leaf):
        yield tree.name
    else:
        for child in tree.children:
            yield from leaves(child)


def fusions(tree: Expression) -> Iterator[Fuse]:
    """All fusions of a tree, outermost first."""
    yield from blocks(tree, Fuse)


def blocks(tree: Expression, kind: type[Kind]) -> Iterator[Kind]:
    """All blocks of a kind in a tree, outermost first."""
    if isinstance(tree, kind):
        yield tree
    if isinstance(tree, Block):
        for child in tree.children:
            yield from blocks(child, kind)


def last(tree: Expression) -> str:
    """The name of the last adapter."""
    return tree.name if isinstance(tree, Leaf) else last(tree.children[-1])


def rename(tree: Expression, new_name: Callable[[str], str]) -> Expression:
    """The same tree over other names."""
    if isinstance(tree, Leaf):
        return Leaf(new_name(tree.name))
    children = tuple(rename(child, new_name) for child in tree.children)
    return msgspec.structs.replace(tree, children=children)


def rename_fusion(tree: Expression, before: str, after: str) -> Expression:
    """The same tree with another name for one of its fusions."""
    if isinstance(tree, Leaf):
        return tree
    children = tuple(rename_fusion(child, before, after) for child in tree.children)
    if isinstance(tree, Fuse) and tree.fusion == before:
        plain = Fuse(children)
        return plain if plain.fusion == after else Fuse(children, after)
    return msgspec.structs.replace(tree, children=children)


class _Token(NamedTuple):
    text: str
    kind: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if not match:
            raise CompositionError(
                f"{text!r} cannot be read at character {position + 1}, {text[position]!r}."
            )
        kind = match.lastgroup or ""
        yield _Token(match[kind], kind, match.start(kind))
        position = match.end()


def _parse_at(tokens: list[_Token], at: int, text: str) -> tuple[Expression, int]:
    if at >= len(tokens) or tokens[at].kind not in ("word", "quoted"):
        raise CompositionError(
            f"{text!r} has no adapter where one should be{_where(tokens, at)}.",
            hint="allowed: a name, or stack(a, b), fuse(a, b), ...",
        )
    word = tokens[at]
    if at + 1 == len(tokens) or tokens[at + 1].text != "(" or word.kind == "quoted":
        return Leaf(word.text.strip("'\"") if word.kind == "quoted" else word.text), at + 1
    if word.text.lower() not in BLOCKS:
        raise CompositionError(
            f"There is no composition named {word.text!r}.", hint="known: " + ", ".join(BLOCKS)
        )
    return _parse_block(BLOCKS[word.text.lower()], tokens, at + 2, text)


def _parse_block(
    block: type[Block], tokens: list[_Token], at: int, text: str
) -> tuple[Expression, int]:
    child, at = _parse_at(tokens, at, text)
    children = [child]
    while _is(tokens, at, ","):
        child, at = _parse_at(tokens, at + 1, text)
        children.append(child)
    options: dict[str, Any] = {}
    while _is(tokens, at, ";"):
        if not _is(tokens, at + 2, "=") or at + 3 >= len(tokens):
            raise CompositionError(f"{text!r} has no `option=value` after a `;`.")
        options[tokens[at + 1].text] = _value(tokens[at + 3], text)
        at += 4
    if not _is(tokens, at, ")"):
        raise CompositionError(f"{text!r} lacks a `)`{_where(tokens, at)}.")
    return _build(block, tuple(children), options), at + 1


def _build(
    block: type[Block], children: tuple[Expression, ...], options: dict[str, Any]
) -> Expression:
    operator = block.__name__.lower()
    unknown = sorted(set(options) - (set(block.__struct_fields__) - {"children"}))
    if unknown:
        raise CompositionError(f"`{operator}` has no option named {unknown[0]!r}.")
    try:
        typed = {name: msgspec.convert(value, OPTIONS[name]) for name, value in options.items()}
    except msgspec.ValidationError as error:
        raise CompositionError(f"An option of `{operator}` is malformed: {error}.") from error
    for name, value in options.items():
        if isinstance(value, list) and len(value) != len(children):
            raise CompositionError(
                f"`{operator}` has {len(children)} parts, but {len(value)} values in {name!r}."
            )
    return block(children, **typed)


def _value(token: _Token, text: str) -> object:
    try:
        return ast.literal_eval(token.text)
    except (SyntaxError, ValueError):
        if token.kind == "word":
            return token.text
        raise CompositionError(f"{text!r} has a value that cannot be read: {token.text}.") from None


def _literal(value: object) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value)


def _is(tokens: list[_Token], at: int, text: str) -> bool:
    return at < len(tokens) and tokens[at].kind == "mark" and tokens[at].text == text


def _where(tokens: list[_Token], at: int) -> str:
    return f", at character {tokens[at].at + 1}" if at < len(tokens) else ", at its end"


def _kind(tree: Expression) -> str:
    return "adapter" if isinstance(tree, Leaf) else tree.operator


def _why(outer: Block, inner: Expression) -> str:
    if isinstance(outer, Fuse):
        return "a fusion mixes the up-projections of single adapters or of the last in a stack"
    if isinstance(inner, Fuse):
        return "a fusion can only be the whole, or a part of a stack"
    return f"`{_kind(inner)}` divides or repeats what `{outer.operator}` hands to its parts whole"
