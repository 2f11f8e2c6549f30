"""Names of the reference hub in our grammar, and its hash of a config."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from adapterhub_client import names

METHODS = {
    "pfeiffer": "seq_bn",
    "houlsby": "double_seq_bn",
    "pfeiffer+inv": "seq_bn_inv",
    "houlsby+inv": "double_seq_bn_inv",
}
"""what the reference hub's architectures are called here"""

DEFAULT_ALIAS = "default"

_TASK_REST = re.compile(r"[^a-z0-9_-]+")
_NAME_REST = re.compile(r"[^a-z0-9._-]+")
_REPEATED = re.compile(r"[._-]{2,}")
_HASH_LENGTH = 16


def task_name(text: str) -> str:
    """The nearest name of a task in our grammar; empty where nothing is left."""
    return _within(_TASK_REST, text)


def name(text: str) -> str:
    """The nearest name of an adapter or an organization in our grammar; empty where nothing is left."""
    return _within(_NAME_REST, text)


def organization(text: str) -> str:
    """The nearest name of an organization that is not reserved."""
    nearest = name(text)
    return f"{nearest}-org" if nearest in names.RESERVED_ORGS else nearest


def config_id(config: Mapping[str, Any]) -> str:
    """The hash by which the reference hub's index tells configs apart.

    Source: spec of the reference hub's generator: falsy values are dropped at every level, the rest is hashed as JSON
    with sorted keys; 2 and 2.0 differ.
    """
    text = json.dumps(_telling(config), sort_keys=True)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:_HASH_LENGTH]


def _telling(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _telling(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if value
    }


def _within(rest: re.Pattern[str], text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().strip().lower()
    trimmed = rest.sub("-", plain).strip("._-")
    return _REPEATED.sub(lambda found: found.group()[0], trimmed)
