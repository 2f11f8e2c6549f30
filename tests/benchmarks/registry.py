"""Measure a registry over a large catalogue: gunicorn with two workers, the load generator beside it.

    python tests/benchmarks/registry.py --database sqlite:////tmp/catalogue.sqlite --adapters 20000 --versions 100000
    python tests/benchmarks/registry.py --database postgresql://... --adapters 200000 --versions 1000000   # the whole

An empty database is filled first (`catalogue.py`; it says how long that takes), a filled one is taken as it is. Every
figure is the time of one request on a kept connection, and its ratio to a bare Flask route that answers a constant: an
app of its own with nothing but that route, on the same server, asked in turn with the others.

"Page 10,000" is the page that 10,000 steps of `next` lead to: it begins after row 500,000 of pages of 50. A catalogue
of fewer adapters has no such page; then the last one is asked for, and the table says which. Its address is computed
from the row before it, as the server itself would have written it.
"""

import argparse
import contextlib
import http.client
import os
import random
import signal
import statistics
import subprocess  # the real server
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import msgspec
import numpy as np
from flask import Flask
from safetensors.numpy import save
from sqlalchemy import func, select
from werkzeug.middleware.dispatcher import DispatcherMiddleware

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import catalogue
from tests.factories import make_files, make_manifest

from adapterhub_client import wire
from adapterhub_registry import migration, telemetry
from adapterhub_registry.app import create_app
from adapterhub_registry.database import Database
from adapterhub_registry.models import Account, Adapter, SearchDocument, Version
from adapterhub_registry.service import places
from adapterhub_registry.service import token as tokens
from adapterhub_registry.service.ordering import Place
from adapterhub_registry.settings import from_environment

PAGE = 50
FAR_PAGE = 10_000
TARGETS = {
    "resolve": "2.0 x bare",
    "manifest 200": "2.0 x bare",
    "manifest 304": "2.0 x bare",
    "search, cold": "p99 100 ms",
    "search, warm": "p99 100 ms",
    "list, far page": "as page 1",
}
_PORT = 8497
_WORKERS = 2
_WARMUP = 30


class Measured(msgspec.Struct, frozen=True):
    """Times of one kind of request, in milliseconds."""

    name: str
    times: list[float]

    def at(self, share: float) -> float:
        """The time that this share of the requests took at most."""
        return sorted(self.times)[min(len(self.times) - 1, int(share * len(self.times)))]


class Client:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """The status and the body of an answer."""
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        return response.status, response.read()


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What of the catalogue is asked for."""

    names: list[str]
    digests: list[str]
    far: str
    far_page: int
    token: str


def main() -> None:
    """Fill, serve, ask, print."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "ADAPTERHUB_HOME": home,
            "ADAPTERHUB_DATABASE_URL": given.database,
            "ADAPTERHUB_SECRET_KEY": "benchmark",
            "ADAPTERHUB_BLOBS": f"folder:{home}/blobs",
            **dict.fromkeys(
                ("ADAPTERHUB_RATE_READ", "ADAPTERHUB_RATE_SEARCH", "ADAPTERHUB_RATE_WRITE"), "0"
            ),
        }
        database = filled(environment, catalogue.Size(given.adapters, given.versions))
        sample = _sample(database)
        database.close()
        with served(environment, given.port):
            measured = _measure(Client(given.port), sample, given.requests, given.pushes)
            together = _throughput(given.port, sample, given.seconds)
    _print(measured, sample)
    for name, rate in together.items():
        say(f"{name}, 4 clients at once: {rate:,.0f} requests a second")


def wsgi() -> DispatcherMiddleware:
    """The registry, and beside it the bare route; what gunicorn serves."""
    telemetry.configure()
    bare = Flask("bare")
    bare.add_url_rule("/", "constant", lambda: "constant")
    return DispatcherMiddleware(create_app(from_environment()), {"/bare": bare})


def filled(environment: dict[str, str], size: catalogue.Size) -> Database:
    """The database, with a catalogue in it where it was empty."""
    database = Database(from_environment(environment).database_url)
    migration.migrate(database)
    with database.reading() as session:
        there = session.scalar(select(func.count()).select_from(Adapter)) or 0
    if not there:
        began = time.perf_counter()
        catalogue.fill(database, size, told=say)
        say(f"Filled in {time.perf_counter() - began:.0f} s")
    return database


