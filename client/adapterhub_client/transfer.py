"""Blobs down and up: in parallel, hashed while they stream, resumed where they stopped."""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from adapterhub_client.cache import Cache
from adapterhub_client.errors import NotAllowed, Unreachable
from adapterhub_client.transport import CHUNK_BYTES, Transport
from adapterhub_client.wire import File, Links, Part, Parts, Upload, UploadTarget

PARALLEL = 8
MANY_FILES = 4
"""files of a pull from which on their addresses are asked for all at once"""
STUCK_ATTEMPTS = 4
"""attempts without one more byte after which a download gives up"""
PAUSE_SECONDS = 0.5
LARGE_BYTES = 16 * 1024 * 1024
"""left of a blob, from which on more is done at once: a store's comes in parts, a hub's is hashed aside"""
PART_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 3
HASHED_BEHIND = 4
"""pieces of a stream that may wait to be hashed"""
REFUSED_ADDRESSES = 3
"""times that a part's address may be refused, being too old, before a push gives up"""
_DIGEST_BYTES = 32

Progress = Callable[[str, int, int], None]
"""called with a file's name, the bytes just moved (negative when they are taken back), and its size"""


def no_progress(name: str, moved: int, total: int) -> None:
    """Show nothing."""


def download(
    transport: Transport,
    cache: Cache,
    files: Sequence[File],
    *,
    version: str,
    progress: Progress = no_progress,
) -> None:
    """Bring every file's blob into the cache; what is there already costs nothing but its hash.

    Raises:
        Corrupt: The hub sent other bytes than the manifest names; nothing of them is kept.
        Unreachable: The connection was lost for good; what came is kept, the next call goes on from there.
    """
    distinct = list({file.sha256: file for file in files}.values())
    absent = [file for file in distinct if not cache.blob(file.sha256).is_file()]
    found = Links(urls={})
    if len(absent) >= MANY_FILES or any(file.size_bytes >= LARGE_BYTES for file in absent):
        path = f"/api/v1/manifests/{version}/links?count=1"
        found = transport.request("GET", path, Links)
    pull = _Pull(transport, cache, None if found.counted else version, found.urls, progress)
    _all_of(distinct, lambda file: _fetch(pull, file))


def upload(
    transport: Transport,
    begun: Upload,
    sources: Mapping[str, tuple[str, Path]],
    progress: Progress = no_progress,
) -> None:
    """Send every missing blob where the hub wants it; ``sources`` gives a path and content for each digest.

    Small ones travel many in a request, large ones in parts side by side: those that came already, also of a push
    that was killed, are not sent again.

    Raises:
        HubError: What the hub refused.
    """
    large = [target for target in begun.missing if target.in_parts]
    small = [target for target in begun.missing if target.size_bytes <= begun.small_bytes]
    batched = small if begun.batch and len(small) > 1 else []
    rest = [target for target in begun.missing if target not in batched and not target.in_parts]

    def send(target: UploadTarget) -> None:
        name, source = sources[target.sha256]
        moved = _moved(progress, name, target.size_bytes)
        transport.put(target.url, source, target.headers, moved)

    def send_batch(targets: list[UploadTarget]) -> None:
        pairs = ((bytes.fromhex(t.sha256), sources[t.sha256][1].read_bytes()) for t in targets)
        transport.post_bytes(str(begun.batch), b"".join(piece for pair in pairs for piece in pair))
        for target in targets:
            progress(sources[target.sha256][0], target.size_bytes, target.size_bytes)

    _all_of(list(_batches(batched, begun.batch_bytes)), send_batch)
    _all_of(rest, send)
    for target in large:
        _send_parts(transport, target, sources[target.sha256], progress)


class _Pull(msgspec.Struct, frozen=True):
    """What every download of one pull needs."""

    transport: Transport
    cache: Cache
    version: str | None
    """what this pull counts for, where it was not counted yet"""
    addresses: dict[str, str]
    progress: Progress

    def address(self, file: File) -> str:
        """Where the bytes of a file are."""
        path = f"/api/v1/blobs/{file.sha256}"
        return self.addresses.get(file.sha256) or (
            path if self.version is None else f"{path}?version={self.version}"
        )


