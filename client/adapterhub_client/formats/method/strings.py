"""Config strings such as ``prefix_tuning[bottleneck_size=800]|par_bn[reduction_factor=2]``."""

import ast
import re
from collections.abc import Iterator
from typing import Any

from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method.presets import DEPRECATED, PRESETS, MethodConfig
from adapterhub_client.formats.method.reading import read, suggestion
from adapterhub_client.formats.method.union import Union

_PART = re.compile(r"(?P<name>[^\[\]|\n]+)(?:\[(?P<options>.*)\])?", re.DOTALL)
# A quoted string, or one character.
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|.""", re.DOTALL)


def parse(text: str) -> MethodConfig:
    """Read a config string: a preset with options, or several of them joined by ``|``.

    An option given to a preset that is a union itself is given to all its parts.

    Raises:
        CompositionError: The string is malformed, or names an unknown method or option.
    """
    parts = [_parse_part(part) for part in _split(text)]
    if len(parts) == 1:
        return parts[0]
    return read({"architecture": "union", "configs": [part.to_dict() for part in parts]})


def _split(text: str) -> list[str]:
    """The parts between the ``|`` that stand outside of options."""
    parts, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token == "[") - (token == "]")  # noqa: S105 - a bracket, no secret
        if token == "|" and depth == 0:  # noqa: S105
            parts.append("")
        else:
            parts[-1] += token
    return parts


def _parse_part(text: str) -> MethodConfig:
    match = _PART.fullmatch(text.strip())
    if not match:
        raise CompositionError(
            f"{text!r} is no method string.",
            hint="allowed: NAME or NAME[option=value, ...], several of them joined by |",
        )
    asked = match["name"].strip()
    name = DEPRECATED.get(asked, asked)
    if name not in PRESETS:
        raise CompositionError(
            f"There is no method named {asked!r}.", hint=suggestion(asked, list(PRESETS))
        )
    options = _options(match["options"] or "", text)
    preset = PRESETS[name]
    if isinstance(preset, Union):
        parts = [
            _changed(part.to_dict(), part.__struct_fields__, options, text)
            for part in preset.configs
        ]
        return read(preset.to_dict() | {"configs": parts})
    return read(_changed(preset.to_dict(), preset.__struct_fields__, options, text))


def _options(text: str, part: str) -> dict[str, Any]:
    try:
        given = [(word, ast.literal_eval(value)) for word, value in _keywords(text)]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise CompositionError(
            f"The options of {part!r} cannot be read.",
            hint="allowed: option=value, ... with Python literals as values",
        ) from error
    options: dict[str, Any] = {}
    for word, value in given:
        if word in options:
            raise CompositionError(f"{part!r} gives the option {word!r} twice.")
        options[word] = value
    return options


def _keywords(text: str) -> Iterator[tuple[str, ast.expr]]:
    """The options as Python reads them: the keywords of a call, which must be all there is."""
    call = ast.parse(f"dict({text}\n)", mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise ValueError(text)
    for keyword in call.keywords:
        if keyword.arg is None:
            raise ValueError(text)
        yield keyword.arg, keyword.value


def _changed(
    config: dict[str, Any], fields: tuple[str, ...], options: dict[str, Any], part: str
) -> dict[str, Any]:
    for option in options:
        if option not in fields:
            raise CompositionError(
                f"{part!r} has no option named {option!r}.", hint=suggestion(option, list(fields))
            )
    return config | options
