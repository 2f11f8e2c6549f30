"""Who you are, how you sign in, and for administrators of the registry, who there is."""

from typing import Annotated

import msgspec
from flask import Blueprint, Response, request

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import BODY, PUBLIC, TOKEN, answers, api
from adapterhub_registry.request import change, now, runtime, session, viewer
from adapterhub_registry.service import account, places, signin

blueprint = Blueprint("accounts", __name__)

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Scopes = Annotated[list[wire.Scope], msgspec.Meta(min_length=1, max_length=3)]
Days = Annotated[int, msgspec.Meta(ge=1, le=3650)]
Organizations = Annotated[list[str], msgspec.Meta(min_length=1, max_length=100)]
Secret = Annotated[str, msgspec.Meta(max_length=1024)]
Named = Annotated[str, msgspec.Meta(max_length=96, pattern=r"^[^\x00]*$")]
_OPERATORS = (errors.TokenRequired, errors.MissingScope, errors.NotOperator)


class SignIn(wire.SignInRequest, frozen=True, kw_only=True):
    """Asks for a token with a name and a password."""

    label: Label
    scopes: Scopes = msgspec.field(default_factory=lambda: ["read"])
    expires_days: Days | None = 90
    organizations: Organizations | None = None
    name: Named
    password: Secret


class NewPassword(wire.PasswordRequest, frozen=True, kw_only=True):
    """Sets one's own password."""

    new: Secret
    current: Secret | None = None


class NewAccount(wire.AccountRequest, frozen=True, kw_only=True):
    """Asks for an account."""

    name: Named
    password: Secret | None = None


class PageQuery(places.Page, frozen=True, kw_only=True):
    """Which page."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100


@blueprint.get("/whoami")
@api.validate(
    resp=answers(wire.Account, errors.TokenRequired, errors.MissingScope),
    tags=["accounts"],
    security=TOKEN,
    operation_id="whoami",
)
def whoami() -> wire.Account:
    """Whom your token speaks for."""
    return account.whoami(session(), viewer())


@blueprint.post("/sign-in")
@api.validate(
    resp=answers(
        wire.Token,
        errors.WrongPassword,
        errors.OrganizationNotFound,
        errors.TooManyRequests,
        *BODY,
        status=201,
    ),
    tags=["accounts"],
    security=PUBLIC,
    operation_id="sign_in",
)
def sign_in(json: SignIn) -> tuple[wire.Token, int]:
    """A token for whoever has the password of an account. Its secret is in this answer and never again."""
    attempt = signin.Attempt(
        name=json.name, password=json.password, address=request.remote_addr or ""
    )
    return signin.sign_in(runtime(), attempt, json), 201


@blueprint.put("/password")
@api.validate(
    resp=answers(
        None,
        errors.TokenRequired,
        errors.MissingScope,
        errors.WrongPassword,
        errors.PasswordRefused,
        *BODY,
        status=204,
    ),
    tags=["accounts"],
    security=TOKEN,
    operation_id="set_password",
)
def set_password(json: NewPassword) -> Response:
    """Set your password: `current` where you have one. Every browser is signed out."""
    with change() as writing:
        account.set_password(writing, viewer(), json, now())
    return Response(status=204)


@blueprint.get("/accounts")
@api.validate(
    resp=answers(wire.AccountPage, *_OPERATORS),
    tags=["accounts"],
    security=TOKEN,
    operation_id="list_accounts",
)
def list_accounts(query: PageQuery) -> wire.AccountPage:
    """Every account, for administrators of the registry."""
    return account.accounts(session(), viewer(), query)


@blueprint.post("/accounts")
@api.validate(
    resp=answers(
        wire.AccountSummary,
        *_OPERATORS,
        errors.NameTaken,
        errors.MalformedName,
        errors.PasswordRefused,
        *BODY,
        status=201,
    ),
    tags=["accounts"],
    security=TOKEN,
    operation_id="create_account",
)
def create_account(json: NewAccount) -> tuple[wire.AccountSummary, int]:
    """Make an account and the organization of its name, as an administrator of the registry."""
    with change() as writing:
        return account.create(writing, viewer(), json, now()), 201


@blueprint.put("/accounts/<name>")
@api.validate(
    resp=answers(wire.AccountSummary, *_OPERATORS, errors.AccountNotFound, errors.LastAdmin, *BODY),
    tags=["accounts"],
    security=TOKEN,
    operation_id="change_account",
)
def change_account(name: str, json: wire.AccountChange) -> wire.AccountSummary:
    """Let an account administrate the registry, or disable it, or take that back."""
    with change() as writing:
        return account.change(writing, viewer(), name, json, now())
