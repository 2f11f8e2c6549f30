"""The one place that speaks HTTP: authentication, retries, and the translation of every failure into a `HubError`."""

import functools
import hashlib
import os
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec
import stamina

from adapterhub_client import errors
from adapterhub_client.errors import HubError, Unreachable
from adapterhub_client.wire import Problem, Version

Answer = TypeVar("Answer")
Progress = Callable[[int], None]

TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
ATTEMPTS = 5
CHUNK_BYTES = 1 << 20
PATIENCE_SECONDS = 20.0
"""the longest pause that a hub may ask for before the same is tried again"""
PASSING = {429, 502, 503, 504}
"""answers that may be another one the next time"""

# By the problem's stable code first, then by status.
REFUSALS: dict[str | int, type[HubError]] = {
    "adapter_not_found": errors.AdapterNotFound,
    "version_not_found": errors.VersionNotFound,
    "no_variant_for_base": errors.WrongBase,
    "no_variant_for_config": errors.VersionNotFound,
    "ambiguous": errors.Ambiguous,
    "wrong_token": errors.WrongToken,
    "token_required": errors.WrongToken,
    "missing_scope": errors.MissingScope,
    "malformed_name": errors.UsageError,
    "not_mirrored": errors.VersionNotFound,
    "yanked": errors.VersionNotFound,
    "deleted": errors.VersionNotFound,
    400: errors.UsageError,
    401: errors.NotAllowed,
    403: errors.NotAllowed,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.Refused,
    422: errors.Refused,
}


