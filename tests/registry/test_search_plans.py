"""What the frequent reads ask is answered from indexes: no table is read from end to end, no list is sorted whole.

Times are for benchmarks. A plan says how the cost grows: a look-up in an index grows as the logarithm of the table, a
page that is a range of an index as its own length.
"""

import re
from urllib.parse import urlencode

import pytest
from sqlalchemy import select
from tests.benchmarks import catalogue
from tests.registry.conftest import Hub, statements

from adapterhub_registry.models import Adapter, Version
from adapterhub_registry.service import ordering, search

LARGE = ("adapter", "variant", "version", "metric", "search_document", "search_facet")
_SORT = re.compile(r"\s*(->\s+)?Sort\s+\(")
ORDERS = ["updated", "created", "name", "downloads", "metric:acc@dataset-0"]


@pytest.fixture
def large(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """As large as a test can wait for; what counts as few is small, so that it is many."""
    monkeypatch.setattr(search, "COUNTED", 20)
    monkeypatch.setattr(ordering, "FEW", 20)
    size = catalogue.Size(300, 800)
    catalogue.fill(hub.runtime.database, size, told=lambda _line: None)
    return hub


def plans(
    hub: Hub, path: str, off: tuple[str, ...] = ("seqscan", "sort"), **headers: str
) -> list[str]:
    """The plan of each statement that a request makes."""
    with statements(hub) as heard:
        response = hub.get(path, headers=headers)
    said = [(statement, given) for statement, given in heard if statement.startswith("SELECT")]
    assert response.status_code in {200, 304}, response.text
    assert said
    with hub.runtime.database.engine.connect() as connection:
        if not hub.runtime.settings.is_sqlite:
            for each in off:
                connection.exec_driver_sql(f"SET LOCAL enable_{each} = off")
        explain = "EXPLAIN QUERY PLAN " if hub.runtime.settings.is_sqlite else "EXPLAIN "
        return [
            "\n".join(
                [
                    " ".join(statement.split()),
                    *(
                        str(row[-1])
                        for row in connection.exec_driver_sql(explain + statement, given)
                    ),
                ]
            )
            for statement, given in said
        ]


def scanned(plan: str) -> list[str]:
    """The large tables that a plan reads from end to end; to walk along the primary key up to a limit is not that."""
    statement = plan.partition("\n")[0]
    if "ORDER BY search_document.adapter_id DESC" in statement and "LIMIT" in statement:
        plan = plan.replace("SCAN search_document", "SCAN search_document USING its key")
    return [
        line
        for line in plan.splitlines()
        for table in LARGE
        if (f"SCAN {table}" in f"{line} " and "USING" not in line and "VIRTUAL" not in line)
        or f"Seq Scan on {table} " in line
    ]


def sorts(plan: str) -> bool:
    """Whether rows are put in order after they were found, other than those of one and the same key."""
    return any(
        line.strip() == "USE TEMP B-TREE FOR ORDER BY" or _SORT.match(line)
        for line in plan.splitlines()
    )


@pytest.mark.parametrize("sort", ORDERS)
def test_a_page_is_a_range_of_an_index(large: Hub, sort: str) -> None:
    address = "/adapters?" + urlencode({"sort": sort, "limit": 2})
    place = large.get(address).json["next"]

    first = plans(large, address)
    later = plans(large, f"{address}&after={place}")

    assert [line for plan in (*first, *later) for line in scanned(plan)] == []
    assert [plan for plan in (first[-1], later[-1]) if sorts(plan)] == []


@pytest.mark.parametrize(
    "path",
    [
        "/adapters?q=multi&facets=true",
        "/adapters?q=multi+task:nli+acc%3E0.5",
        "/adapters?q=acc%3E0.99",
        "/adapters?task=nli&facets=true",
        "/adapters?facets=true",
        "/leaderboards?dataset=dataset-0&metric=acc",
        "/compatible?base=bert-0",
        "/tasks",
        "/bases",
        "/datasets",
    ],
)
def test_no_table_is_read_from_end_to_end(large: Hub, path: str) -> None:
    found = plans(large, path)

    assert [line for plan in found for line in scanned(plan)] == []


def test_words_are_found_by_the_full_text(large: Hub) -> None:
    found = "\n".join(plans(large, "/adapters?q=multi", ("seqscan", "indexscan")))

    index = (
        "search_text VIRTUAL TABLE" if large.runtime.settings.is_sqlite else "search_document_words"
    )
    assert index in found


def test_one_version_is_looked_up(large: Hub) -> None:
    with large.runtime.database.reading() as session:
        public = select(Adapter.full_name).where(Adapter.private.is_(False)).limit(50)
        names = session.scalars(public).all()
        digest = session.scalars(select(Version.digest).limit(1)).one()
    name = next(each for each in names if large.get(f"/resolve?ref={each}").status_code == 200)

    resolve = plans(large, f"/resolve?ref={name}")
    manifest = plans(large, f"/manifests/{digest}")
    held = plans(large, f"/manifests/{digest}", **{"If-None-Match": f'"{digest}"'})

    assert [line for plan in (*resolve, *manifest, *held) for line in scanned(plan)] == []
    assert (len(resolve), len(manifest), len(held)) == (1, 1, 1)


def test_an_unknown_name_asks_for_few(large: Hub) -> None:
    with statements(large) as heard:
        response = large.get("/resolve?ref=nli/mutli-news@org0")

    assert response.status_code == 404
    assert [
        each for each, _ in heard if "full_name" in each and "LIMIT" not in each and "=" not in each
    ] == []
