"""How a run shows itself on stderr: a bar on a terminal, plain lines elsewhere, or not at all."""

import sys
import time
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

LINE_EVERY_SECONDS = 10.0


class Display(Protocol):
    """What the loop tells whoever watches."""

    def say(self, text: str) -> None:
        """One line."""

    def begin(self, title: str, steps: int, done: int = 0) -> None:
        """A stretch of so many steps begins, or goes on."""

    def step(self, text: str) -> None:
        """One step is done."""

    def end(self) -> None:
        """The stretch is over, complete or not."""


class Quiet:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def begin(self, title: str, steps: int, done: int = 0) -> None:
        """Nothing."""

    def step(self, text: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class Lines:
    """Plain lines, at most one every few seconds while steps go by."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._title, self._steps, self._done, self._first = "", 0, 0, 0
        self._began = self._spoke = 0.0

    def say(self, text: str) -> None:
        """Write it."""
        self._stream.write(text + "\n")
        self._stream.flush()

    def begin(self, title: str, steps: int, done: int = 0) -> None:
        """Remember what runs."""
        self._title, self._steps, self._done, self._first = title, steps, done, done
        self._began = self._spoke = time.monotonic()

    def step(self, text: str) -> None:
        """Write where it stands, now and then."""
        self._done += 1
        now = time.monotonic()
        if now - self._spoke >= LINE_EVERY_SECONDS:
            self._spoke = now
            left = (now - self._began) / (self._done - self._first) * (self._steps - self._done)
            self.say(f"{self._title}  step {self._done}/{self._steps}  {text}  {left:.0f} s left")

    def end(self) -> None:
        """Nothing more to write."""


class Bar:
    """A bar with the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def say(self, text: str) -> None:
        """Write it above the bar."""
        self._console.print(text, markup=False, highlight=False)

    def begin(self, title: str, steps: int, done: int = 0) -> None:
        """Show the bar."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task(title, total=steps, completed=done, text="")
        self._progress.start()

    def step(self, text: str) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.update(self._task, advance=1, text=text)

    def end(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def display(*, quiet: bool = False) -> Display:
    """The display that suits stderr."""
    if quiet:
        return Quiet()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines(sys.stderr)
