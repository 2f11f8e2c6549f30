"""Move adapters: pull, push, verify, fingerprint."""

from pathlib import Path

import click

from adapterhub_client.cli import output
from adapterhub_client.errors import UsageError


@click.command()
@click.argument("reference")
@click.option("--base", help="check against this base: a model's folder, a fingerprint or a name")
@click.option("--config", help="a method such as seq_bn, or a config id")
@click.option("--fallback", is_flag=True, help="take another config when this one is not there")
@click.option(
    "--allow-base-mismatch", is_flag=True, help="pull although it was made for another base"
)
@click.option(
    "--to", "target", type=click.Path(path_type=Path), help="copy the files into this new folder"
)
@output.connected
@output.json_option
def pull(  # noqa: PLR0913 - one option each
    *,
    reference: str,
    base: str | None,
    config: str | None,
    target: Path | None,
    url: str | None,
    token: str | None,
    fallback: bool,
    allow_base_mismatch: bool,
    as_json: bool,
) -> None:
    """Bring REFERENCE into the cache, verified, and print its folder."""
    import shutil

    if target is not None and target.exists():
        raise UsageError(
            f"'{target}' is there already.", hint="give a folder that is not there yet"
        )
    with output.hub(url, token, quiet=False) as hub:
        folder = hub.pull(
            reference,
            base=base,
            config=config,
            fallback=fallback,
            allow_base_mismatch=allow_base_mismatch,
        )
        manifest = hub.verify(folder)
    if target is not None:
        shutil.copytree(folder, target, copy_function=shutil.copyfile)
        folder = target
    output.note(
        f"{manifest.reference.reference}: {len(manifest.files)} files, {output.size(manifest.size_bytes)}"
    )
    output.data({"folder": str(folder)}, as_json=as_json, text=str(folder))


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[REFERENCE] FOLDER")
@click.option(
    "--base",
    type=click.Path(path_type=Path),
    help="the base model's folder, where FOLDER does not know it",
)
@click.option("--description", help="one sentence")
@click.option("--license", "license_name", help="an SPDX name such as apache-2.0")
@click.option(
    "--language", "languages", multiple=True, help="a language code such as en; repeatable"
)
@click.option("--private", is_flag=True, help="a new adapter is seen by its organization only")
@output.connected
@output.json_option
def push(  # noqa: PLR0913 - one option each
    *,
    words: tuple[str, ...],
    base: Path | None,
    description: str | None,
    license_name: str | None,
    languages: tuple[str, ...],
    url: str | None,
    token: str | None,
    private: bool,
    as_json: bool,
) -> None:
    """Publish FOLDER as REFERENCE; a training run knows its own reference."""
    *named, folder = words
    if len(named) > 1:
        raise UsageError(
            f"{len(words)} words are too many.", hint="adapterhub-client push [REFERENCE] FOLDER"
        )
    reference = named[0] if named else None
    from adapterhub_client.publication import Details

    details = Details(
        description=description,
        license=license_name,
        languages=list(languages) or None,
        private=private,
    )
    with output.hub(url, token, quiet=False) as hub:
        version = hub.push(reference, folder, base=base, details=details)
    text = f"{version.reference}:{version.number}  {version.digest}"
    output.data(version, as_json=as_json, text=text)


@click.command()
@click.argument("what")
@output.connected
@output.json_option
def verify(what: str, url: str | None, token: str | None, *, as_json: bool) -> None:
    """Hash every file of a pulled folder, or of a reference's cached version, against its manifest."""
    with output.hub(url, token) as hub:
        folder = Path(what)
        manifest = hub.verify(folder if folder.is_dir() else hub.pull(what))
    text = (
        f"{manifest.reference.reference}: {len(manifest.files)} files are what their manifest says"
    )
    output.data(manifest, as_json=as_json, text=text)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--against", type=click.Path(path_type=Path), help="another model; says which tensors differ"
)
@output.json_option
def fingerprint(model: Path, against: Path | None, *, as_json: bool) -> None:
    """Print the identity of the base model in the folder MODEL."""
    from adapterhub_client import settings
    from adapterhub_client.errors import WrongBase
    from adapterhub_client.fingerprint import compare, of_folder

    cache = settings.load().cache / "fingerprints"
    found = of_folder(model, cache=cache)
    output.data(found.base, as_json=as_json, text=found.root)
    if against is not None:
        comparison = compare(of_folder(against, cache=cache), found)
        if not comparison.compatible:
            raise WrongBase(
                f"'{model}' is not the base in '{against}': {comparison.sentence(10)}.", hint=""
            )
        output.note(f"same base: {comparison.verdict}")
