"""Measure the pages over a catalogue of 10,000 adapters: gunicorn with two workers, one reader on a kept connection.

    python tests/benchmarks/pages.py --database sqlite:////tmp/pages.sqlite
    python tests/benchmarks/pages.py --database postgresql://...

An empty database is filled with the large catalogue (`catalogue.py`) and with the sample that the tests of the pages
read, whose versions have reports, weights and cards; the bytes of the large one are in no store. Every figure is the
whole time of one request, and its ratio to a bare Flask route on the same server, asked in turn with the others. A page
that is read again costs less than it did first: the first reading of each is counted too, since every request of a kind
asks for another adapter or another search, as far as there are others.
"""

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec
import structlog
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import catalogue
from tests.benchmarks.registry import Client, Measured, filled, query, require, say, served
from tests.registry.conftest import Clock, Hub
from tests.registry.web import sample

from adapterhub_registry.app import create_app
from adapterhub_registry.models import Adapter, BaseModel, Dataset
from adapterhub_registry.settings import from_environment

TARGETS = {
    "adapter": "p99 50 ms",
    "adapter, rich": "p99 50 ms",
    "search": "p99 100 ms",
    "search, again": "p99 100 ms",
}
RICH = (
    "/adapters/nli/multinli@ukp:3",
    "/adapters/sts/mrpc-of-eight@lab",
    "/adapters/sts/paraphrase-fusion@ukp",
    "/adapters/emotion/goemotions@lab",
    "/adapters/sts/sts-b@ukp",
)
_PORT = 8499
_WARMUP = 30
_PAGE = {"Accept": "text/html", "Accept-Encoding": "gzip"}


class Asked(msgspec.Struct, frozen=True):
    """What of the catalogue is asked for."""

    adapters: list[str]
    bases: list[str]
    datasets: list[str]


def main() -> None:
    """Fill, serve, ask, print."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as home:
        settings = environment(given.database, home, given.blobs)
        asked = prepare(settings, catalogue.Size(given.adapters, given.versions))
        with served(settings, given.port):
            measured = _measure(Client(given.port), asked, given.requests)
    _print(measured)


def environment(database: str, home: str, blobs: str | None) -> dict[str, str]:
    """The settings of the server: no limits of rate, no trials."""
    return {
        **os.environ,
        "ADAPTERHUB_HOME": home,
        "ADAPTERHUB_DATABASE_URL": database,
        "ADAPTERHUB_SECRET_KEY": "benchmark",
        "ADAPTERHUB_BLOBS": f"folder:{blobs or home + '/blobs'}",
        "ADAPTERHUB_RATE_READ": "0",
        "ADAPTERHUB_RATE_SEARCH": "0",
        "ADAPTERHUB_RATE_WRITE": "0",
        "ADAPTERHUB_TRY_SECONDS": "0",
    }


def prepare(environment: dict[str, str], size: catalogue.Size) -> Asked:
    """Fill the database where it is empty, and say what of it may be asked for."""
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)  # no line for each request that fills
    database = filled(environment, size)
    with database.reading() as session:
        has_sample = session.scalar(select(Adapter.id).where(Adapter.full_name.like("%@ukp")))
    if has_sample is None:
        clock = Clock()
        sample.fill(Hub(create_app(from_environment(environment), clock=clock), clock))
    chance = random.Random(1)  # noqa: S311  # the same questions each time
    with database.reading() as session:
        names = select(Adapter.full_name).where(
            Adapter.private.is_(False), Adapter.id <= size.adapters
        )
        found = Asked(
            adapters=list(session.scalars(names.order_by(Adapter.id))),
            bases=[each for each in session.scalars(select(BaseModel.fingerprint)) if each],
            datasets=list(session.scalars(select(Dataset.name))),
        )
    database.close()
    for each in (found.adapters, found.bases, found.datasets):
        chance.shuffle(each)
    return found


def _measure(client: Client, asked: Asked, requests: int) -> list[Measured]:
    """Every kind in turn, so that what else the machine does falls on all alike."""
    chance = random.Random(2)  # noqa: S311
    searches = [f"/adapters?{urlencode({'q': query(chance)})}" for _ in range(requests)]
    kinds = _kinds(asked, searches)
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(_WARMUP):
        client.ask("/bare/")
        client.ask(RICH[0], headers=_PAGE)
    for at in range(requests):
        for name, path in kinds.items():
            began = time.perf_counter()
            status, _ = client.ask(path(at), headers=_PAGE)
            times[name].append(1000 * (time.perf_counter() - began))
            require(f"{name} {path(at)}", status, {200})
    return [Measured(name, taken) for name, taken in times.items()]


def _kinds(asked: Asked, searches: list[str]) -> dict[str, Callable[[int], str]]:
    """The paths of each kind of page, by the number of the request."""

    def turn(things: list[str] | tuple[str, ...], at: int) -> str:
        return quote(things[at % len(things)], safe="/@:")

    def facet(at: int) -> str:
        chosen = {"task": catalogue.TASKS[at % 5], "method": catalogue.METHODS[at % 3]}
        return f"/adapters?{urlencode(chosen)}"

    return {
        "bare route": lambda _: "/bare/",
        "adapter": lambda at: f"/adapters/{turn(asked.adapters, at)}",
        "adapter, rich": lambda at: turn(RICH, at),
        "search": lambda at: searches[at],
        "search, again": lambda at: searches[at],
        "search, facets": facet,
        "search, metric": lambda at: f"/adapters?sort=metric:acc@{turn(asked.datasets, at)}",
        "search, no words": lambda _: "/adapters",
        "start": lambda _: "/",
        "compare": lambda at: (
            "/compare?"
            + urlencode([("with", asked.adapters[(at + step) % 500]) for step in range(4)])
        ),
        "tasks": lambda _: "/tasks",
        "task": lambda at: f"/tasks/{catalogue.TASKS[at % len(catalogue.TASKS)]}",
        "bases": lambda _: "/bases",
        "base": lambda at: f"/bases/{turn(asked.bases, at)}",
        "organization": lambda at: f"/orgs/org{at % 200}",
        "datasets": lambda _: "/leaderboards",
        "leaderboard": lambda at: f"/leaderboards/{turn(asked.datasets, at)}",
        "methods": lambda _: "/methods",
        "compositions": lambda _: "/compositions",
        "feed": lambda _: "/adapters.atom?task=nli",
    }


def _print(measured: list[Measured]) -> None:
    bare = measured[0]
    say(f"{'':16}{'p50 ms':>9}{'p99 ms':>9}{'p50 x bare':>12}{'p99 x bare':>12}  to reach")
    for each in measured:
        low, high = each.at(0.5), each.at(0.99)
        say(
            f"{each.name:16}{low:9.2f}{high:9.2f}{low / bare.at(0.5):12.2f}{high / bare.at(0.99):12.2f}"
            f"  {TARGETS.get(each.name, '')}"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", required=True, help="filled where it is empty")
    parser.add_argument("--blobs", help="the folder of the bytes, for a database that is kept")
    parser.add_argument("--adapters", type=int, default=10_000)
    parser.add_argument("--versions", type=int, default=40_000)
    parser.add_argument("--requests", type=int, default=300, help="of each kind")
    parser.add_argument("--port", type=int, default=_PORT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
