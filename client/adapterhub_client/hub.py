"""The hub as Python sees it: resolve a reference, pull its files, push a folder."""

import os
import tempfile
import urllib.parse
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import msgspec

from adapterhub_client import (
    admission,
    bases,
    curation,
    fingerprint,
    names,
    publication,
    settings,
    transfer,
)
from adapterhub_client.cache import Cache
from adapterhub_client.errors import Corrupt, UsageError, WrongBase
from adapterhub_client.fingerprint import (
    Comparison,
    Fingerprint,
    compare,
)
from adapterhub_client.formats.folder import Run, inspect
from adapterhub_client.names import Reference
from adapterhub_client.publication import Details
from adapterhub_client.transport import Transport, sha256_of
from adapterhub_client.wire import (
    BASE_FINGERPRINT_FILE,
    Account,
    Adapter,
    AdapterPage,
    Alias,
    ChangedVersion,
    Manifest,
    Relations,
    Resolution,
    SignInRequest,
    Token,
    Upload,
    UploadDraft,
    Version,
    VersionPage,
    digest,
)

API = "/api/v1"
_JSON = {"Content-Type": "application/json"}
UNKNOWN_DISTANCE = 10**9


class Hub:
    """One hub, one account, one cache.

    Settings come from the arguments, then the environment (``ADAPTERHUB_URL``, ``ADAPTERHUB_TOKEN``,
    ``ADAPTERHUB_CACHE``), then what `adapterhub-client login` stored. ``through`` replaces the network, for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        *,
        progress: transfer.Progress = transfer.no_progress,
        through: httpx2.BaseTransport | None = None,
    ) -> None:
        self.settings = settings.load(url, token, cache)
        self.cache = Cache(self.settings.cache)
        self._progress = progress
        self._transport = Transport(self.settings.url, self.settings.token, through=through)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    # ------------------------------------------------------------ look

    def whoami(self) -> Account:
        """Say who the token speaks for."""
        return self._transport.request("GET", f"{API}/whoami", Account)

    def sign_in(self, request: SignInRequest) -> Token:
        """Get a token for a name and a password; its secret is in the answer.

        Raises:
            NotAllowed: They do not go together.
        """
        body = msgspec.json.encode(request)
        return self._transport.request("POST", f"{API}/sign-in", Token, content=body, headers=_JSON)

    def search(
        self, query: str = "", *, limit: int = 20, after: str | None = None, **facets: str | None
    ) -> AdapterPage:
        """List adapters whose name or description has the words of ``query``.

        ``facets``: ``task``, ``base`` (a name or a fingerprint), ``org``, ``method``, ``language``.
        """
        given = {"q": query or None, "limit": limit, "after": after, **facets}
        parameters = {key: value for key, value in given.items() if value is not None}
        return self._transport.request("GET", f"{API}/adapters", AdapterPage, params=parameters)

    def compatible(
        self, fingerprint: str, *, limit: int = 100, after: str | None = None
    ) -> VersionPage:
        """List the active versions that fit a base model, by its fingerprint."""
        given = {"base": fingerprint, "limit": limit, "after": after}
        parameters = {key: value for key, value in given.items() if value is not None}
        return self._transport.request("GET", f"{API}/compatible", VersionPage, params=parameters)

    def show(self, reference: str | Reference) -> Adapter:
        """Fetch an adapter with its variants and versions."""
        return self._transport.request(
            "GET", f"{API}/adapters/{_parsed(reference).adapter}", Adapter
        )

    def manifest(self, digest: str) -> Manifest:
        """Fetch the manifest with this digest, from the cache where it is there.

        Raises:
            Corrupt: The hub's answer has another digest.
        """
        return admission.manifest(self._canonical(digest))

    # ------------------------------------------------------------ resolve and pull

    def resolve(
        self,
        reference: str | Reference,
        *,
        base: Any = None,  # noqa: ANN401
        config: str | None = None,
        fallback: bool = False,
        allow_base_mismatch: bool = False,
    ) -> Resolution:
        """Find the one version a reference stands for.

        ``base`` is a loaded model, a model's folder, a fingerprint, or a base's name; ``config`` a method's name or
        config id. With ``fallback`` another config may answer when this one is not there, and the answer says so.

        Raises:
            AdapterNotFound: With the nearest names.
            VersionNotFound: The adapter is there, this version or config is not.
            Ambiguous: Several versions answer; they are listed.
            WrongBase: It was made for another base; the message names the tensors that differ.
        """
        wanted = _parsed(reference)
        known = bases.known(base, self.cache.fingerprints)
        found = self._find(wanted, known, config, fallback=fallback, any_base=allow_base_mismatch)
        curation.advise(found.version)
        self._check_base(wanted, found.manifest, known, any_base=allow_base_mismatch)
        return found

    def pull(
        self,
        reference: str | Reference,
        *,
        base: Any = None,  # noqa: ANN401
        config: str | None = None,
        fallback: bool = False,
        allow_base_mismatch: bool = False,
    ) -> Path:
        """Bring a version into the cache and return its folder, every file verified.

        A reference pinned by digest that is in the cache needs no network. An interrupted pull resumes.

        Raises:
            Corrupt: The hub sent other bytes than the manifest names; nothing of them is kept.
            HubError: As `resolve`.
        """
        wanted = _parsed(reference)
        known = bases.known(base, self.cache.fingerprints)
        pinned = wanted.version if names.DIGEST.fullmatch(wanted.version or "") else None
        found = None
        if pinned is None or not self._has(wanted, pinned):
            found = self._find(
                wanted, known, config, fallback=fallback, any_base=allow_base_mismatch
            )
            if pinned not in {None, found.version.digest}:
                raise Corrupt(f"The hub answered {found.version.digest} to {wanted}.")
            if found.fell_back:
                method = found.version.method
                warnings.warn(
                    f"no version has the config {config}; this one has {method}", stacklevel=2
                )
            curation.advise(found.version)
            pinned = found.version.digest
        canonical = self._canonical(str(pinned))
        manifest = admission.manifest(canonical)
        if not curation.is_of(wanted, manifest, found):
            owner = manifest.reference.reference
            raise Corrupt(f"{pinned} is a version of {owner}, not of {wanted.adapter}.")
        self._check_base(wanted, manifest, known, any_base=allow_base_mismatch)
        version = digest(manifest)
        for last in (False, True):
            transfer.download(
                self._transport,
                self.cache,
                manifest.files,
                version=version,
                progress=self._progress,
            )
            try:
                return self.cache.snapshot(manifest, canonical)
            except FileNotFoundError:  # another process pruned the cache between the two steps
                if last:
                    raise
        raise AssertionError  # pragma: no cover

    def verify(self, folder: str | os.PathLike[str]) -> Manifest:
        """Hash every file of a pulled folder against its manifest, and the manifest itself.

        Raises:
            UsageError: The folder was not pulled from a hub.
            Corrupt: Says which files differ or are missing.
        """
        folder = Path(folder)
        path = folder / "manifest.json"
        if not path.is_file():
            raise UsageError(
                f"'{folder}' has no manifest.json.", hint="only a pulled folder can be verified"
            )
        canonical = path.read_bytes()
        manifest = admission.manifest(canonical)
        named = (
            f"sha256:{folder.name}" if admission.SHA256.fullmatch(folder.name) else digest(manifest)
        )
        if not admission.is_canonical(canonical, named):
            raise Corrupt(
                f"'{path}' was changed: it is not the manifest {named}.", hint="pull it again"
            )
        bad = [
            file.path
            for file in manifest.files
            if not (folder / file.path).is_file() or sha256_of(folder / file.path) != file.sha256
        ]
        if bad:
            raise Corrupt(
                f"'{folder}' differs from its manifest in {', '.join(bad)}.", hint="pull it again"
            )
        return manifest

    # ------------------------------------------------------------ push

    def push(
        self,
        reference: str | Reference | None,
        folder: str | os.PathLike[str],
        *,
        base: Any = None,  # noqa: ANN401
        details: Details | None = None,
    ) -> Version:
        """Publish a folder in the adapters, PEFT or composition format, or a training run.

        Blobs travel first, the manifest last, in one step: an interrupted push leaves nothing to be seen, and the
        same push again goes on or answers with the version that is already there. ``base`` (a loaded model or its
        folder) is needed where the folder does not know its base's fingerprint. ``reference`` may be None for a run
        that names its own.

        Raises:
            NotAnAdapter: The folder holds none of these formats.
            Refused: The hub lists everything that is wrong.
            NotAllowed: The token is wrong, or does not reach this far.
        """
        content = inspect(Path(folder))
        run = content.run or Run(folder=".")
        if reference is None and run.reference is None:
            raise UsageError("The push has no name.", hint="give a reference: TASK/NAME@ORG")
        if content.left_out:
            warnings.warn(
                f"left out, being nothing a hub keeps: {', '.join(content.left_out)}", stacklevel=2
            )
        wanted = _parsed(reference or run.reference or "")
        if wanted.version is not None:
            raise UsageError(
                f"{str(wanted)!r} names a version, but the hub gives the numbers.",
                hint="leave it out",
            )
        with tempfile.TemporaryDirectory(prefix="adapterhub-push-") as scratch:
            sources = publication.sources(
                content, bases.known(base, self.cache.fingerprints), Path(scratch)
            )
            manifest = publication.manifest(wanted, content, sources, details or Details(), run)
            draft = UploadDraft(manifest=manifest, private=bool(details and details.private))
            body = msgspec.json.encode(draft)
            begun = self._transport.request(
                "POST", f"{API}/uploads", Upload, content=body, headers=_JSON
            )
            if begun.published:
                return begun.published
            by_digest = {file.sha256: (file.path, sources[file.path]) for file in manifest.files}
            transfer.upload(self._transport, begun, by_digest, self._progress)
            return self._transport.request("POST", f"{API}/uploads/{begun.id}/commit", Version)

    # ------------------------------------------------------------ change what is out

    def yank(self, reference: str | Reference, reason: str) -> ChangedVersion:
        """Withdraw a pinned version: only exact pins find it any more. Says what depends on it."""
        return curation.set_status(self._transport, reference, "yank", reason)

    def deprecate(self, reference: str | Reference, reason: str) -> ChangedVersion:
        """Advise against a pinned version; it still resolves. Says what depends on it."""
        return curation.set_status(self._transport, reference, "deprecate", reason)

    def restore(self, reference: str | Reference) -> ChangedVersion:
        """Make a yanked or deprecated version active again."""
        return curation.set_status(self._transport, reference, "restore")

    def aliases(self, reference: str | Reference) -> list[Alias]:
        """List the aliases of an adapter."""
        return curation.aliases(self._transport, reference)

    def set_alias(self, reference: str | Reference, alias: str) -> Version:
        """Let an alias, such as `stable`, point at a pinned version."""
        return curation.set_alias(self._transport, reference, alias)

    def remove_alias(self, reference: str | Reference, alias: str) -> None:
        """Take an alias away."""
        curation.remove_alias(self._transport, reference, alias)

    def lineage(self, digest: str) -> Relations:
        """Say where a version comes from and what depends on it."""
        return curation.lineage(self._transport, digest)

    # ------------------------------------------------------------ private

    def _find(
        self,
        wanted: Reference,
        known: Fingerprint | str | None,
        config: str | None,
        *,
        fallback: bool,
        any_base: bool,
    ) -> Resolution:
        """Ask the hub; a base it does not know under this fingerprint may still be one it has in another dtype."""
        named = known.root if isinstance(known, Fingerprint) else known
        query = {
            "ref": str(wanted),
            "base": named,
            "config": config,
            "fallback": "1" if fallback else None,
        }

        def ask(**changes: str | None) -> Resolution:
            given = {key: value for key, value in (query | changes).items() if value is not None}
            return self._transport.request("GET", f"{API}/resolve", Resolution, params=given)

        try:
            return ask()
        except WrongBase as refusal:
            candidates = refusal.problem.candidates if refusal.problem else []
            unproved = not any(candidate.base.fingerprint for candidate in candidates)
            if any_base or (unproved and candidates and isinstance(known, Fingerprint)):
                return ask(base=None)
            if not isinstance(known, Fingerprint) or not candidates:
                raise
            return ask(base=self._same_base(wanted, known, candidates))

    def _has(self, wanted: Reference, version: str) -> bool:
        """Whether the cache alone can answer: it has the manifest, under the name that is asked for."""
        kept = self.cache.manifest(version)
        if kept is None or not admission.is_canonical(kept, version):
            return False
        return curation.is_of(wanted, admission.manifest(kept), None)

    def _canonical(self, version: str) -> bytes:
        kept = self.cache.manifest(version)
        if kept is not None and admission.is_canonical(kept, version):
            return kept
        canonical = self._transport.read(f"{API}/manifests/{urllib.parse.quote(version)}")
        if not admission.is_canonical(canonical, version):
            raise Corrupt(f"The hub sent another manifest than {version}.", hint="nothing was kept")
        self.cache.keep_manifest(version, canonical)
        return canonical

    def _check_base(
        self,
        wanted: Reference,
        manifest: Manifest,
        known: Fingerprint | str | None,
        *,
        any_base: bool,
    ) -> None:
        """Hold a version against the base in hand, whatever the hub said; names prove nothing either way."""
        expected = manifest.base.fingerprint
        if known is None or (isinstance(known, str) and not names.DIGEST.fullmatch(known)):
            return
        if expected is None:
            warnings.warn(
                f"{wanted} was published without its base's fingerprint: nothing proves that it fits this base",
                stacklevel=3,
            )
            return
        if expected == (known.root if isinstance(known, Fingerprint) else known):
            return
        comparison = self._compare(manifest, known) if isinstance(known, Fingerprint) else None
        if comparison is not None and comparison.compatible:
            if comparison.caution:
                warnings.warn(f"{wanted}: {comparison.caution}", stacklevel=3)
            return
        refusal = bases.wrong(wanted, manifest, known, comparison)
        if not any_base:
            raise refusal
        warnings.warn(str(refusal), stacklevel=3)

    def _same_base(self, wanted: Reference, known: Fingerprint, candidates: list[Version]) -> str:
        """The candidate whose base is the known one in another dtype; else refuse with the tensors that differ."""
        nearest: tuple[int, Manifest, Comparison | None] | None = None
        for candidate in candidates:
            manifest = self.manifest(candidate.digest)
            comparison = self._compare(manifest, known)
            if comparison and comparison.compatible and manifest.base.fingerprint:
                return manifest.base.fingerprint
            distance = len(comparison.all_differing) if comparison else UNKNOWN_DISTANCE
            if nearest is None or distance < nearest[0]:
                nearest = (distance, manifest, comparison)
        if nearest is None:
            raise WrongBase(f"{wanted.adapter} has no version for {known.name}.")
        raise bases.wrong(wanted, nearest[1], known, nearest[2])

    def _compare(self, manifest: Manifest, known: Fingerprint) -> Comparison | None:
        """Compare with the leaves the version carries; None where it carries none."""
        leaves = [file for file in manifest.files if file.path == BASE_FINGERPRINT_FILE]
        if not leaves or manifest.base.fingerprint is None:
            return None
        transfer.download(self._transport, self.cache, leaves, version=digest(manifest))
        expected = fingerprint.read(self.cache.blob(leaves[0].sha256))
        if expected.root != manifest.base.fingerprint:
            raise Corrupt(
                f"{manifest.reference.reference} names a base, and carries the tensors of another."
            )
        return compare(expected, known)


def _parsed(reference: str | Reference) -> Reference:
    return names.parse(reference) if isinstance(reference, str) else reference
