"""Refusals, as they travel."""

import msgspec

from adapterhub_client.wire.catalogue import Recorded, Tombstone, Version


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem; `code` is stable and part of the API.

    `candidates` are the versions that would answer where one had to be chosen or none fits; `nearest` the names that
    look alike; `reasons` everything that is wrong with a refused manifest; `recorded` what a reference hub lists and
    has no weights here; `tombstone` what is left of what was deleted.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    candidates: list[Version] = []
    nearest: list[str] = []
    reasons: list[str] = []
    recorded: list[Recorded] = []
    tombstone: Tombstone | None = None
