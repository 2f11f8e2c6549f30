"""What transformers calls a cache of keys and values: `cache` from 5.24 on, `past_key_values` before.

Newer models still take the old name, with a warning, and rename it after hooks have seen it: a call is asked for both.
"""

from collections.abc import Mapping
from typing import Any, Final

from transformers.modeling_outputs import BaseModelOutputWithPast

_OLD: Final = "past_key_values"
NAME: Final = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else _OLD
"""of the argument, and of the field of outputs"""


def given(options: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a cache, which has no type that both share
    """The cache among the named arguments of a call; None where there is none."""
    cache = options.get(NAME)
    return options.get(_OLD) if cache is None else cache
