"""A composition's expression as a tree to draw; the pages draw what they can and never refuse one.

The client has the parser that composes; it lives behind torch, which a registry does not have.
"""

import re

import msgspec

_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[(),;])|(?P<quoted>'[^']*'|"[^"]*")|(?P<word>(?:\[[^\]]*\]|[^\s(),;'"\[])+))"""
)
_DEEPEST = 12
_LONGEST = 1200

OPERATORS = {
    "stack": "one after the other",
    "fuse": "mixed by attention",
    "parallel": "side by side on copies of the batch",
    "split": "each on some tokens",
    "batchsplit": "each on some rows of the batch",
    "average": "weights averaged",
}


class Node(msgspec.Struct, frozen=True):
    """An operator over its children, or a leaf, which has none."""

    name: str
    children: tuple["Node", ...] = ()
    options: str = ""

    @property
    def meaning(self) -> str:
        """What the operator does, in a few words; empty for a leaf."""
        return OPERATORS.get(self.name.lower(), "") if self.children else ""


class _Unreadable(Exception):
    """The text is no expression that we know to draw."""


def tree(expression: str) -> Node | None:
    """Read an expression; None where it cannot be drawn."""
    if len(expression) > _LONGEST:
        return None
    try:
        tokens = _tokens(expression)
        node, rest = _node(tokens, 0)
    except _Unreadable:
        return None
    return None if rest else node


def _tokens(expression: str) -> list[str]:
    tokens, at, text = [], 0, expression.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _Unreadable
        tokens.append(found.group().strip())
        at = found.end()
    return tokens


def _node(tokens: list[str], depth: int) -> tuple[Node, list[str]]:
    if not tokens or tokens[0] in {"(", ")", ",", ";"} or depth > _DEEPEST:
        raise _Unreadable
    name, rest = tokens[0].strip("'\""), tokens[1:]
    if rest[:1] != ["("]:
        return Node(name), rest
    children: list[Node] = []
    rest = rest[1:]
    while True:
        child, rest = _node(rest, depth + 1)
        children.append(child)
        if rest[:1] != [","]:
            break
        rest = rest[1:]
    options, rest = _options(rest)
    if rest[:1] != [")"]:
        raise _Unreadable
    return Node(name, tuple(children), options), rest[1:]


def _options(tokens: list[str]) -> tuple[str, list[str]]:
    if tokens[:1] != [";"]:
        return "", tokens
    end = tokens.index(")") if ")" in tokens else len(tokens)
    return " ".join(tokens[1:end]), tokens[end:]
