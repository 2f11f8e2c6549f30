"""What travels between a registry and the process that runs adapters for it: one line of JSON each way."""

import msgspec

from adapterhub_client.wire.report import AttentionLayer

LONGEST_TEXT = 2000
"""letters of one text that is tried"""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Asks what a version says of a text, and of a pair of texts where it was trained on pairs."""

    base: str
    """the folder of the base model"""
    folder: str
    """the folder of the version's files"""
    members: dict[str, str] = {}
    """the folder of each member of a composition, by its digest"""
    text: str
    pair: str | None = None


class TokenLabel(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a text and the label it was given."""

    text: str
    label: str
    probability: float


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it; `fault` says in a sentence why nothing did."""

    probabilities: dict[str, float] = {}
    exclusive: bool = True
    """whether one of the labels holds, and not several"""
    value: float | None = None
    """of a regression"""
    tokens: list[TokenLabel] = []
    """of a tagger"""
    members: list[str] = []
    attention: list[AttentionLayer] = []
    """of a fusion, for this very text"""
    seconds: float = 0.0
    fault: str | None = None
