"""Where the facts of a run are recorded while it runs."""

import time
from pathlib import Path
from typing import IO, Protocol, Self

import msgspec


class Tracker(Protocol):
    """Takes facts; what has been recorded survives a crash."""

    def record(self, event: str, **facts: object) -> None:
        """Keep one event with its facts."""


class JsonLines:
    """A file with one JSON object per event, written at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def record(self, event: str, **facts: object) -> None:
        """Append one line."""
        if self._file is not None:
            line = {"event": event, "time": round(time.time(), 3), **facts}
            self._file.write(msgspec.json.encode(line) + b"\n")
