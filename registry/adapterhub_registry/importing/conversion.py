"""Have a file of torch converted by another process, and wait for it no longer than allowed."""

import subprocess
import sys
from pathlib import Path

from adapterhub_registry.importing import convert

TIMEOUT_SECONDS = 600.0
_LINE = 300


class ConversionRefused(Exception):
    """The file could not be converted; says why."""


def to_safetensors(source: Path, target: Path) -> None:
    """Convert a file in a process of its own.

    Raises:
        ConversionRefused: It is no plain dictionary of tensors, or needs more than it may; nothing is left behind.
    """
    command = [sys.executable, "-I", "-m", convert.__name__, str(source), str(target)]
    try:
        done = subprocess.run(  # noqa: S603 - this very interpreter, paths of our own
            command,
            cwd=target.parent,
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        target.unlink(missing_ok=True)
        raise ConversionRefused(f"it took longer than {TIMEOUT_SECONDS:.0f} seconds") from error
    if done.returncode == 0:
        return
    target.unlink(missing_ok=True)
    said = done.stderr.decode(errors="replace").strip().splitlines() or [""]
    if done.returncode == convert.REFUSED:
        raise ConversionRefused(said[0][:_LINE])
    raise ConversionRefused(f"the converter ended with {done.returncode}: {said[-1][:_LINE]}")
