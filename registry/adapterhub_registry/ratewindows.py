"""Requests counted in this process, for `limits`.

The library's own memory starts a thread for almost every request, to forget what has ended; that took a tenth of a
millisecond, as long as reading a row. Here what has ended is forgotten when the table has grown.
"""

import threading
import time
from typing import NamedTuple

from limits.storage import Storage

FEW = 1000
"""keys that are kept without looking which of them have ended"""


class _Window(NamedTuple):
    counted: int
    ends: float


_NONE = _Window(0, 0.0)


class Windows(Storage):
    """How much was counted for each key since its window began."""

    STORAGE_SCHEME: list[str] | None = ["worker"]  # noqa: RUF012  as the library has it

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, _Window] = {}
        self._enough = FEW
        self._lock = threading.Lock()

    @property
    def base_exceptions(self) -> type[Exception]:
        """What may go wrong: nothing that is known."""
        return OSError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count, in a window of so many seconds from the first time on."""
        now = time.time()
        with self._lock:
            found = self._kept.get(key, _NONE)
            window = found if found.ends > now else _Window(0, now + expiry)
            self._kept[key] = window = window._replace(counted=window.counted + amount)
            if len(self._kept) > self._enough:
                self._kept = {k: w for k, w in self._kept.items() if w.ends > now}
                self._enough = max(FEW, 2 * len(self._kept))
        return window.counted

    def get(self, key: str) -> int:
        """What was counted."""
        window = self._kept.get(key, _NONE)
        return window.counted if window.ends > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """When the window ends, in seconds since 1970."""
        window = self._kept.get(key, _NONE)
        return max(window.ends, time.time())

    def check(self) -> bool:
        """Whether it works."""
        return True

    def reset(self) -> int:
        """Forget everything; says how many keys there were."""
        with self._lock:
            count = len(self._kept)
            self._kept = {}
        return count

    def clear(self, key: str) -> None:
        """Forget a key."""
        with self._lock:
            self._kept.pop(key, None)
