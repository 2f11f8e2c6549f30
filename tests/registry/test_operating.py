"""What supervisors and collectors ask, and how often anybody may ask."""

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import msgspec
import pytest
from huggingface_hub.utils import parse_ratelimit_headers
from tests.factories import make_files, make_manifest
from tests.registry.conftest import Clock, Hub, ok, problem
from tests.registry.test_server import Server, folder, push

from adapterhub_client import wire
from adapterhub_registry import migration
from adapterhub_registry.app import create_app
from adapterhub_registry.settings import Settings, SettingsRefused
from adapterhub_registry.storage import BlobStore, MemoryStore, StoreUnreachable

Make = Callable[..., Hub]


@pytest.fixture
def make(settings: Settings) -> Iterator[Make]:
    """Makes a registry with other settings."""
    hubs: list[Hub] = []

    def made(store: BlobStore | None = None, **changes: object) -> Hub:
        changed = msgspec.structs.replace(settings, **changes)
        clock = Clock()
        hubs.append(Hub(create_app(changed, store=store or MemoryStore(), clock=clock), clock))
        return hubs[-1]

    yield made
    for each in hubs:
        each.runtime.database.close()


# ---------------------------------------------------------------- health


class AwayStore(MemoryStore):
    def size_bytes(self, sha256: str) -> int:
        del sha256
        raise StoreUnreachable("The store does not answer.")


def test_a_registry_that_lacks_nothing_is_ready(hub: Hub) -> None:
    assert hub.client.get("/healthz").json == {"status": "ok"}
    assert hub.client.get("/readyz").json == {"status": "ok", "database": "ok", "store": "ok"}


def test_without_its_store_it_is_alive_and_not_ready(make: Make) -> None:
    hub = make(AwayStore())

    answer = hub.client.get("/readyz")

    assert (answer.status_code, problem(answer).reasons) == (
        503,
        ["the blob store does not answer"],
    )
    assert answer.headers["Retry-After"] == "5"
    assert hub.client.get("/healthz").status_code == 200


def test_without_the_newest_tables_it_is_not_ready(make: Make) -> None:
    hub = make()
    migration.downgrade(hub.runtime.database, "-1")

    before = hub.client.get("/readyz")
    migration.migrate(hub.runtime.database)

    assert problem(before).reasons == ["the database is not at the newest revision"]
    assert hub.client.get("/readyz").status_code == 200


def test_without_its_database_it_is_alive_and_not_ready(make: Make) -> None:
    nowhere = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing"
    hub = make(database_url=nowhere)

    answer = hub.client.get("/readyz")

    assert problem(answer).reasons == ["the database does not answer"]
    assert hub.client.get("/healthz").status_code == 200


# ---------------------------------------------------------------- metrics


def test_metrics_are_for_this_machine_or_for_whoever_has_the_token(make: Make) -> None:
    of_this_machine, of_a_token = make(), make(metrics_token="for the collector")
    elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.1"}}
    bearer = {"headers": {"Authorization": "Bearer for the collector"}, **elsewhere}

    assert of_this_machine.client.get("/metrics").status_code == 200
    assert of_this_machine.client.get("/metrics", **elsewhere).status_code == 403
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    assert of_this_machine.client.get("/metrics", headers=forwarded).status_code == 403
    assert of_a_token.client.get("/metrics").status_code == 403
    assert of_a_token.client.get("/metrics", **bearer).status_code == 200


def test_the_workers_of_a_server_count_together(server: Server) -> None:
    with server.client() as client:
        push(client, make_manifest(files=folder(0)), folder(0))
        for _ in range(30):
            client.get("/adapters/nli/multinli@ukp").raise_for_status()
            client.get("/adapters/nli/none@ukp")
        text = client.get(f"{server.url}/metrics").text

    def count(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} ([0-9.]+)$", text, re.MULTILINE)
        return float(found[1]) if found else -1

    route = 'method="GET",route="/api/v1/adapters/<task>/<name>@<org>"'
    assert count(f'adapterhub_http_request_seconds_count{{{route},status="2xx"}}') == 30
    assert count(f'adapterhub_http_request_seconds_count{{{route},status="4xx"}}') == 30
    assert count('adapterhub_refusals_total{code="adapter_not_found"}') == 30
    assert count("adapterhub_published_versions_total") == 1
    assert count("adapterhub_catalogue_adapters") == 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path, workers=3)
    started.start()
    with started.client() as client:
        client.post("/orgs", json={"name": "ukp"}).raise_for_status()
    yield started
    started.end(signal.SIGTERM)


# ---------------------------------------------------------------- rates


