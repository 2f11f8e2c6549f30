"""Forms as structs, and changes that end on a page which says what came of them."""

from collections.abc import Callable
from typing import Annotated, TypeVar, get_origin
from urllib.parse import urlsplit

import msgspec
from flask import Response, flash, request
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.errors import (
    AccountNotFound,
    Conflict,
    InvalidRequest,
    InvitationNotFound,
    TokenNotFound,
    TooLarge,
    Unprocessable,
    WrongPassword,
)
from adapterhub_registry.request import change
from adapterhub_registry.web.page import onward

Form = TypeVar("Form", bound=msgspec.Struct)
Made = TypeVar("Made")

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=96, pattern=r"^[^\x00-\x1f]*$")]
Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Reason = Annotated[str, msgspec.Meta(max_length=2000, pattern=r"^[^\x00]*$")]
Days = Annotated[int, msgspec.Meta(ge=1, le=3650)]

MENDED = (
    AccountNotFound,
    Conflict,
    InvitationNotFound,
    TokenNotFound,
    TooLarge,
    Unprocessable,
    WrongPassword,
)
"""refusals that whoever filled in a form can mend there"""


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for a token; without days it never expires, without organizations it is for all."""

    label: Label
    scope: wire.Scope = "read"
    days: Days | None = None
    organizations: list[Name] = []

    @property
    def request(self) -> wire.TokenRequest:
        """The same as the service takes it."""
        return wire.TokenRequest(
            label=self.label,
            scopes=[self.scope],
            expires_days=self.days,
            organizations=self.organizations or None,
        )


class NewPassword(msgspec.Struct, frozen=True, kw_only=True):
    """Sets one's own password."""

    new: Secret
    again: Secret
    current: Secret | None = None
    revoke_tokens: bool = False


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """Gives an account a role; none takes it out."""

    name: Name
    role: wire.Role | None = None


class NewInvitation(msgspec.Struct, frozen=True, kw_only=True):
    """Invites somebody."""

    label: Label
    role: wire.Role = "reader"
    days: Annotated[int, msgspec.Meta(ge=1, le=90)] = 7

    @property
    def request(self) -> wire.InvitationRequest:
        """The same as the service takes it."""
        return wire.InvitationRequest(label=self.label, role=self.role, expires_days=self.days)


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """Sets limits: 0 is none, nothing is the registry's own."""

    max_versions: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    max_megabytes: Annotated[int, msgspec.Meta(ge=0, le=2**40)] | None = None


class NewAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Makes an account."""

    name: Name
    password: Secret | None = None
    is_admin: bool = False


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Yanks, deprecates or restores a version."""

    status: wire.Status
    reason: Reason | None = None


def read(kind: type[Form]) -> Form:
    """The form of this request; a field that is empty is not there.

    Raises:
        InvalidRequest: A field is missing, or does not fit.
    """
    given: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        values = [each for each in request.form.getlist(field.name) if each.strip()]
        if values:
            given[field.name] = values if get_origin(field.type) is list else values[-1]
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The form cannot be taken: {error}.") from error


def changed(work: Callable[[Session], object], path: str, told: str) -> Response:
    """Do a change, then go on to a page that says so, or says why it was refused."""
    try:
        with change() as writing:
            work(writing)
    except MENDED as error:
        flash(error.detail, "refused")
    else:
        flash(told, "done")
    return onward(path)


def next_path(usual: str) -> str:
    """Where to go on after signing in: a page of this registry that `next` names, else the usual one."""
    wanted = request.values.get("next", "")
    parts = urlsplit(wanted)
    is_ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    if not is_ours or parts.scheme or parts.netloc or any(sign < " " for sign in wanted):
        return usual
    return wanted
