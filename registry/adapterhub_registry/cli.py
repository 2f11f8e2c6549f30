"""The command `adapterhub-registry`; what its commands do is in `operations.py`, loaded when one runs."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import click
import msgspec

from adapterhub_client import wire

_FAULTY = 65
_COUNTED = "PROMETHEUS_MULTIPROC_DIR"


class _Group(click.Group):
    """Errors are one line and a hint, never a traceback."""

    def invoke(self, ctx: click.Context) -> None:
        try:
            super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            told = _operations().explained(error)
            if told is None:
                raise
            _fail(*told)


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
    with _counting_together():
        operations = _operations()
        operations.serve(operations.Address(host, port, workers), _welcome, _announce)


@main.command()
def migrate() -> None:
    """Bring the database to the newest revision."""
    _operations().migrate()
    click.echo("The database is at the newest revision", err=True)


@main.group()
def account() -> None:
    """Accounts: people and machines."""


@account.command("create")
@click.argument("name")
@click.option("--admin", is_flag=True, help="May do everything in this registry.")
def create_account(name: str, *, admin: bool) -> None:
    """Make an account, and the organization of its own name."""
    _operations().create_account(name, is_admin=admin)
    click.echo(f"Created the account `{name}`", err=True)


@account.command("password")
@click.argument("name")
@click.password_option(help="Without it, it is asked for.", envvar="ADAPTERHUB_NEW_PASSWORD")
def set_password(name: str, password: str) -> None:
    """Set the password of an account, for the pages and for `adapterhub-client login --name`."""
    _operations().set_password(name, password)
    click.echo(
        f"Set the password of `{name}`; browsers it was signed in with are signed out", err=True
    )


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
    click.echo(_operations().create_token(name, asked))


@main.group()
def org() -> None:
    """Organizations: who owns adapters."""


@org.command("create")
@click.argument("name")
@click.option("--admin", "admin", required=True, help="The account that will be its admin.")
def create_org(name: str, admin: str) -> None:
    """Make an organization."""
    _operations().create_organization(name, admin)
    click.echo(f"Created the organization `{name}`", err=True)


@main.command()
@click.option(
    "--grace-hours",
    type=click.FloatRange(0),
    help="Leave what is younger; default: ADAPTERHUB_UPLOAD_HOURS.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print what was removed as JSON.")
def gc(grace_hours: float | None, *, dry_run: bool, as_json: bool) -> None:
    """Remove expired uploads and blobs that no version has; safe while the server runs."""
    swept = _operations().sweep(grace_hours, _progress, dry_run=dry_run)
    if as_json:
        click.echo(msgspec.json.encode(swept))
    else:
        done = "Would remove" if dry_run else "Removed"
        click.echo(
            f"{done} {swept.uploads} uploads and {swept.blobs} blobs ({swept.size_bytes} bytes)"
        )


@main.command()
@click.option(
    "--sample",
    default=100.0,
    show_default=True,
    type=click.FloatRange(0, 100),
    help="Per cent of the blobs to hash; all are looked up.",
)
@click.option("--strict", is_flag=True, help="Blobs that the catalogue does not know are faults.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def fsck(sample: float, *, strict: bool, as_json: bool) -> None:
    """Compare catalogue and store, both ways; ends with 65 where something is lost or changed."""
    found = _operations().check(sample / 100, _progress)
    if as_json:
        click.echo(msgspec.json.encode(found))
    for fault in [] if as_json else [*found.faults, *found.unknown]:
        click.echo(f"{fault.subject}: {fault.fault}")
    click.echo(
        f"{len(found.faults)} faults in {found.blobs} blobs ({found.hashed} hashed, {found.size_bytes} bytes) "
        f"and {found.versions} manifests; {len(found.unknown)} unknown blobs",
        err=True,
    )
    if found.faults or (strict and found.unknown):
        sys.exit(_FAULTY)


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def backup(folder: Path) -> None:
    """Copy database and blobs into FOLDER while the registry serves; the next time only what is new."""
    made = _operations().save(folder, _progress)
    click.echo(f"Saved {made.versions} versions and {made.blobs} blobs ({made.size_bytes} bytes)")
    for sha256 in made.missing:
        click.echo(f"warning: the store has lost {sha256}", err=True)
    if made.missing:
        sys.exit(_FAULTY)


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def restore(folder: Path) -> None:
    """Bring back what `backup` saved in FOLDER, into an empty database and into any store."""
    held = _operations().restore(folder, _progress)
    click.echo(f"Restored {held.versions} versions and {held.blobs} blobs, saved {held.made_at}")


@main.command("import-hub")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--metadata-only", is_flag=True, help="Fetch no weights; only record what there is.")
@click.option("--resume", is_flag=True, help="Ask again for weights that could not be had.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write it as JSON.")
def import_hub(folder: Path, report: Path | None, *, metadata_only: bool, resume: bool) -> None:
    """Take over the repository of a reference hub: its YAML, then the weights it lists.

    It can be stopped, and run again: what is done stays done.
    """
    operations = _operations()
    made = operations.import_hub(folder, _progress, metadata_only=metadata_only, resume=resume)
    if report is not None:
        report.write_bytes(msgspec.json.format(msgspec.json.encode(made)))
    click.echo(operations.describe(made))


@main.command()
def reindex() -> None:
    """Make anew all that search reads: rows, facets, scores, counts. Publishes wait meanwhile; reads do not."""
    adapters = _operations().reindex(_told)
    click.echo(f"Indexed {adapters} adapters")


@main.group()
def key() -> None:
    """Keys that sign bundles, and that are trusted to have signed them."""


@key.command("create")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
def create_key(path: Path) -> None:
    """Make a key: the secret half at PATH, the public half at PATH.pub; prints its id."""
    click.echo(_operations().create_key(path))
    click.echo(f"Keep `{path}` secret; `{path}.pub` goes to those who import", err=True)


@key.command("show")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def show_key(path: Path) -> None:
    """Print the id of a public key."""
    click.echo(_operations().key_id(path))


@main.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("names", nargs=-1)
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Sign with this secret key; several while keys are changed.",
)
@click.option("--public-only", is_flag=True, help="Leave private adapters out.")
@click.option("--overwrite", is_flag=True, help="Write over FILE.")
@click.option("--dry-run", is_flag=True, help="Only say what the file would hold.")
@click.option("--json", "as_json", is_flag=True, help="Print the selection as JSON.")
def export_bundle(  # noqa: PLR0913  # one option each
    file: Path,
    names: tuple[str, ...],
    keys: tuple[Path, ...],
    *,
    public_only: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write adapters with all that they pin into one signed FILE.

    NAMES are adapters (`nli/multinli@ukp`), versions (`nli/multinli@ukp:3`) or organizations (`ukp`); without any,
    everything.
    """
    if not keys and not dry_run:
        raise click.UsageError("A bundle is signed: give `--key`.")
    if file.exists() and not overwrite and not dry_run:
        raise click.UsageError(f"There is already a file `{file}`: `--overwrite` writes over it.")
    operations = _operations()
    wanted = operations.Wanted(file=file, names=names, keys=keys, private=not public_only)
    index, digest = operations.export(wanted, _progress, dry_run=dry_run)
    if as_json:
        click.echo(msgspec.json.encode(index))
        return
    for line in operations.outline(index):
        click.echo(line)
    if digest is not None:
        click.echo(f"Wrote `{file}`, {digest}", err=True)