def test_what_is_left_is_said_as_hugging_face_clients_read_it(make: Make) -> None:
    hub = make(rate_read="7/minute", rate_search="5/minute", rate_write="3/minute")

    read, search = hub.get("/stats"), hub.get("/adapters")
    info = parse_ratelimit_headers(dict(search.headers))

    assert read.headers["RateLimit-Policy"] == '"read";q=7;w=60'
    assert info is not None
    assert (info.resource_type, info.remaining, info.limit, info.window_seconds) == (
        "search",
        4,
        5,
        60,
    )
    assert 0 < info.reset_in_seconds <= 60


def test_too_many_requests_are_told_when_to_come_back(make: Make) -> None:
    hub = make(rate_read="2/minute")
    hub.get("/stats")
    hub.get("/stats")

    refused = hub.get("/stats")

    assert (refused.status_code, problem(refused).code) == (429, "too_many_requests")
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit"].startswith('"read";r=0;')
    assert hub.get("/adapters").status_code == 200
    assert hub.client.get("/healthz").status_code == 200
    hf = hub.client.get("/api/whoami-v2")
    assert (hf.status_code, hf.headers["X-Error-Message"][:8]) == (429, "Too many")


def test_each_account_and_each_address_counts_for_itself(make: Make) -> None:
    hub = make(rate_read="2/minute")
    ada, bob = hub.token("ada"), hub.token("bob")
    second = hub.token("ada")

    def status(token: str | None = None, address: str = "192.0.2.1") -> int:
        return hub.get("/stats", token, environ_base={"REMOTE_ADDR": address}).status_code

    assert [status(ada), status(second), status(ada)] == [200, 200, 429]
    assert status(bob) == 200
    assert [status(), status(), status(), status(address="192.0.2.2")] == [200, 200, 429, 200]
    assert status("ahub_guess", address="192.0.2.3") == 401


def test_wrong_tokens_count_for_their_address(make: Make) -> None:
    hub = make(rate_read="3/minute")

    answers = [hub.get("/stats", f"ahub_guess{at}").status_code for at in range(5)]

    assert answers == [401, 401, 401, 429, 429]


def test_behind_a_proxy_it_is_the_client_that_counts(make: Make) -> None:
    hub = make(rate_read="1/minute", proxies=1)

    def status(client: str) -> int:
        return hub.get("/stats", headers={"X-Forwarded-For": client}).status_code

    assert [status("192.0.2.1"), status("192.0.2.1"), status("192.0.2.2")] == [200, 429, 200]
    assert status("192.0.2.3, 192.0.2.1") == 429  # the last is what the proxy saw


@pytest.mark.parametrize(
    "changes",
    [
        {"rate_read": "often"},
        {"rate_write": "10/fortnight"},
        {"rate_storage": "postgresql://db"},
    ],
)
def test_a_rate_that_is_none_is_refused_at_the_start(make: Make, changes: dict[str, str]) -> None:
    (name,) = changes

    with pytest.raises(SettingsRefused, match=f"ADAPTERHUB_{name.upper()}"):
        make(**changes)


def test_no_limit_says_nothing(make: Make) -> None:
    hub = make(rate_read="0", rate_search="0", rate_write="0")

    assert "RateLimit" not in hub.get("/stats").headers


@pytest.fixture
def memcached() -> Iterator[str]:
    program = shutil.which("memcached")
    if program is None:
        pytest.skip("no memcached")
    port = free_port()
    process = subprocess.Popen([program, "-l", "127.0.0.1", "-p", str(port), "-u", "nobody"])
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"memcached://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def test_the_workers_of_a_server_count_requests_together_in_memcached(
    tmp_path: Path, memcached: str
) -> None:
    server = Server(tmp_path, workers=3, rate_read="20/hour", rate_storage=memcached)
    server.start()

    # each on a connection of its own, so that any worker may take it
    answers = [httpx2.get(f"{server.url}/api/v1/stats").status_code for _ in range(30)]
    server.end(signal.SIGTERM)

    assert answers == [200] * 20 + [429] * 10


def test_where_requests_cannot_be_counted_they_are_answered(make: Make) -> None:
    hub = make(rate_read="1/minute", rate_storage=f"memcached://127.0.0.1:{free_port()}")

    assert [hub.get("/stats").status_code for _ in range(3)] == [200, 200, 200]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_push_is_not_slowed_by_its_own_files(make: Make) -> None:
    hub = make()
    token = hub.token("ukp")

    for seed in range(20):
        files = make_files(seed)
        hub.publish(token, make_manifest(files=files), files)

    assert ok(hub.get("/stats"), wire.Stats).versions == 20
