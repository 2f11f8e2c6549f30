"""Who asks, and where: login, whoami, config."""

import platform
import sys
from typing import TYPE_CHECKING

import click

from adapterhub_client.cli import output

if TYPE_CHECKING:
    from adapterhub_client.wire import Scope


@click.command()
@click.argument("url", required=False)
@click.option("--token", metavar="TOKEN", help="the token; asked for without this option")
@click.option("--name", metavar="NAME", help="an account, whose password is asked for instead")
@click.option(
    "--scope", type=click.Choice(["read", "write", "admin"]), default="write", show_default=True
)
def login(url: str | None, token: str | None, name: str | None, scope: "Scope") -> None:
    """Check a token and remember it for the hub at URL.

    With --name it gets a token of its own, for 90 days, with the account's password.
    """
    from adapterhub_client import settings

    if token and name:
        raise click.UsageError("`--token` and `--name` are two ways to sign in: give one.")
    address = settings.load(url).url
    given = _own_token(address, name, scope) if name else token
    secret = given or _asked(f"Token for {address}")
    with output.hub(address, secret) as hub:
        account = hub.whoami()
    path = settings.remember(address, secret)
    click.echo(f"Signed in to {address} as {account.name}; the token is in {path}")


@click.command()
@output.connected
@output.json_option
def whoami(url: str | None, token: str | None, *, as_json: bool) -> None:
    """Say who the token speaks for, and what it may do."""
    with output.hub(url, token) as hub:
        account = hub.whoami()

    def text() -> None:
        click.echo(f"{account.name} at {hub.settings.url}, scopes {', '.join(account.scopes)}")
        for name, role in sorted(account.organizations.items()):
            click.echo(f"  {role} of {name}")

    output.data(account, as_json=as_json, text=text)


@click.command()
@output.connected
@output.json_option
def config(url: str | None, token: str | None, *, as_json: bool) -> None:
    """Show the settings in force, and where they are kept."""
    from adapterhub_client import settings

    loaded = settings.load(url, token)
    shown = {
        "url": loaded.url,
        "token": "set" if loaded.token else "not set",
        "cache": str(loaded.cache),
        "file": str(settings.config_file()),
    }
    output.data(
        shown, as_json=as_json, text="\n".join(f"{key:6} {value}" for key, value in shown.items())
    )


def _own_token(address: str, name: str, scope: "Scope") -> str:
    """A token for this machine, for whoever has the password."""
    from adapterhub_client.wire import SignInRequest

    with output.hub(address, None) as hub:
        request = SignInRequest(
            name=name,
            password=_asked(f"Password of {name} at {address}"),
            label=f"adapterhub-client on {platform.node() or 'a machine'}",
            scopes=[scope],
        )
        return hub.sign_in(request).secret or ""


def _asked(prompt: str) -> str:
    """A secret as a person types it, unseen, or as a pipe brings it."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    return str(click.prompt(prompt, hide_input=True, err=True))
