"""Blobs down and up: in parallel, hashed while they stream, resumed where they stopped."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adapterhub_client.cache import Cache
from adapterhub_client.errors import Unreachable
from adapterhub_client.transport import CHUNK_BYTES, Transport
from adapterhub_client.wire import File, UploadTarget

PARALLEL = 4
STUCK_ATTEMPTS = 4
"""attempts without one more byte after which a download gives up"""
PAUSE_SECONDS = 0.5

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
    with ThreadPoolExecutor(PARALLEL) as pool:
        for done in [
            pool.submit(_fetch, transport, cache, file, version, progress) for file in distinct
        ]:
            done.result()


def upload(
    transport: Transport,
    targets: Sequence[UploadTarget],
    sources: Mapping[str, tuple[str, Path]],
    progress: Progress = no_progress,
) -> None:
    """Send every missing blob where the hub wants it; ``sources`` gives a path and content for each digest."""

    def send(target: UploadTarget) -> None:
        name, source = sources[target.sha256]
        transport.put(
            target.url,
            source,
            target.headers,
            lambda moved: progress(name, moved, target.size_bytes),
        )

    with ThreadPoolExecutor(PARALLEL) as pool:
        for done in [pool.submit(send, target) for target in targets]:
            done.result()


def _fetch(
    transport: Transport, cache: Cache, file: File, version: str, progress: Progress
) -> None:
    with cache.locked(file.sha256):  # a second process waits, then finds the blob
        if cache.has(file):
            progress(file.path, file.size_bytes, file.size_bytes)
            return
        stuck = 0
        while True:
            before = _size(cache.partial(file.sha256))
            try:
                found = _append(transport, cache, file, version, progress)
                break
            except Unreachable:
                stuck = stuck + 1 if _size(cache.partial(file.sha256)) == before else 1
                if stuck == STUCK_ATTEMPTS:
                    raise
                time.sleep(PAUSE_SECONDS * stuck)
        cache.adopt(file, found)


def _append(
    transport: Transport, cache: Cache, file: File, version: str, progress: Progress
) -> str:
    part = cache.partial(file.sha256)
    part.parent.mkdir(parents=True, exist_ok=True)
    hashed = hashlib.sha256()
    if _size(part) > file.size_bytes:
        part.unlink()
    with part.open("a+b") as collected:
        collected.seek(0)
        while piece := collected.read(CHUNK_BYTES):
            hashed.update(piece)
        start = collected.tell()
        progress(file.path, start, file.size_bytes)
        if start == file.size_bytes:
            return hashed.hexdigest()
        path = f"/api/v1/blobs/{file.sha256}?version={version}"
        with transport.stream(path, start=start) as (goes_on, pieces):
            if start and not goes_on:
                collected.truncate(0)
                hashed = hashlib.sha256()
                progress(file.path, -start, file.size_bytes)
            for piece in pieces:
                collected.write(piece)
                hashed.update(piece)
                progress(file.path, len(piece), file.size_bytes)
                if collected.tell() > file.size_bytes:  # a hostile hub may send without end
                    break
    return hashed.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
