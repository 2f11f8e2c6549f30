"""Your tokens."""

from typing import Annotated

import msgspec
from flask import Blueprint, Response

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.accounts import Days, Label, Organizations, Scopes
from adapterhub_registry.api.document import BODY, TOKEN, answers, api
from adapterhub_registry.request import change, now, session, viewer
from adapterhub_registry.service import token

blueprint = Blueprint("tokens", __name__)


class NewToken(wire.TokenRequest, frozen=True, kw_only=True):
    """Asks for a token; `expires_days` None never expires, unless the token that asks does."""

    label: Label
    scopes: Scopes = msgspec.field(default_factory=lambda: ["read"])
    expires_days: Days | None = 90
    organizations: Organizations | None = None


class Rotated(wire.Rotation, frozen=True, kw_only=True):
    """Asks for a token's successor."""

    overlap_hours: Annotated[float, msgspec.Meta(ge=0, le=720)] = 0.0


@blueprint.get("/tokens")
@api.validate(
    resp=answers(list[wire.Token], errors.TokenRequired, errors.MissingScope),
    tags=["accounts"],
    security=TOKEN,
    operation_id="list_tokens",
)
def tokens() -> list[wire.Token]:
    """Your tokens, without their secrets."""
    return token.tokens(session(), viewer())


@blueprint.post("/tokens")
@api.validate(
    resp=answers(
        wire.Token,
        errors.TokenRequired,
        errors.MissingScope,
        errors.TokenElsewhere,
        errors.OrganizationNotFound,
        *BODY,
        status=201,
    ),
    tags=["accounts"],
    security=TOKEN,
    operation_id="create_token",
)
def create_token(json: NewToken) -> tuple[wire.Token, int]:
    """Make a token. Its secret is in this answer and never again.

    It reaches no further, and lives no longer, than the token that asks for it.
    """
    with change() as writing:
        return token.create(writing, viewer(), json, now()), 201


@blueprint.post("/tokens/<int(max=2147483647):token_id>/rotate")
@api.validate(
    resp=answers(
        wire.Token,
        errors.TokenRequired,
        errors.MissingScope,
        errors.TokenNotFound,
        *BODY,
        status=201,
    ),
    tags=["accounts"],
    security=TOKEN,
    operation_id="rotate_token",
)
def rotate_token(token_id: int, json: Rotated) -> tuple[wire.Token, int]:
    """Replace one of your tokens by one that is the same but for its secret."""
    with change() as writing:
        return token.rotate(writing, viewer(), token_id, json, now()), 201


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
        token.revoke(writing, viewer(), token_id, now())
    return Response(status=204)
