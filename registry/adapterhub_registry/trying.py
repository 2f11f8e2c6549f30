"""The process that runs adapters on texts: started when it is first asked, watched, and started again when it dies.

A registry has no torch. Where the machine has the `compose` extra and a base model at hand, a process of the client
does the work: one trial at a time, with limits of memory and time, without the registry's secrets in its environment.
"""

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import msgspec

from adapterhub_client import fingerprint, wire
from adapterhub_client.errors import HubError
from adapterhub_registry.errors import TooManyRequests, Unavailable
from adapterhub_registry.settings import Settings
from adapterhub_registry.telemetry import log

_MODULE = "adapterhub_client.compose.trial"
_PACKAGE = "package:"
_NEEDED = ("torch", "transformers")
_START_SECONDS = 60
_IDLE_SECONDS = 600
_WAIT_SECONDS = 5
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
_ANSWER_BYTES = 4 * 1024 * 1024


class TrialFailed(Unavailable):
    """The process that runs adapters died, or took too long."""

    code = "trial_failed"


class Slow(Exception):
    """The process says nothing for too long, or too much at once."""


class Trier:
    """Runs trials in a process of its own, one at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.seconds = float(settings.try_seconds)
        """the longest that one trial may take"""
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._idle: threading.Timer | None = None
        self._bases: dict[str, Path] | None = None
        self._looking = threading.Lock()

    @property
    def process_id(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._process is None else self._process.pid

    def base(self, root: str | None) -> Path | None:
        """The folder of the base of this fingerprint; None where it is not at hand, or not known yet."""
        if root is None or not self.seconds:
            return None
        if self._bases is None:
            self._look()
        return (self._bases or {}).get(root)

    def ready(self) -> None:
        """Wait until it is known which bases are at hand."""
        self._look(wait=True)

    def run(self, trial: wire.Trial) -> wire.Tried:
        """Try; the process is there for one at a time.

        Raises:
            TooManyRequests: Others are trying, and it takes long.
            TrialFailed: It died, or took longer than it may.
        """
        if not self._turn.acquire(timeout=_WAIT_SECONDS):
            raise TooManyRequests("trials at once", _WAIT_SECONDS)
        try:
            return self._run(trial)
        except (OSError, EOFError, msgspec.DecodeError, Slow) as error:
            log.warning("a trial failed", error=type(error).__name__)
            self._end()
            raise TrialFailed(
                "The adapter could not be run: it took too long, or too much."
            ) from error
        finally:
            self._turn.release()

    def close(self) -> None:
        """End the process."""
        with self._turn:
            self._end()

    def _run(self, trial: wire.Trial) -> wire.Tried:
        self._be_idle_later()
        if self._process is None:
            return self._ask(self._start(), trial)
        try:
            return self._ask(self._process, trial)
        except (OSError, EOFError):  # it died while nobody asked it
            self._end()
            return self._ask(self._start(), trial)

    def _ask(self, process: subprocess.Popen[bytes], trial: wire.Trial) -> wire.Tried:
        assert process.stdin is not None  # noqa: S101  # it was asked for
        process.stdin.write(msgspec.json.encode(trial) + b"\n")
        process.stdin.flush()
        return msgspec.json.decode(self._line(process, self.seconds), type=wire.Tried)

    def _start(self) -> subprocess.Popen[bytes]:
        self._rest = b""
        self._process = subprocess.Popen(  # noqa: S603  # our own module
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment(os.environ),
            close_fds=True,
        )
        self._line(self._process, _START_SECONDS)  # it says that it is there
        return self._process

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What the process needs to know, and no secret of the registry."""
        return {
            **{name: environ[name] for name in _KEPT_VARIABLES if name in environ},
            "ADAPTERHUB_TRY_MEMORY_MB": str(self._settings.try_memory_mb),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    def _line(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """The next line that the process says; Slow, EOFError where it says none."""
        assert process.stdout is not None  # noqa: S101  # it was asked for
        until = time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            readable, _, _ = select.select([process.stdout], [], [], max(left, 0))
            if not readable or len(self._rest) > _ANSWER_BYTES:
                raise Slow
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                raise EOFError
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _be_idle_later(self) -> None:
        """End the process when nobody has tried for a while: it holds much memory."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = threading.Timer(_IDLE_SECONDS, self.close)
        self._idle.daemon = True
        self._idle.start()

    def _end(self) -> None:
        process, self._process, self._rest = self._process, None, b""
        if self._idle is not None:
            self._idle.cancel()
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _look(self, *, wait: bool = False) -> None:
        """Take the fingerprints of the bases, beside the requests: nobody waits for it unless told to."""
        if self._bases is None and self._looking.acquire(blocking=False):
            threading.Thread(target=self._find, daemon=True).start()
        if wait:
            with self._looking:
                pass

    def _find(self) -> None:
        try:
            self._bases = _found(self._settings)
        finally:
            self._looking.release()


def _found(settings: Settings) -> dict[str, Path]:
    """The folders of the bases at hand, by fingerprint; none without the libraries that run them."""
    if not all(find_spec(name) for name in _NEEDED):
        return {}
    found: dict[str, Path] = {}
    for place in settings.try_bases.split(","):
        folder = folder_of(place.strip())
        if folder is None:
            continue
        try:
            found[fingerprint.of_folder(folder, cache=settings.home / "fingerprints").root] = folder
        except (HubError, OSError) as error:
            log.warning("a base cannot be tried", place=place, error=str(error))
    return found


def folder_of(place: str) -> Path | None:
    """The folder of a base model that is named by its place, or by the package that holds it."""
    if not place.startswith(_PACKAGE):
        return Path(place).expanduser() if place else None
    found = find_spec(place.removeprefix(_PACKAGE))
    for location in (found.submodule_search_locations or []) if found else []:
        for config in (Path(location) / "config.json", *Path(location).glob("*/config.json")):
            if config.with_name("tokenizer_config.json").is_file():
                return config.parent
    return None
