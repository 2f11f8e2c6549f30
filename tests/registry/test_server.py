"""The real server as a process: several workers, and killed at any moment."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import msgspec
import pytest
from tests.factories import make_manifest, make_weights, sha256

from adapterhub_client import wire

COMMAND = [sys.executable, "-c", "from adapterhub_registry.cli import main; main()"]
SECRET = re.compile(r"ahub_[A-Za-z0-9_-]+")
LARGE = 16 * 1024 * 1024


class Server:
    """`adapterhub-registry serve` in processes of its own."""

    def __init__(self, home: Path, workers: int = 2, **settings: str) -> None:
        self.home, self.workers, self.settings = home, workers, settings
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = ""
        self.keep_aws = False
        self.process: subprocess.Popen[str] | None = None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self._environment(),
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )

    def start(self) -> None:
        errors = self.home / "stderr.log"
        with errors.open("a") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--port", str(self.port), "--workers", str(self.workers)],
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        address = self.settings.get("public_url", self.url)
        assert self.process.stdout.readline() == f"Listening on {address}\n"
        for _ in range(200):
            try:
                if httpx2.get(f"{self.url}/healthz").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.05)
        if not self.token:
            found = SECRET.search(errors.read_text())
            assert found is not None
            self.token = found.group()

    def end(self, kind: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, kind)
            self.process.wait(40)
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    def client(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx2.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=60)

    def _environment(self) -> dict[str, str]:
        left_out = ("ADAPTERHUB_",) if self.keep_aws else ("ADAPTERHUB_", "AWS_")
        ours = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        settings = {f"ADAPTERHUB_{name.upper()}": value for name, value in self.settings.items()}
        return {**ours, "ADAPTERHUB_HOME": str(self.home), **settings}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    started.start()
    with started.client() as client:
        client.post("/orgs", json={"name": "ukp"}).raise_for_status()
    yield started
    started.end(signal.SIGKILL)


def push(client: httpx2.Client, manifest: wire.Manifest, files: dict[str, bytes]) -> wire.Version:
    draft = msgspec.to_builtins(wire.UploadDraft(manifest=manifest))
    begun = client.post("/uploads", json=draft).raise_for_status()
    upload = msgspec.json.decode(begun.content, type=wire.Upload)
    contents = {file.sha256: files[file.path] for file in manifest.files}
    for target in upload.missing:
        address = target.url.removeprefix("/api/v1")
        client.put(address, content=contents[target.sha256]).raise_for_status()
    done = client.post(f"/uploads/{upload.id}/commit").raise_for_status()
    return msgspec.json.decode(done.content, type=wire.Version)


def folder(seed: int, size: int = 0) -> dict[str, bytes]:
    content = random.Random(seed).randbytes(size)  # noqa: S311  # bytes to send, no secret
    return {"adapter.safetensors": make_weights(seed), "extra.txt": content}


def assert_whole(server: Server, client: httpx2.Client) -> None:
    """Every version that is shown can be read in full, numbers have no gap, and `fsck` agrees."""
    found = client.get("/adapters").json()
    for item in found["items"]:
        versions = client.get(f"/adapters/{item['reference']}/versions").json()
        assert sorted(each["number"] for each in versions) == list(range(1, len(versions) + 1))
        for version in versions:
            manifest = client.get(f"/manifests/{version['digest']}").json()
            for file in manifest["files"]:
                assert sha256(client.get(f"/blobs/{file['sha256']}").content) == file["sha256"]
    checked = server.run("fsck")
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_secret_key_is_for_its_owner_alone(server: Server) -> None:
    assert (server.home / "secret_key").stat().st_mode & 0o777 == 0o600


def test_no_token_is_ever_logged(server: Server) -> None:
    with server.client() as client:
        client.get(f"/adapters?q={server.token}")
        made = client.post("/tokens", json={"label": "x"}).json()

    logged = (server.home / "stderr.log").read_text()
    assert '"path": "/api/v1/tokens"' in logged
    assert logged.count(server.token) == 1  # the first start said it
    assert made["secret"] not in logged


def test_many_clients_of_several_workers_leave_no_gap(server: Server) -> None:
    def publish(seed: int) -> int:
        files = folder(seed)
        with server.client() as client:
            return push(client, make_manifest(files=files), files).number

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(publish, range(24)))

    assert sorted(numbers) == list(range(1, 25))
    with server.client() as client:
        assert_whole(server, client)


def test_a_server_that_is_killed_during_an_upload_shows_nothing_of_it(server: Server) -> None:
    files = folder(0, LARGE)
    manifest = make_manifest(files=files)
    moments = random.Random(7)  # noqa: S311  # when to kill, no secret

    for _ in range(3):
        reached = threading.Event()
        stop_after = moments.randrange(LARGE)

        def sent(after: int = stop_after, reached: threading.Event = reached) -> Iterator[bytes]:
            content, at = files["extra.txt"], 0
            while at < len(content):
                yield content[at : at + 65536]
                at += 65536
                if at > after:
                    reached.set()
                    time.sleep(0.001)

        def upload(chunks: Iterator[bytes]) -> None:
            with server.client() as client:
                draft = msgspec.to_builtins(wire.UploadDraft(manifest=manifest))
                begun = client.post("/uploads", json=draft).json()
                address = f"/uploads/{begun['id']}/blobs/{sha256(files['extra.txt'])}"
                client.put(address, content=chunks, headers={"Content-Length": str(LARGE)})

        sender = threading.Thread(target=ignoring_the_cut, args=(upload, sent()))
        sender.start()
        assert reached.wait(30)
        server.end(signal.SIGKILL)
        sender.join()
        server.start()
        with server.client() as client:
            assert client.get("/adapters").json()["total"] == 0

    with server.client() as client:
        assert push(client, manifest, files).number == 1
        assert_whole(server, client)


def test_a_server_that_is_killed_during_commits_keeps_whole_versions_only(server: Server) -> None:
    moments = random.Random(11)  # noqa: S311  # when to kill, no secret
    for attempt in range(5):
        stop = threading.Event()

        def publish(start: int, stop: threading.Event = stop) -> None:
            seed = start
            with server.client() as client:
                while not stop.is_set():
                    files = folder(seed, 200_000)
                    push(client, make_manifest(files=files), files)
                    seed += 1

        senders = [
            threading.Thread(target=ignoring_the_cut, args=(publish, 1000 * attempt + 100 * number))
            for number in range(3)
        ]
        for sender in senders:
            sender.start()
        time.sleep(0.3 + moments.random() * 0.7)
        server.end(signal.SIGKILL)
        stop.set()
        for sender in senders:
            sender.join()
        server.start()
        with server.client() as client:
            assert_whole(server, client)

    files = folder(0, 200_000)
    with server.client() as client:
        before = client.get("/stats").json()["versions"]
        version = push(client, make_manifest(files=files), files)
        assert push(client, make_manifest(files=files), files) == version
        assert client.get("/stats").json()["versions"] - before in {0, 1}
    assert before > 0


def ignoring_the_cut(work, *arguments: object) -> None:
    """Run until the server is gone: what the sender sees then does not matter."""
    try:
        work(*arguments)
    except (httpx2.TransportError, httpx2.HTTPStatusError, KeyError, ValueError):
        return


def test_an_ordinary_end_is_orderly(server: Server) -> None:
    server.end(signal.SIGTERM)

    assert server.process is not None
    assert server.process.returncode in {0, -signal.SIGTERM}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        pytest.param(
            {"ADAPTERHUB_BLOBS": "ftp://x"}, "error: 'ftp://x' is not `folder:PATH`", id="blobs"
        ),
        pytest.param({"ADAPTERHUB_MAX_FILES": "many"}, "error: A setting", id="number"),
        pytest.param(
            {"ADAPTERHUB_DATABASE_URL": "postgresql://127.0.0.1:9/none"},
            "error: The database refuses: connection failed",
            id="no database",
        ),
        pytest.param({"ADAPTERHUB_DATABASE_URL": "what"}, "error: The database", id="url"),
    ],
)
def test_what_cannot_start_says_why_in_a_line(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    ended = subprocess.run(
        [*COMMAND, "serve", "--port", "0"],
        env={**os.environ, "ADAPTERHUB_HOME": str(tmp_path), **variables},
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith(message)
    assert "hint: " in ended.stderr
    assert "Traceback" not in ended.stderr