@main.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--trust",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A public key, or a folder of them; default: ADAPTERHUB_TRUSTED_KEYS.",
)
@click.option("--dry-run", is_flag=True, help="Only verify it.")
@click.option("--json", "as_json", is_flag=True, help="Print what was taken in as JSON.")
def import_bundle(file: Path, trust: tuple[Path, ...], *, dry_run: bool, as_json: bool) -> None:
    """Take in what `export` wrote, with the same digests and numbers.

    All of it is verified before anything is written. It can be stopped, and run again.
    """
    operations = _operations()
    if dry_run:
        seal = operations.examine(file, trust, _progress)
        click.echo(msgspec.json.encode(seal) if as_json else f"{seal.digest}, by {seal.key_id}")
        return
    taken = operations.take(file, trust, _progress)
    if as_json:
        click.echo(msgspec.json.encode(taken))
        return
    click.echo(
        f"Took in {taken.versions} versions and {taken.blobs} blobs ({taken.size_bytes} bytes); "
        f"{taken.known} versions were here"
    )
    if taken.is_stale:
        click.echo("warning: a newer bundle is in: no status and no alias was changed", err=True)
    for told, named in (("deleted here", taken.left_out), ("deleted there", taken.still_here)):
        for name in named:
            click.echo(f"warning: {name} was {told}, and is left as it is", err=True)


@main.command()
def openapi() -> None:
    """Print the OpenAPI document of the API."""
    click.echo(json.dumps(_operations().document(), indent=2, ensure_ascii=False))


@contextmanager
def _counting_together() -> Iterator[None]:
    """A folder in which all workers count: it has to be known before anything is imported that counts."""
    folder, owner = tempfile.mkdtemp(prefix="adapterhub-metrics-"), os.getpid()
    os.environ.setdefault(_COUNTED, folder)
    try:
        yield
    finally:
        if os.getpid() == owner:  # a worker ends here too
            shutil.rmtree(folder, ignore_errors=True)


def _operations() -> ModuleType:
    """What the commands do; loading it takes a second."""
    return import_module("adapterhub_registry.operations")


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(line, err=True)


def _welcome(secret: str) -> None:
    click.echo(
        "This registry is new. The token of its first account, `admin`, is shown only this once:\n\n"
        f"    {secret}\n",
        err=True,
    )


def _told(adapters: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{adapters} adapters", err=True, nl=False)


def _announce(address: str) -> None:
    click.echo(f"Listening on {address}")


def _fail(message: str, hint: str | None = None) -> None:
    click.echo(f"error: {message.rstrip('.')}", err=True)
    if hint is not None:
        click.echo(f"\nhint: {hint}", err=True)
    sys.exit(1)
