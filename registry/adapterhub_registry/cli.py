"""The command `adapterhub-registry`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import msgspec
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from adapterhub_client import wire
from adapterhub_registry import migration
from adapterhub_registry.errors import RegistryError
from adapterhub_registry.runtime import Runtime, open_runtime
from adapterhub_registry.service import account as accounts
from adapterhub_registry.service import garbage, integrity
from adapterhub_registry.settings import Settings, SettingsRefused, from_environment
from adapterhub_registry.storage import StoreUnreachable

_FAULTY = 65


class _Group(click.Group):
    """Errors are one line and a hint, never a traceback."""

    def invoke(self, ctx: click.Context) -> None:
        try:
            super().invoke(ctx)
        except RegistryError as error:
            _fail(error.detail)
        except (SettingsRefused, ValueError) as error:
            _fail(str(error), "settings are environment variables; `registry/README.md` lists them")
        except StoreUnreachable as error:
            _fail(str(error), "look at ADAPTERHUB_BLOBS and the AWS_ variables")
        except SQLAlchemyError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            _fail(f"The database refuses: {reason}", "look at ADAPTERHUB_DATABASE_URL")
        except OSError as error:
            _fail(str(error))


@click.group(cls=_Group)
@click.version_option(package_name="adapterhub")
def main() -> None:
    """Run an AdapterHub registry.

    Without any settings it keeps everything in one folder, ADAPTERHUB_HOME.
    """


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8400, show_default=True, type=click.IntRange(0, 65535))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64))
def serve(host: str, port: int, workers: int) -> None:
    """Serve the API and the catalogue.

    On SQLite it migrates by itself; on PostgreSQL run `adapterhub-registry migrate` first.
    """
    from adapterhub_registry.server import Address, run  # noqa: PLC0415  # gunicorn is POSIX only

    settings = from_environment()
    with _opened(settings) as runtime:
        if not migration.is_current(runtime.database):
            _fail("The database is not at the newest revision", "run `adapterhub-registry migrate`")
        with runtime.database.writing() as session:
            secret = accounts.bootstrap(session, runtime.clock())
    if secret is not None:
        click.echo(
            f"This registry is new. The token of its first account, `{accounts.FIRST_ADMIN}`,"
            f" is shown only this once:\n\n    {secret}\n",
            err=True,
        )
    run(settings, Address(host, port, workers), lambda url: click.echo(f"Listening on {url}"))


@main.command()
def migrate() -> None:
    """Bring the database to the newest revision."""
    with _opened(from_environment()) as runtime:
        migration.migrate(runtime.database)
    click.echo("The database is at the newest revision", err=True)


@main.group()
def account() -> None:
    """Accounts: people and machines."""


@account.command("create")
@click.argument("name")
@click.option("--admin", is_flag=True, help="May do everything in this registry.")
def create_account(name: str, *, admin: bool) -> None:
    """Make an account, and the organization of its own name."""
    with _opened(from_environment()) as runtime, runtime.database.writing() as session:
        accounts.create_account(session, name, runtime.clock(), is_admin=admin)
    click.echo(f"Created the account `{name}`", err=True)


@main.group()
def token() -> None:
    """Tokens: what clients sign in with."""


@token.command("create")
@click.argument("name")
@click.option("--label", default="made on the server", show_default=True)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=["read"],
    show_default=True,
    type=click.Choice(["read", "write", "admin"]),
)
@click.option("--days", type=click.IntRange(1, 3650), help="Lifetime; without it, for ever.")
def create_token(name: str, label: str, scopes: tuple[wire.Scope, ...], days: int | None) -> None:
    """Make a token for an account and print it: it is shown only this once."""
    asked = wire.TokenRequest(label=label, scopes=list(scopes), expires_days=days)
    with _opened(from_environment()) as runtime, runtime.database.writing() as session:
        row = accounts.find_account(session, name)
        _, secret = accounts.issue_token(session, row, asked, runtime.clock())
    click.echo(secret)


@main.group()
def org() -> None:
    """Organizations: who owns adapters."""


@org.command("create")
@click.argument("name")
@click.option("--admin", "admin", required=True, help="The account that will be its admin.")
def create_org(name: str, admin: str) -> None:
    """Make an organization."""
    with _opened(from_environment()) as runtime, runtime.database.writing() as session:
        accounts.found_organization(session, name, admin, runtime.clock())
    click.echo(f"Created the organization `{name}`", err=True)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was removed as JSON.")
def gc(*, as_json: bool) -> None:
    """Remove expired uploads and blobs that no version has."""
    with _opened(from_environment()) as runtime:
        swept = garbage.sweep(runtime)
    if as_json:
        click.echo(msgspec.json.encode(swept))
    else:
        click.echo(
            f"Removed {swept.uploads} uploads and {swept.blobs} blobs ({swept.size_bytes} bytes)"
        )


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the faults as JSON.")
def fsck(*, as_json: bool) -> None:
    """Hash every blob and every manifest; ends with 65 where something is not as published."""
    with _opened(from_environment()) as runtime:
        faults = list(integrity.check(runtime))
    if as_json:
        click.echo(msgspec.json.encode(faults))
    for fault in faults if not as_json else []:
        click.echo(f"{fault.subject}: {fault.fault}")
    click.echo(f"{len(faults)} faults", err=True)
    if faults:
        sys.exit(_FAULTY)


@main.command()
def openapi() -> None:
    """Print the OpenAPI document of the API."""
    from adapterhub_registry.api.document import generate  # noqa: PLC0415  # only this needs the app
    from adapterhub_registry.app import create_app  # noqa: PLC0415

    app = create_app(
        msgspec.structs.replace(
            from_environment({"ADAPTERHUB_SECRET_KEY": "none", "ADAPTERHUB_BLOBS": "memory:"}),
            database_url="sqlite://",
        )
    )
    click.echo(json.dumps(generate(app), indent=2, ensure_ascii=False))


@contextmanager
def _opened(settings: Settings) -> Iterator[Runtime]:
    """The runtime of a command; SQLite is migrated, and connections are gone before any fork."""
    if settings.is_sqlite:
        database = make_url(settings.database_url).database
        if database and database != ":memory:":
            settings.home.mkdir(parents=True, exist_ok=True)
    runtime = open_runtime(settings)
    try:
        if settings.is_sqlite:
            migration.migrate(runtime.database)
        yield runtime
    finally:
        runtime.database.close()


def _fail(message: str, hint: str | None = None) -> None:
    click.echo(f"error: {message.rstrip('.')}", err=True)
    if hint is not None:
        click.echo(f"\nhint: {hint}", err=True)
    sys.exit(1)