def _all_of(items: Sequence[Any], work: Callable[[Any], None]) -> None:
    """Do the same with each, some at a time; after a failure no further one is begun."""
    if len(items) <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(PARALLEL) as pool:
        try:
            for done in [pool.submit(work, item) for item in items]:
                done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _batches(targets: Sequence[UploadTarget], limit: int) -> Iterator[list[UploadTarget]]:
    """Small blobs in groups that fit into one request each, and keep several requests busy."""
    total = sum(target.size_bytes + _DIGEST_BYTES for target in targets)
    aim = min(limit, total // PARALLEL + 1)
    group: list[UploadTarget] = []
    held = 0
    for target in targets:
        size = target.size_bytes + _DIGEST_BYTES
        if group and held + size > aim:
            yield group
            group, held = [], 0
        group.append(target)
        held += size
    if group:
        yield group


def _moved(progress: Progress, name: str, size_bytes: int) -> Callable[[int], None]:
    return lambda moved: progress(name, moved, size_bytes)


def _send_parts(
    transport: Transport, target: UploadTarget, source: tuple[str, Path], progress: Progress
) -> None:
    """Send what is missing of a large blob; addresses are given for some parts at a time, and may grow old."""
    name, path = source
    moved = _moved(progress, name, target.size_bytes)
    refused = 0

    def send(part: Part) -> None:
        transport.put(part.url, path, part.headers, moved, (part.start, part.size_bytes))

    found = transport.request("GET", target.url, Parts)
    moved(found.received_bytes)
    while found.missing:
        try:
            _all_of(found.missing, send)
        except NotAllowed:
            refused += 1
            if refused == REFUSED_ADDRESSES:
                raise
        found = transport.request("GET", target.url, Parts)


def _fetch(pull: _Pull, file: File) -> None:
    cache, progress = pull.cache, pull.progress
    with cache.locked(file.sha256):  # a second process waits, then finds the blob
        if cache.has(file):
            progress(file.path, file.size_bytes, file.size_bytes)
            return
        stuck = 0
        while True:
            before, shown = _size(cache.partial(file.sha256)), _Shown(progress, file)
            try:
                found = _append(pull, file, shown.moved)
                break
            except NotAllowed:
                shown.take_back()
                if pull.addresses.pop(file.sha256, None) is None:
                    raise
            except Unreachable:
                shown.take_back()
                stuck = stuck + 1 if _size(cache.partial(file.sha256)) == before else 1
                if stuck == STUCK_ATTEMPTS:
                    raise
                time.sleep(PAUSE_SECONDS * stuck)
        cache.adopt(file, found)


class _Shown:
    """What an attempt has shown of its progress, from several threads; the next one begins with what it finds."""

    def __init__(self, progress: Progress, file: File) -> None:
        self._progress, self._file = progress, file
        self._bytes = 0
        self._lock = threading.Lock()

    def moved(self, count: int) -> None:
        """Show that so many bytes moved; negative where they are taken back."""
        with self._lock:
            self._bytes += count
        self._progress(self._file.path, count, self._file.size_bytes)

    def take_back(self) -> None:
        """Show none of it."""
        self.moved(-self._bytes)


def _append(pull: _Pull, file: File, moved: Callable[[int], None]) -> str:
    part = pull.cache.partial(file.sha256)
    part.parent.mkdir(parents=True, exist_ok=True)
    hashed = hashlib.sha256()
    if _size(part) > file.size_bytes:
        part.unlink()
    with part.open("a+b") as collected:
        collected.seek(0)
        while piece := collected.read(CHUNK_BYTES):
            hashed.update(piece)
        start = collected.tell()
        moved(start)
        if start == file.size_bytes:
            return hashed.hexdigest()
        is_large = file.size_bytes - start >= LARGE_BYTES
        if is_large and file.sha256 in pull.addresses:
            for piece in _in_parts(pull, file, start, moved):
                collected.write(piece)
                hashed.update(piece)
            start = collected.tell()
            if start == file.size_bytes:
                return hashed.hexdigest()
        with pull.transport.stream(pull.address(file), start=start) as (goes_on, pieces):
            if start and not goes_on:
                collected.truncate(0)
                hashed = hashlib.sha256()
                moved(-start)
            with _aside(hashed) if is_large else nullcontext(hashed.update) as update:
                for piece in pieces:
                    update(piece)
                    collected.write(piece)
                    moved(len(piece))
                    if collected.tell() > file.size_bytes:  # a hostile hub may send without end
                        break
    return hashed.hexdigest()


@contextmanager
def _aside(hashed: "hashlib._Hash") -> Iterator[Callable[[bytes], None]]:
    """Hash in a thread of its own while the next bytes come; done when this is left."""
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as pool:

        def update(piece: bytes) -> None:
            waiting.append(pool.submit(hashed.update, piece))
            if len(waiting) > HASHED_BEHIND:
                waiting.popleft().result()

        yield update


def _in_parts(pull: _Pull, file: File, start: int, moved: Callable[[int], None]) -> Iterator[bytes]:
    """The rest of a large blob in order, some parts of it on their way at once; nothing where only the whole is sent.

    What is written and hashed meanwhile costs no time of its own.
    """
    address = pull.address(file)

    def fetch(at: int) -> list[bytes] | None:
        length = min(PART_BYTES, file.size_bytes - at)
        return pull.transport.part(address, at, length, moved)

    places = iter(range(start, file.size_bytes, PART_BYTES))
    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        coming = deque(pool.submit(fetch, at) for at in islice(places, PARTS_AT_ONCE))
        try:
            while coming and (pieces := coming.popleft().result()) is not None:
                coming.extend(pool.submit(fetch, at) for at in islice(places, 1))
                yield from pieces
        finally:
            pool.shutdown(cancel_futures=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
