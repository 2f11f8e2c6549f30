"""Where a page ended: what its `next` says, and the next request's `after`."""

import base64
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from adapterhub_registry.errors import InvalidRequest
from adapterhub_registry.service.sets import Counted

_LARGEST = 2**53
Kind = TypeVar("Kind")


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a list."""

    limit: int = 50
    after: str | None = None
    """`next` of the page before"""


def write(place: object) -> str:
    """A place as text."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def read(after: str | None, kind: type[Kind]) -> Kind | None:
    """The place that a text says; InvalidRequest where it says none."""
    if after is None:
        return None
    try:
        content = base64.urlsafe_b64decode(after.encode())
        place = msgspec.json.decode(content, type=kind)
    except (ValueError, msgspec.DecodeError) as error:
        raise InvalidRequest("`after` is not the `next` of a page of this list.") from error
    numbers = [each for each in msgspec.to_builtins(place) if not isinstance(each, str)]
    if any(abs(number) > _LARGEST for number in numbers):
        raise InvalidRequest("`after` is not the `next` of a page of this list.")
    return place


def counted(after: str | None) -> tuple[int, str] | None:
    """The place in a list by counts."""
    return read(after, tuple[int, str])


def following(found: Sequence[Counted], limit: int) -> str | None:
    """The `next` of a list by counts, of which one more than shown was asked for."""
    if len(found) <= limit:
        return None
    last = found[limit - 1]
    return write((last.adapters, last.value))
