"""One's own account: tokens, password, organizations, browsers, and what one did."""

from flask import Response, request
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.errors import InvalidRequest
from adapterhub_registry.request import change, now, public_url, session, viewer
from adapterhub_registry.service import account as accounts
from adapterhub_registry.service import audit, organization, token
from adapterhub_registry.web import browser, forms
from adapterhub_registry.web.page import blueprint, onward, rendered, unkept

_EVENTS = 50


@blueprint.get("/account")
def account_page() -> Response:
    """Who one is, and in which organizations."""
    sessions = [each for each in token.tokens(session(), viewer()) if each.kind == "session"]
    return rendered(
        "account/overview.html",
        account=accounts.whoami(session(), viewer()),
        sessions=sessions,
    )


@blueprint.post("/account/organizations")
def create_organization() -> Response:
    """Make an organization."""
    name = request.form.get("name", "").strip()

    def create(writing: Session) -> None:
        organization.create(writing, viewer(), name, now())

    return forms.changed(create, "/account", f"The organization {name} is yours.")


@blueprint.get("/account/tokens")
def token_page() -> Response:
    """One's tokens, and a form for another."""
    return _tokens()


@blueprint.post("/account/tokens")
def create_token() -> Response:
    """Make a token; its secret is on the page that answers, and nowhere else."""
    try:
        form = forms.read(forms.NewToken)
        with change() as writing:
            made = token.create(writing, viewer(), form.request, now())
    except forms.MENDED as error:
        return _tokens(status=error.status, refused=error)
    return _tokens(made=made)


@blueprint.post("/account/tokens/<int(max=2147483647):token_id>/revoke")
def revoke_token(token_id: int) -> Response:
    """End a token, or sign a browser out."""
    ended = token_id == viewer().token_id
    back = "/account" if request.form.get("kind") == "session" else "/account/tokens"
    answer = forms.changed(
        lambda writing: token.revoke(writing, viewer(), token_id, now()), back, "It has ended."
    )
    return browser.forget(onward("/")) if ended else answer


@blueprint.post("/account/tokens/<int(max=2147483647):token_id>/rotate")
def rotate_token(token_id: int) -> Response:
    """Replace a token by one that is the same but for its secret."""
    hours = 24.0 if request.form.get("overlap") else 0.0
    try:
        with change() as writing:
            made = token.rotate(
                writing, viewer(), token_id, wire.Rotation(overlap_hours=hours), now()
            )
    except forms.MENDED as error:
        return _tokens(status=error.status, refused=error)
    return _tokens(made=made)


@blueprint.get("/account/password")
def password_page() -> Response:
    """The form for a password."""
    return _password()


@blueprint.post("/account/password")
def set_password() -> Response:
    """Set one's password; every other browser is signed out."""
    try:
        form = forms.read(forms.NewPassword)
        if form.new != form.again:
            raise InvalidRequest("The two passwords differ.")  # answered as any other
    except forms.MENDED as error:
        return _password(status=error.status, refused=error)
    asked = wire.PasswordRequest(
        new=form.new, current=form.current, revoke_tokens=form.revoke_tokens
    )
    return forms.changed(
        lambda writing: accounts.set_password(writing, viewer(), asked, now()),
        "/account/password",
        "The password is set. Every other browser is signed out.",
    )


@blueprint.get("/account/activity")
def activity_page() -> Response:
    """What one did."""
    asked = audit.Asked(limit=_EVENTS, after=request.args.get("after") or None)
    return rendered("account/activity.html", page=audit.read_own(session(), viewer(), asked))


def _tokens(
    *, status: int = 200, made: wire.Token | None = None, refused: Exception | None = None
) -> Response:
    listed = [each for each in token.tokens(session(), viewer()) if each.kind == "api"]
    return unkept(
        "account/tokens.html",
        status=status,
        account=accounts.whoami(session(), viewer()),
        tokens=listed,
        made=made,
        refused=refused,
        now=now(),
        hub=public_url(),
    )


def _password(*, status: int = 200, refused: Exception | None = None) -> Response:
    has_one = accounts.has_password(session(), viewer())
    return unkept("account/password.html", status=status, has_one=has_one, refused=refused)
