"""From a folder to what is published: every file of the version to be, and its manifest."""

import warnings
from pathlib import Path

import msgspec

from adapterhub_client.errors import UsageError, WrongBase
from adapterhub_client.fingerprint import Fingerprint, compare, read, write
from adapterhub_client.formats.folder import CONVERTED, Content, Run
from adapterhub_client.names import Reference
from adapterhub_client.transport import sha256_of
from adapterhub_client.wire import BASE_FINGERPRINT_FILE, File, Manifest, Metric, Name


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What a push says beyond what the folder knows; a None leaves it to the folder or the run."""

    description: str | None = None
    license: str | None = None
    languages: list[str] | None = None
    citation: str | None = None
    metrics: list[Metric] | None = None
    private: bool = False


def sources(content: Content, base: Fingerprint | str | None, scratch: Path) -> dict[str, Path]:
    """Every file of the version to be: the folder's own, converted weights, the base's fingerprint.

    Raises:
        WrongBase: The folder knows its base, and it is not this one.
        UsageError: A pickle has to be converted and torch is not there, or the base is only a name.
    """
    found = dict(content.files)
    for path in content.pickles:
        target = CONVERTED[path.name]
        if target not in found:
            found[target] = _converted(path, scratch / target)
    known = found.get(BASE_FINGERPRINT_FILE)
    if isinstance(base, Fingerprint) and known is not None:
        comparison = compare(read(known), base)
        if not comparison.compatible:
            raise WrongBase(
                f"'{content.folder}' was trained on another base than {base.name}: {comparison.sentence()}.",
                differing=comparison.all_differing,
                hint="push it without naming a base: the folder knows its own",
            )
    elif isinstance(base, Fingerprint):
        write(base, scratch / BASE_FINGERPRINT_FILE)
        found[BASE_FINGERPRINT_FILE] = scratch / BASE_FINGERPRINT_FILE
    elif isinstance(base, str):
        raise UsageError(
            f"A push needs the base itself, not its name {base!r}.",
            hint="give the model or its folder",
        )
    if BASE_FINGERPRINT_FILE not in found:
        warnings.warn(
            f"'{content.folder}' does not know its base's fingerprint: published so, nothing protects those who pull "
            "it from another base; give the base model's folder to change that",
            stacklevel=3,
        )
    return found


def manifest(
    wanted: Reference,
    content: Content,
    sources: dict[str, Path],
    details: Details,
    run: Run,
) -> Manifest:
    """Say everything about the version to be; ``details`` win over what the run says."""
    files = [
        File(path=path, sha256=sha256_of(source), size_bytes=source.stat().st_size)
        for path, source in sorted(sources.items())
    ]
    known = sources.get(BASE_FINGERPRINT_FILE)
    base = content.base
    if known is not None:
        base = read(known).base
    return Manifest(
        reference=Name(task=wanted.task, name=wanted.name, org=wanted.org),
        base=base,
        method=content.method,
        heads=content.heads,
        files=files,
        metrics=run.metrics if details.metrics is None else details.metrics,
        composition=content.composition,
        lineage=run.lineage,
        training=run.training,
        description=run.description if details.description is None else details.description,
        license=run.license if details.license is None else details.license,
        languages=run.languages if details.languages is None else details.languages,
        citation=run.citation if details.citation is None else details.citation,
    )


def _converted(path: Path, target: Path) -> Path:
    """Turn a legacy ``.bin`` into safetensors, on this machine, through a weights-only load."""
    try:
        from adapterhub_client.compose.files.conversion import to_safetensors  # noqa: PLC0415 - torch, only where needed
    except ImportError as error:
        raise UsageError(
            f"'{path.name}' is a pickle, which no hub takes, and converting it needs torch.",
            hint='pip install "adapterhub[compose]", then push again',
        ) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    to_safetensors(path, target)
    return target
