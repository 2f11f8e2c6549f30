"""Signing in and out, and accepting an invitation."""

from flask import Response, flash, request

from adapterhub_client import wire
from adapterhub_registry.errors import RegistryError, WrongToken
from adapterhub_registry.request import change, now, runtime, session, viewer
from adapterhub_registry.service import invitation, signin, token
from adapterhub_registry.service.signin import SESSION_DAYS
from adapterhub_registry.web import browser, forms
from adapterhub_registry.web.page import blueprint, onward, unkept


@blueprint.get("/sign-in")
def sign_in_page() -> Response:
    """The form to sign in."""
    return unkept("sign_in.html", next=forms.next_path("/account"))


@blueprint.post("/sign-in")
def sign_in() -> Response:
    """Sign in with name and password, or with a token."""
    following = forms.next_path("/account")
    try:
        made = _by_token() if request.form.get("token") else _by_password()
    except RegistryError as error:
        name = request.form.get("name", "")
        page = unkept("sign_in.html", status=error.status, next=following, refused=error, name=name)
        page.headers.update(error.headers)
        return page
    return browser.remember(onward(following), made)


@blueprint.post("/sign-out")
def sign_out() -> Response:
    """End this browser's session."""
    seen = viewer()
    if seen.token_id is not None and browser.is_session():
        with change() as writing:
            token.revoke(writing, seen, seen.token_id, now())
    return browser.forget(onward("/"))


@blueprint.get("/join")
def join_page() -> Response:
    """What an invitation is for, and how to accept it."""
    secret = request.args.get("invitation", "")
    return unkept("join.html", secret=secret, invitation=invitation.look(session(), secret, now()))


@blueprint.post("/join")
def join() -> Response:
    """Accept an invitation, with the account that is signed in or with a new one."""
    secret = request.form.get("invitation", "")
    found = invitation.look(session(), secret, now())
    session().rollback()
    form = {name: request.form.get(name) or None for name in ("name", "password")}
    try:
        with change() as writing:
            acceptance = wire.Acceptance(secret=secret, **form)
            account = invitation.accept(writing, viewer(), acceptance, now())
    except forms.MENDED as error:
        name = form["name"]
        return unkept(
            "join.html",
            status=error.status,
            secret=secret,
            invitation=found,
            refused=error,
            name=name,
        )
    flash(f"Welcome, {account.name}.", "done")
    target = f"/orgs/{found.organization}" if found.organization else "/account"
    if viewer().account_id is not None:
        return onward(target)
    return browser.remember(onward(target), _by_password())


def _by_password() -> wire.Token:
    attempt = signin.Attempt(
        name=request.form.get("name", ""),
        password=request.form.get("password", ""),
        address=request.remote_addr or "",
    )
    return signin.sign_in(runtime(), attempt, _asked(["admin"]), "session")


def _by_token() -> wire.Token:
    """A session that reaches as far as a token, and lives no longer."""
    secret = request.form["token"].strip()
    with runtime().database.reading() as reading:
        seen = token.viewer_of(reading, secret, now())
    if not seen.scopes:
        raise WrongToken
    with change() as writing:
        return token.create(writing, seen, _asked(list(seen.scopes)), now(), "session")


def _asked(scopes: list[wire.Scope]) -> wire.TokenRequest:
    label = browser.called(str(request.user_agent))
    return wire.TokenRequest(label=label, scopes=scopes, expires_days=SESSION_DAYS)