class Transport:
    """Requests to one hub. The token goes to the hub's own origin, never to where it redirects."""

    def __init__(
        self, url: str, token: str | None = None, *, through: httpx2.BaseTransport | None = None
    ) -> None:
        headers = {"User-Agent": "adapterhub-client", "Accept": "application/json, */*;q=0.5"}
        trusted = _trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url
        self._hub = httpx2.Client(
            base_url=url,
            headers=headers | bearer,
            timeout=TIMEOUT,
            verify=trusted,
            transport=through,
            follow_redirects=True,
        )
        self._elsewhere = httpx2.Client(headers=headers, timeout=TIMEOUT, verify=trusted)

    def close(self) -> None:
        """Close all connections."""
        self._hub.close()
        self._elsewhere.close()

    def request(self, method: str, path: str, kind: type[Answer], **options: Any) -> Answer:  # noqa: ANN401
        """Send a request and decode its answer.

        Every call of the API may be repeated (a publish is idempotent), so a lost connection or a busy server is
        tried again with growing pauses.

        Raises:
            HubError: What the hub refused, or `Unreachable`.
        """
        response = self._patiently(lambda: self._send(method, path, **options))
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError as error:
            raise Unreachable(
                f"{self.url} gave an answer this client cannot read: {error}.",
                hint="is this the address of a hub, and of a version that fits?",
            ) from error

    def read(self, path: str) -> bytes:
        """Read a small document as it is, such as a manifest."""
        return self._patiently(lambda: self._send("GET", path)).content

    def delete(self, path: str) -> None:
        """Delete something."""
        self._patiently(lambda: self._send("DELETE", path))

    @contextmanager
    def stream(self, path: str, *, start: int = 0) -> Iterator[tuple[bool, Iterable[bytes]]]:
        """Open a download from the hub (a path) or a presigned address; yields whether it goes on, and its pieces."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"  # a blob never changes, so no condition is needed
        client = self._hub if path.startswith("/") else self._elsewhere
        with self._translated(), client.stream("GET", path, headers=headers) as response:
            if response.is_error:
                response.read()
                raise self._refusal(response)
            yield (
                response.status_code == httpx2.codes.PARTIAL_CONTENT,
                response.iter_bytes(CHUNK_BYTES),
            )

    def part(self, path: str, start: int, length: int, progress: Progress) -> list[bytes] | None:
        """Download a part of a blob that is kept in memory; None where the store sends nothing but the whole.

        Raises:
            Unreachable: The connection was lost, or more or less came than was asked for.
        """
        headers = {
            "Accept-Encoding": "identity",
            "Range": f"bytes={start}-{start + length - 1}",
        }
        client = self._hub if path.startswith("/") else self._elsewhere
        came, pieces = 0, []
        try:
            with self._translated(), client.stream("GET", path, headers=headers) as response:
                if response.is_error:
                    response.read()
                    raise self._refusal(response)
                if response.status_code != httpx2.codes.PARTIAL_CONTENT:
                    return None
                for piece in response.iter_raw():  # as it comes: nothing is encoded, nothing copied
                    pieces.append(piece)
                    came += len(piece)
                    progress(len(piece))
                    if came > length:
                        break
            if came != length:
                raise Unreachable(f"{self.url} sent {came} bytes where {length} were asked for.")
        except HubError:
            progress(-came)
            raise
        return pieces

    def put(
        self,
        url: str,
        source: Path,
        headers: dict[str, str],
        progress: Progress,
        span: tuple[int, int] | None = None,
    ) -> None:
        """Upload a file, or ``span`` of it (start and length), to the hub (a path) or to a presigned address.

        Tried again when the connection is lost.
        """
        start, length = span or (0, source.stat().st_size)

        def send() -> None:
            sent = 0

            def pieces() -> Iterator[bytes]:
                nonlocal sent
                for piece in _pieces(source, start, length):
                    yield piece
                    sent += len(piece)
                    progress(len(piece))

            try:
                self._carry("PUT", url, pieces(), {"Content-Length": str(length), **headers})
            except HubError:
                progress(-sent)
                raise

        self._patiently(send)

    def post_bytes(self, url: str, content: bytes) -> None:
        """Send bytes to the hub that may be sent again; tried again when the connection is lost."""
        headers = {"Content-Type": "application/octet-stream"}
        self._patiently(lambda: self._carry("POST", url, content, headers))

    def _carry(
        self, method: str, url: str, content: bytes | Iterator[bytes], headers: dict[str, str]
    ) -> None:
        client = self._hub if url.startswith("/") else self._elsewhere
        with self._translated():
            response = client.request(method, url, content=content, headers=headers)
        if response.is_error:
            raise self._refusal(response)

    def _patiently(self, call: Callable[[], Answer]) -> Answer:
        for attempt in stamina.retry_context(
            on=_is_passing, attempts=ATTEMPTS, wait_initial=0.2, wait_max=5.0
        ):
            with attempt:
                return call()
        raise AssertionError  # pragma: no cover - the last attempt raises

    def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:  # noqa: ANN401
        with self._translated():
            response = self._hub.request(method, path, **options)
        if response.is_error:
            raise self._refusal(response)
        return response

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.RequestError, httpx2.StreamError) as error:
            hint = "is the registry running, and is the address right? `adapterhub-client config` shows it"
            raise _Lost(
                f"{self.url} does not answer: {error or type(error).__name__}.", hint=hint
            ) from error

    def _refusal(self, response: httpx2.Response) -> HubError:
        try:
            problem = msgspec.json.decode(response.content, type=Problem)
        except msgspec.DecodeError:
            address = response.request.url.copy_with(query=None)
            problem = Problem(
                title="no problem document",
                status=response.status_code,
                detail=f"{address} answered {response.status_code} {response.reason_phrase}.",
                code="",
            )
        request_id = response.headers.get("X-Request-Id")
        if response.status_code in PASSING:
            lost = _Lost(problem.detail)
            lost.request_id, lost.pause_seconds = request_id, _pause(response)
            return lost
        kind = REFUSALS.get(problem.code) or REFUSALS.get(response.status_code)
        if kind is None:
            kind = Unreachable if response.is_server_error else errors.UsageError
        error = kind("\n".join([problem.detail, *(f"- {reason}" for reason in problem.reasons)]))
        error.hint = _hint(problem) or error.hint
        error.problem, error.request_id = problem, request_id
        return error


class _Lost(Unreachable):
    """A failure that may pass: worth another try, after the pause that the hub asked for."""

    pause_seconds: float | None = None


def _is_passing(error: Exception) -> bool | float:
    """Whether to try again, or after how many seconds; nobody waits for long without a word."""
    if not isinstance(error, _Lost):
        return False
    if error.pause_seconds is None:
        return True
    return error.pause_seconds if error.pause_seconds <= PATIENCE_SECONDS else False


def _pause(response: httpx2.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _hint(problem: Problem) -> str | None:
    if problem.nearest:
        return "nearest: " + ", ".join(problem.nearest)
    if problem.candidates:
        return "candidates:\n" + "\n".join(
            f"  {candidate_line(version)}" for version in problem.candidates
        )
    if problem.recorded:
        return "recorded without their weights, which are at:\n" + "\n".join(
            f"  {each.base} {each.config_id} {each.name}: {each.url}" for each in problem.recorded
        )
    if problem.code in {"wrong_token", "token_required"}:
        return "get a token from the hub's admin, then `adapterhub-client login`"
    return None


def candidate_line(version: Version) -> str:
    """One version in a list of candidates: enough to choose by, and to type."""
    fingerprint = (version.base.fingerprint or "no fingerprint")[:19]
    return (
        f"{version.reference}:{version.number}  base {version.base.name} ({fingerprint})  "
        f"method {version.method} ({version.config_id})"
    )


def _pieces(source: Path, start: int, length: int) -> Iterator[bytes]:
    with source.open("rb") as file:
        file.seek(start)
        while length and (piece := file.read(min(CHUNK_BYTES, length))):
            yield piece
            length -= len(piece)


@functools.cache
def _trusted(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Whom TLS trusts, read once for each place that says so: it takes longer than to pull a small adapter."""
    return httpx2.create_ssl_context()


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
