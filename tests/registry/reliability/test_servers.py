"""Two servers of two workers each, on one PostgreSQL and one bucket."""

import os
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import make_url
from tests.factories import make_files, make_manifest, make_weights
from tests.registry.test_server import Server, push

from adapterhub_registry.storage import open_store

MANY = 32


class Sibling(Server):
    """A server whose database and store are not its own."""

    def __init__(self, home: Path, variables: dict[str, str], token: str = "") -> None:
        super().__init__(home)
        self.variables, self.token = variables, token

    def _environment(self) -> dict[str, str]:
        aws = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
        return {**super()._environment(), **aws, **self.variables}


@pytest.fixture
def servers(database_url: str, tmp_path: Path) -> Iterator[list[Sibling]]:
    if "AWS_ENDPOINT_URL_S3" not in os.environ:
        pytest.skip("no S3: AWS_ENDPOINT_URL_S3 names none")
    bucket = os.environ.get("S3_BUCKET", "adapterhub")
    address = f"s3://{bucket}/tests/{secrets.token_hex(8)}"
    url = make_url(database_url).set(drivername="postgresql")
    variables = {
        "ADAPTERHUB_DATABASE_URL": url.render_as_string(hide_password=False),
        "ADAPTERHUB_BLOBS": address,
        "ADAPTERHUB_SECRET_KEY": "for tests",
    }
    started: list[Sibling] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        server = Sibling(tmp_path / name, variables, started[0].token if started else "")
        server.start()
        started.append(server)
    with started[0].client() as client:
        client.post("/orgs", json={"name": "ukp"}).raise_for_status()
    yield started
    for server in started:
        server.end(signal.SIGTERM)
    store = open_store(address)
    for stored in store.blobs():
        store.remove(stored.sha256)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_c2_publishes_through_two_servers_are_numbered_each_once(servers: list[Sibling]) -> None:
    def publish(seed: int) -> tuple[int, str]:
        files = {**make_files(), "adapter.safetensors": make_weights(seed // 2)}
        with servers[seed % 2].client() as client:
            made = push(client, make_manifest(files=files), files)
            return made.number, made.digest

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(publish, range(2 * MANY)))
    checked = servers[0].run("fsck")

    # each manifest was published through both servers, and is one version
    assert sorted(set(made)) == sorted(set(made[::2])) == sorted(set(made[1::2]))
    assert sorted(number for number, _ in set(made)) == list(range(1, MANY + 1))
    assert len({digest for _, digest in made}) == MANY
    assert (checked.returncode, checked.stdout) == (0, "")
