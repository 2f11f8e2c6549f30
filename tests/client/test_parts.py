"""A large blob comes in parts, some at once: whole, in order, and from where it stopped."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import pytest

from adapterhub_client import transfer
from adapterhub_client.cache import Cache
from adapterhub_client.errors import Corrupt, Unreachable
from adapterhub_client.transport import Transport
from adapterhub_client.wire import File

CONTENT = Random(0).randbytes(10_050)  # noqa: S311  bytes, no secret
FILE = File(
    path="adapter.safetensors",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


class Store:
    """A hub and its store, of one blob, that can be made to misbehave."""

    def __init__(self):
        self.content, self.asked, self.knows_ranges = CONTENT, [], True
        self.cut_at, self.adds, self.is_store = None, b"", True
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                store.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler):
        if "/links" in handler.path:
            urls = {FILE.sha256: f"{self.url}/{FILE.sha256}"} if self.is_store else {}
            body = json.dumps({"urls": urls, "counted": self.is_store}).encode()
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
            return
        said = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        self.asked.append((handler.path, handler.headers.get("Range")))
        start, end = 0, len(self.content)
        if said and self.knows_ranges:
            start, end = int(said[1]), int(said[2]) + 1 if said[2] else end
        body = self.content[start:end] + self.adds
        handler.send_response(206 if said and self.knows_ranges else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.cut_at is not None and start <= self.cut_at < end:
            self.cut_at = None
            body = body[: len(body) // 2]
            handler.close_connection = True
        handler.wfile.write(body)

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def store():
    made = Store()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(transfer, "LARGE_BYTES", 2_000)
    monkeypatch.setattr(transfer, "PART_BYTES", 1_000)
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


def downloaded(store, cache):
    """Download the blob; every change of progress, in order."""
    moved = []
    transport = Transport(store.url)
    try:
        transfer.download(
            transport, cache, [FILE], version="v", progress=lambda _, n, __: moved.append(n)
        )
    finally:
        transport.close()
    assert cache.blob(FILE.sha256).read_bytes() == CONTENT
    assert sum(moved) == len(CONTENT)


def test_the_parts_are_the_whole(store, cache):
    downloaded(store, cache)

    starts = sorted(int(re.search(r"\d+", ranged)[0]) for _, ranged in store.asked)
    assert starts == list(range(0, 10_050, 1_000))


def test_what_the_hub_serves_itself_comes_in_one_stream_that_counts_as_the_pull(store, cache):
    store.is_store = False

    downloaded(store, cache)

    assert store.asked == [(f"/api/v1/blobs/{FILE.sha256}?version=v", None)]


def test_a_stream_that_was_lost_goes_on(store, cache):
    store.is_store, store.cut_at = False, 5_000

    downloaded(store, cache)

    assert len(store.asked) == 2


def test_a_store_that_knows_no_ranges_sends_the_whole(store, cache):
    store.knows_ranges = False

    downloaded(store, cache)

    assert store.asked[-1] == (f"/{FILE.sha256}", None)


@pytest.mark.parametrize("cut_at", [0, 4_500, 10_049])
def test_after_a_lost_connection_nothing_comes_twice_but_what_was_on_its_way(store, cache, cut_at):
    store.cut_at = cut_at

    downloaded(store, cache)

    first = cut_at // 1_000 * 1_000
    before = [ranged for _, ranged in store.asked if int(re.search(r"\d+", ranged)[0]) < first]
    assert len(before) == len(set(before))


def test_a_blob_that_was_begun_goes_on_in_parts(store, cache):
    part = cache.partial(FILE.sha256)
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:3_333])

    downloaded(store, cache)

    assert min(int(re.search(r"\d+", ranged)[0]) for _, ranged in store.asked) == 3_333


def test_other_bytes_are_refused_and_nothing_of_them_is_kept(store, cache):
    store.content = CONTENT[:-1] + b"?"

    with pytest.raises(Corrupt, match=re.escape(FILE.path)):
        downloaded(store, cache)

    assert not cache.blob(FILE.sha256).exists()
    assert not cache.partial(FILE.sha256).exists()


def test_a_store_that_sends_more_than_was_asked_for_is_given_up(store, cache):
    store.adds = b"and more"

    with pytest.raises(Unreachable, match="where 1000 were asked for"):
        downloaded(store, cache)

    assert len(store.asked) <= transfer.STUCK_ATTEMPTS * transfer.PARTS_AT_ONCE