def _sample(database: Database) -> Sample:
    chance = random.Random(1)  # noqa: S311  # the same questions each time
    with database.writing() as session:
        row = session.scalars(select(Account).limit(1)).one()
        asked = wire.TokenRequest(label="benchmark", scopes=["write"], expires_days=1)
        token = tokens.issue(session, row, asked, row.created_at.now(row.created_at.tzinfo))[1]
    with database.reading() as session:
        adapters = session.scalar(select(func.count()).select_from(Adapter)) or 0
        ids = sorted(chance.sample(range(1, adapters + 1), min(500, adapters)))
        public = select(Adapter.full_name).where(Adapter.id.in_(ids), Adapter.private.is_(False))
        names = list(session.scalars(public))
        newest = session.scalar(select(func.max(Version.id))) or 1
        picked = [chance.randrange(1, newest + 1) for _ in range(500)]
        digests = list(session.scalars(select(Version.digest).where(Version.id.in_(picked))))
        rows = min(FAR_PAGE * PAGE, adapters - PAGE) // PAGE * PAGE
        place = session.execute(
            select(SearchDocument.updated_at, SearchDocument.adapter_id)
            .order_by(SearchDocument.updated_at.desc(), SearchDocument.adapter_id.desc())
            .offset(rows - 1)
            .limit(1)
        ).one()
    far = places.write(Place("updated", place.updated_at.isoformat(), place.adapter_id))
    return Sample(names=names, digests=digests, far=far, far_page=rows // PAGE + 1, token=token)


@contextlib.contextmanager
def served(environment: dict[str, str], port: int) -> Iterator[None]:
    """The registry behind gunicorn, with as many workers as it has cores."""
    root = Path(__file__).resolve().parents[2]
    command = [
        *(sys.executable, "-m", "gunicorn", "--workers", str(_WORKERS), "--threads", "16"),
        *("--worker-class", "gthread", "--keep-alive", "75", "--log-level", "warning"),
        *("--bind", f"127.0.0.1:{port}", "--no-control-socket"),
        "tests.benchmarks.registry:wsgi()",
    ]
    server = subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.DEVNULL)
    try:
        _await(port, server)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _await(port: int, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            if Client(port).ask("/bare/")[0] == 200:
                return
        if server.poll() is not None:
            message = "The server has ended before it answered."
            raise SystemExit(message)
        time.sleep(0.1)
    message = "The server does not answer."
    raise SystemExit(message)


def _measure(client: Client, sample: Sample, requests: int, pushes: int) -> list[Measured]:
    """Every kind in turn, so that what else the machine does falls on all alike."""
    chance = random.Random(2)  # noqa: S311
    searches = [_search(query(chance)) for _ in range(requests)]
    kinds: dict[str, Callable[[int], tuple[int, bytes]]] = {
        "bare route": lambda _: client.ask("/bare/"),
        "resolve": lambda at: client.ask(_resolve(sample, at)),
        "manifest 200": lambda at: client.ask(f"/api/v1/manifests/{_digest(sample, at)}"),
        "manifest 304": lambda at: client.ask(
            f"/api/v1/manifests/{_digest(sample, at)}",
            headers={"If-None-Match": f'"{_digest(sample, at)}"'},
        ),
        "adapter page": lambda at: client.ask(f"/adapters/{sample.names[at % len(sample.names)]}"),
        "search, cold": lambda at: client.ask(searches[at]),
        "search, warm": lambda at: client.ask(searches[at]),
        "list, page 1": lambda _: client.ask(f"/api/v1/adapters?limit={PAGE}"),
        "list, far page": lambda _: client.ask(
            f"/api/v1/adapters?limit={PAGE}&sort=updated&after={sample.far}"
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(_WARMUP):
        client.ask("/bare/")
        client.ask(_resolve(sample, 0))
    for at in range(requests):
        for name, ask in kinds.items():
            began = time.perf_counter()
            status, _ = ask(at)
            times[name].append(1000 * (time.perf_counter() - began))
            require(name, status, {200, 304, 409, 410})
    found = [Measured(name, taken) for name, taken in times.items()]
    return [*found, Measured("push", [_push(client, sample.token, at) for at in range(pushes)])]


def _throughput(port: int, sample: Sample, seconds: float) -> dict[str, float]:
    """What the server does where it never waits."""
    paths = {
        "bare route": lambda _: "/bare/",
        "resolve": lambda at: _resolve(sample, at),
        "manifest 200": lambda at: f"/api/v1/manifests/{_digest(sample, at)}",
    }
    return {name: _rate(port, path, seconds) for name, path in paths.items()}


def _rate(port: int, path: Callable[[int], str], seconds: float) -> float:
    done = [0] * 4
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        client = Client(port)
        while time.perf_counter() < end:
            client.ask(path(done[number] * 4 + number))
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def _push(client: Client, token: str, at: int) -> float:
    """The time of a whole small publish: manifest, three files, commit."""
    files = make_files(at)
    files["adapter.safetensors"] = save(
        {"adapter.down.weight": np.random.default_rng(time.time_ns()).standard_normal((8, 32))}
    )
    files["README.md"] += os.urandom(8).hex().encode()
    manifest = make_manifest(f"nli/pushed-{time.time_ns()}@org0", files)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    draft = msgspec.json.encode(wire.UploadDraft(manifest=manifest))
    began = time.perf_counter()
    status, body = client.ask("/api/v1/uploads", method="POST", body=draft, headers=headers)
    require("push", status, {201})
    upload = msgspec.json.decode(body, type=wire.Upload)
    contents = {file.sha256: files[file.path] for file in manifest.files}
    for target in upload.missing:
        path = urlsplit(target.url).path
        put = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
        status, _ = client.ask(path, method="PUT", body=contents[target.sha256], headers=put)
        require("push", status, {204})
    status, _ = client.ask(f"/api/v1/uploads/{upload.id}/commit", method="POST", headers=headers)
    require("push", status, {201})
    return 1000 * (time.perf_counter() - began)


def query(chance: random.Random) -> str:
    """A search as people make them: words, a field or two, sometimes a number."""
    parts = [chance.choice(catalogue.WORDS)[: chance.randrange(3, 7)]]
    if chance.random() < 0.5:  # every second
        parts.append(f"task:{chance.choice(catalogue.TASKS)}")
    if chance.random() < 0.3:  # almost every third
        parts.append(f"method:{chance.choice(catalogue.METHODS)}")
    if chance.random() < 0.2:  # every fifth
        parts.append(f"acc>{chance.random():.2f}")
    return " ".join(parts)


def _search(words: str) -> str:
    """With facets."""
    return "/api/v1/adapters?" + urlencode({"q": words, "facets": "true", "limit": 25})


def _resolve(sample: Sample, at: int) -> str:
    return f"/api/v1/resolve?ref={sample.names[at % len(sample.names)]}"


def _digest(sample: Sample, at: int) -> str:
    return sample.digests[at % len(sample.digests)]


def require(name: str, status: int, allowed: set[int]) -> None:
    """End with what went wrong, where a status is another."""
    if status not in allowed and status != 404:  # some versions are private
        message = f"{name}: the server answered {status}"
        raise SystemExit(message)


def _print(measured: list[Measured], sample: Sample) -> None:
    bare = measured[0]
    say(f"far page: page {sample.far_page:,} of {PAGE}")
    say(f"{'':16}{'p50 ms':>9}{'p99 ms':>9}{'p50 x bare':>12}{'p99 x bare':>12}  to reach")
    for each in measured:
        low, high = each.at(0.5), each.at(0.99)
        say(
            f"{each.name:16}{low:9.2f}{high:9.2f}{low / bare.at(0.5):12.2f}{high / bare.at(0.99):12.2f}"
            f"  {TARGETS.get(each.name, '')}"
        )
    say(f"mean of the bare route: {statistics.fmean(bare.times):.2f} ms")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", required=True, help="filled where it is empty")
    parser.add_argument("--adapters", type=int, default=20_000)
    parser.add_argument("--versions", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=300, help="of each kind")
    parser.add_argument("--pushes", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load by four clients")
    parser.add_argument("--port", type=int, default=_PORT)
    return parser.parse_args()


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
