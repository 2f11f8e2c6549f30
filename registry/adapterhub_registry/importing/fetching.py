"""Fetch a file from the web into a folder and hold it against its checksums; hosts that do not answer rest."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx2

CHUNK_BYTES = 1024 * 1024
MOST_REDIRECTS = 5
MOST_FAILURES = 3
"""of one host in a row; after that it is not asked again in this run"""


class NotFetched(Exception):
    """A file is not here; says why."""


class Fetcher:
    """Fetches files over one set of connections."""

    def __init__(self, *, limit_bytes: int, timeout_seconds: float = 30.0) -> None:
        self._limit_bytes = limit_bytes
        self._failures: Counter[str] = Counter()
        self._client = httpx2.Client(
            timeout=timeout_seconds,
            follow_redirects=True,
            max_redirects=MOST_REDIRECTS,
            headers={"User-Agent": "adapterhub-registry"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch(self, url: str, checksums: Mapping[str, str], target: Path) -> None:
        """Fetch a file; every checksum has to hold.

        Raises:
            NotFetched: Its host does not answer or refuses, it is too large, or its bytes are others.
        """
        host = urlsplit(url).netloc
        if self._failures[host] >= MOST_FAILURES:
            raise NotFetched(
                f"{host} did not answer {MOST_FAILURES} times, and was not asked again"
            )
        try:
            self._receive(url, checksums, target)
        except httpx2.TransportError as error:
            self._failures[host] += 1
            raise NotFetched(f"{host} does not answer: {error or type(error).__name__}") from error
        except (httpx2.TooManyRedirects, httpx2.InvalidURL, httpx2.DecodingError) as error:
            raise NotFetched(f"{url} leads nowhere: {error}") from error
        self._failures[host] = 0

    def _receive(self, url: str, checksums: Mapping[str, str], target: Path) -> None:
        digests = {name: hashlib.new(name, usedforsecurity=False) for name in checksums}
        received = 0
        with self._client.stream("GET", url) as response, target.open("xb") as file:
            if not response.is_success:
                raise NotFetched(f"{urlsplit(url).netloc} answers with {response.status_code}")
            for chunk in response.iter_bytes(CHUNK_BYTES):
                received += len(chunk)
                if received > self._limit_bytes:
                    raise NotFetched(f"it has more than {self._limit_bytes} bytes")
                for digest in digests.values():
                    digest.update(chunk)
                file.write(chunk)
        for name, digest in digests.items():
            if digest.hexdigest() != checksums[name]:
                raise NotFetched(f"its {name} is {digest.hexdigest()}, not {checksums[name]}")
