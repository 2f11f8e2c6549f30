"""A gate between the registry and a service it needs: closed, cut, slow, or answering by itself."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from botocore.retries.standard import ExponentialBackoff
from sqlalchemy import make_url

from adapterhub_registry.storage import BlobStore, open_store


class Gate:
    """Passes bytes on to a service, until it is told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._service = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self.closed = False
        self.slow_seconds = 0.0
        self.cut_after: int | None = None
        """bytes of answers on one connection, after which it is reset"""
        self.answer: bytes | None = None
        """what is answered in place of the service"""
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """Let no connection through, and end those there are."""
        self.closed = True
        self.cut()

    def cut(self) -> None:
        """End every connection at once, as a service that fails over does."""
        for each in list(self._open):
            _reset(each)

    def free(self) -> None:
        """Be a wire again."""
        self.closed, self.slow_seconds, self.cut_after, self.answer = False, 0.0, None, None

    def end(self) -> None:
        self.shut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                _reset(client)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self.answer is not None:
                with suppress(OSError):
                    client.recv(65536)
                    client.sendall(self.answer)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass
                return
            with suppress(OSError), socket.create_connection(self._service) as service:
                self._open |= {client, service}
                asking = threading.Thread(target=self._pump, args=(client, service), daemon=True)
                asking.start()
                self._pump(service, client, is_answer=True)
                asking.join(1)
            self._open -= {client, service}

    def _pump(
        self, source: socket.socket, target: socket.socket, *, is_answer: bool = False
    ) -> None:
        passed = 0
        with suppress(OSError):
            while chunk := source.recv(65536):
                if self.slow_seconds and is_answer:
                    time.sleep(self.slow_seconds)
                target.sendall(chunk)
                passed += len(chunk)
                if is_answer and self.cut_after is not None and passed >= self.cut_after:
                    _reset(source)
                    _reset(target)
                    return
            target.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@pytest.fixture
def s3_gate() -> Iterator[Gate]:
    if "AWS_ENDPOINT_URL_S3" not in os.environ:
        pytest.skip("no S3: AWS_ENDPOINT_URL_S3 names none")
    address = urlsplit(os.environ["AWS_ENDPOINT_URL_S3"])
    gate = Gate(str(address.hostname), address.port or 80)
    yield gate
    gate.end()


@pytest.fixture
def gated_store(s3_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlobStore]:
    """The real S3 server, behind the gate; what fails is tried again at once."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda _backoff, _context: 0.01)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{s3_gate.port}")
    bucket = os.environ.get("S3_BUCKET", "adapterhub")
    opened = open_store(f"s3://{bucket}/tests/{secrets.token_hex(8)}")
    yield opened
    s3_gate.free()
    for stored in opened.blobs():
        opened.remove(stored.sha256)


@pytest.fixture
def postgres_gate(postgres: str) -> Iterator[Gate]:
    url = make_url(postgres)
    gate = Gate(str(url.host), url.port or 5432)
    yield gate
    gate.end()
