"""Who asks, and where: login, whoami, config."""

import sys

import click

from adapterhub_client.cli import output


@click.command()
@click.argument("url", required=False)
@click.option("--token", metavar="TOKEN", help="the token; asked for without this option")
def login(url: str | None, token: str | None) -> None:
    """Check a token and remember it for the hub at URL."""
    from adapterhub_client import settings

    address = settings.load(url).url
    secret = token or _asked(address)
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


def _asked(address: str) -> str:
    """The token as a person types it, unseen, or as a pipe brings it."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    return str(click.prompt(f"Token for {address}", hide_input=True, err=True))
