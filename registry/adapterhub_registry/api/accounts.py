"""Who you are, and your tokens."""

from typing import Annotated

import msgspec
from flask import Blueprint, Response

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import BODY, TOKEN, answers, api
from adapterhub_registry.request import change, now, session, viewer
from adapterhub_registry.service import account

blueprint = Blueprint("accounts", __name__)


class NewToken(wire.TokenRequest, frozen=True, kw_only=True):
    """Asks for a token; `expires_days` None never expires, unless the token that asks does."""

    label: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
    scopes: Annotated[list[wire.Scope], msgspec.Meta(min_length=1, max_length=3)] = msgspec.field(
        default_factory=lambda: ["read"]
    )
    expires_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] | None = 90


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


@blueprint.get("/tokens")
@api.validate(
    resp=answers(list[wire.Token], errors.TokenRequired, errors.MissingScope),
    tags=["accounts"],
    security=TOKEN,
    operation_id="list_tokens",
)
def tokens() -> list[wire.Token]:
    """Your tokens, without their secrets."""
    return account.tokens(session(), viewer())


@blueprint.post("/tokens")
@api.validate(
    resp=answers(wire.Token, errors.TokenRequired, errors.MissingScope, *BODY, status=201),
    tags=["accounts"],
    security=TOKEN,
    operation_id="create_token",
)
def create_token(json: NewToken) -> tuple[wire.Token, int]:
    """Make a token. Its secret is in this answer and never again.

    It reaches no further, and lives no longer, than the token that asks for it.
    """
    with change() as writing:
        return account.create_token(writing, viewer(), json, now()), 201


@blueprint.delete("/tokens/<int(max=2147483647):token_id>")
@api.validate(
    resp=answers(None, errors.TokenRequired, errors.MissingScope, errors.TokenNotFound, status=204),
    tags=["accounts"],
    security=TOKEN,
    operation_id="revoke_token",
)
def revoke_token(token_id: int) -> Response:
    """End one of your tokens."""
    with change() as writing:
        account.revoke_token(writing, viewer(), token_id, now())
    return Response(status=204)
