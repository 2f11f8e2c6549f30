"""What `registry/deploy` ships: nginx before gunicorn, PostgreSQL and S3, as a push, a pull and a browser meet it."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import msgspec
import numpy as np
import pytest
import yaml
from safetensors.numpy import save
from tests.factories import make_manifest, sha256
from tests.registry.test_server import Server, push

from adapterhub_client import wire
from adapterhub_registry.cli import main as command
from adapterhub_registry.settings import Settings

DEPLOY = Path(__file__).parents[2] / "registry" / "deploy"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """The shipped nginx.conf on other addresses: what else it says is what is tested."""

    def __init__(self, folder: Path, registry: int, store: str) -> None:
        self.port = free_port()
        text = (DEPLOY / "nginx.conf").read_text()
        for shipped, here in {
            "server registry:8400;": f"server 127.0.0.1:{registry};",
            "server store:7070;": f"server {store};",
            "listen 8400": f"listen 127.0.0.1:{self.port}",
            "client_header_timeout 15s;": "client_header_timeout 1s;",
            # two names that every machine knows
            "server_name hub.localhost;": "server_name localhost;",
            "server_name store.hub.localhost;": "server_name 127.0.0.1;",
        }.items():
            assert shipped in text
            text = text.replace(shipped, here)
        path = folder / "nginx.conf"
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        path.write_text(
            f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
            + text.replace("http {", "http {\n" + temporary, 1)
        )
        program = shutil.which("nginx")
        assert program is not None
        checked = subprocess.run(
            [program, "-t", "-c", path], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        self.process = subprocess.Popen([program, "-c", path], stderr=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.05)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


class Deployed:
    """A registry behind the proxy; `hub` and `store` are its two names."""

    def __init__(self, server: Server, proxy: Proxy) -> None:
        self.server, self.proxy = server, proxy
        self.hub = f"http://localhost:{proxy.port}"

    def client(self, token: str | None = None) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {token or self.server.token}"}
        return httpx2.Client(base_url=f"{self.hub}/api/v1", headers=headers, timeout=60)


@pytest.fixture
def deployed(tmp_path: Path, postgres: str, database_url: str) -> Iterator[Deployed]:
    endpoint, bucket = os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("S3_BUCKET")
    if not endpoint or not bucket:
        pytest.skip("no S3: AWS_ENDPOINT_URL_S3 names none")
    if shutil.which("nginx") is None:
        pytest.skip("no nginx")
    server = Server(
        tmp_path,
        database_url=postgres,
        blobs=f"s3://{bucket}/deployed-{secrets.token_hex(6)}",
        secret_key="for tests",
        proxies="1",
        direct_bytes=str(1024 * 1024),
    )
    proxy = Proxy(tmp_path, server.port, urlsplit(endpoint).netloc)
    server.settings |= {
        "public_url": f"http://localhost:{proxy.port}",
        "blobs_public_url": f"http://127.0.0.1:{proxy.port}",
    }
    server.keep_aws = True
    try:
        server.start()
        with server.client() as client:
            client.post("/orgs", json={"name": "ukp"}).raise_for_status()
        yield Deployed(server, proxy)
    finally:
        server.end(signal.SIGTERM)
        proxy.end()


pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def test_a_push_and_a_pull_pass_through_both_names(deployed: Deployed) -> None:
    large = save({"adapter.weight": np.random.default_rng(0).standard_normal(2**20)})
    files = {"adapter.safetensors": large, "README.md": b"# Large\n"}
    manifest = make_manifest(files=files)
    store = f"http://127.0.0.1:{deployed.proxy.port}/"

    with deployed.client() as client:
        draft = msgspec.to_builtins(wire.UploadDraft(manifest=manifest))
        begun = client.post("/uploads", json=draft).raise_for_status()
        upload = msgspec.json.decode(begun.content, type=wire.Upload)
        contents = {file.sha256: files[file.path] for file in manifest.files}
        elsewhere = [target for target in upload.missing if not target.url.startswith("/")]
        for target in upload.missing:
            if target in elsewhere:
                sent = httpx2.put(
                    target.url, content=contents[target.sha256], headers=target.headers
                )
            else:
                sent = client.put(
                    target.url.removeprefix("/api/v1"), content=contents[target.sha256]
                )
            sent.raise_for_status()
        client.post(f"/uploads/{upload.id}/commit").raise_for_status()
        digest = wire.digest(manifest)
        links = client.get(f"/manifests/{digest}/links").raise_for_status().json()["urls"]

    assert [target.sha256 for target in elsewhere] == [sha256(large)]
    assert all(
        url.startswith(store) for url in [*links.values(), *(each.url for each in elsewhere)]
    )
    assert sha256(httpx2.get(links[sha256(large)], timeout=60).content) == sha256(large)


def test_pages_name_the_address_that_people_use(deployed: Deployed) -> None:
    files = {"adapter.safetensors": save({"a.weight": np.ones((4, 4), np.float32)})}
    with deployed.client() as client:
        push(client, make_manifest(files=files), files)

    page = httpx2.get(f"{deployed.hub}/adapters/nli/multinli@ukp", headers={"Accept": "text/html"})

    assert page.status_code == 200
    assert deployed.hub in page.text
    assert f":{deployed.server.port}" not in page.text
    assert page.headers["Content-Encoding" if "Content-Encoding" in page.headers else "ETag"]


def test_a_request_has_one_number_from_the_proxy_to_the_log(deployed: Deployed) -> None:
    answer = httpx2.get(f"{deployed.hub}/api/v1/stats", headers={"X-Forwarded-For": "192.0.2.7"})

    number = answer.headers["X-Request-Id"]
    assert re.fullmatch(r"[0-9a-f]{32}", number)
    assert number in (deployed.server.home / "stderr.log").read_text()


def test_what_is_for_operators_does_not_leave_the_machine(deployed: Deployed) -> None:
    answers = {
        path: httpx2.get(f"{deployed.hub}{path}").status_code
        for path in ("/metrics", "/readyz", "/healthz")
    }

    assert answers == {"/metrics": 403, "/readyz": 403, "/healthz": 200}
    assert httpx2.get(f"{deployed.server.url}/metrics").status_code == 200


def test_an_unknown_name_is_answered_by_nobody(deployed: Deployed) -> None:
    answer = httpx2.get(deployed.hub, headers={"Host": "other.example"})

    assert answer.status_code == 421


def test_whoever_sends_headers_slowly_is_let_go(deployed: Deployed) -> None:
    with socket.create_connection(("127.0.0.1", deployed.proxy.port), timeout=10) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        began = time.monotonic()
        with suppress(ConnectionResetError):
            assert slow.recv(100) == b""

    assert time.monotonic() - began < 8


def test_a_large_body_is_refused_by_the_registry_not_by_the_proxy(deployed: Deployed) -> None:
    headers = {"Content-Type": "application/json"}
    with deployed.client() as client:
        refused = client.post("/tokens", content=b" " * (5 * 1024 * 1024), headers=headers)

    assert refused.status_code == 413, refused.text
    assert refused.json()["code"] == "too_large"


# ---------------------------------------------------------------- what cannot be run here is read


def read_compose() -> dict:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_every_setting_of_the_compose_file_is_one(database_url: str) -> None:
    services = read_compose()["services"]

    named = {
        name.removeprefix("ADAPTERHUB_").lower()
        for service in services.values()
        for name in service.get("environment", {})
        if name.startswith("ADAPTERHUB_")
    }

    assert named
    assert named <= set(Settings.__struct_fields__)


def test_every_command_of_the_compose_file_is_one(database_url: str) -> None:
    text = (DEPLOY / "compose.yaml").read_text() + (DEPLOY / "Dockerfile").read_text()
    text += (DEPLOY / "adapterhub-registry.service").read_text()

    used = set(re.findall(r"adapterhub-registry[\",]* ?[\"]?([a-z]+)", text)) - {"rf"}

    assert {"serve", "migrate", "gc"} <= used
    assert used <= set(command.commands)


def test_what_depends_is_there_and_goes_in_no_circle(database_url: str) -> None:
    services = read_compose()["services"]
    waits = {name: set(service.get("depends_on", {})) for name, service in services.items()}

    while waits:
        ready = {name for name, others in waits.items() if not others & waits.keys()}
        assert ready, f"a circle: {waits}"
        waits = {name: others for name, others in waits.items() if name not in ready}


def test_systemd_takes_the_unit(database_url: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd")
    unit = (DEPLOY / "adapterhub-registry.service").read_text()
    here = tmp_path / "adapterhub-registry.service"
    here.write_text(unit.replace("/opt/adapterhub/bin/adapterhub-registry", sys.executable))

    checked = subprocess.run([program, "verify", here], capture_output=True, text=True, check=False)

    assert [line for line in checked.stderr.splitlines() if here.name in line] == []
