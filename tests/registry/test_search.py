"""Search: the same adapters in the same order on both databases, in pages that lose nothing, and nothing private."""

from urllib.parse import urlencode

import pytest
from sqlalchemy import select, text
from tests.factories import FINGERPRINT, OTHER_FINGERPRINT, make_files, make_manifest
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry.models import (
    SearchCount,
    SearchDocument,
    SearchFacet,
    SearchScore,
    SearchTrigram,
)
from adapterhub_registry.service import indexing, search

ROBERTA = {"name": "roberta-base", "architecture": "roberta", "fingerprint": OTHER_FINGERPRINT}
LORA = {"name": "lora", "config_id": "1234"}


def metric(value: float, dataset: str = "multinli", **more: object) -> list[wire.Metric]:
    facts = {"split": "test", "name": "acc", "value": value, "std": 0.1, "seeds": [1, 2], **more}
    return [wire.Metric(dataset=dataset, **facts)]  # type: ignore[arg-type]


def publish(hub: Hub, reference: str, seed: int = 0, **changes: object) -> wire.Version:
    token = hub.token(reference.partition("@")[2])
    private = bool(changes.pop("private", False))
    files = make_files(seed)
    hub.clock.move(minutes=1)
    return hub.publish(token, make_manifest(reference, files, **changes), files, private=private)


def page(hub: Hub, token: str | None = None, **query: object) -> wire.AdapterPage:
    return ok(hub.get("/adapters?" + urlencode(query), token), wire.AdapterPage)


def names(hub: Hub, token: str | None = None, **query: object) -> list[str]:
    return [item.reference for item in page(hub, token, **query).items]


@pytest.fixture
def shelf(hub: Hub) -> Hub:
    """Seven adapters that differ in all that can be asked for; one is private."""
    publish(
        hub,
        "nli/multinli@ukp",
        0,
        description="Natural language inference, naïvely",
        languages=["en"],
        license="mit",
        metrics=metric(0.84),
        heads=[wire.Head(name="default", type="classification")],
    )
    publish(hub, "nli/rte@ukp", 1, method=LORA, languages=["en", "de"], metrics=metric(0.7, "rte"))
    publish(hub, "nli/multi-genre@acme", 2, base=ROBERTA, metrics=metric(0.91))
    publish(hub, "sentiment/imdb@acme", 3, base=ROBERTA, license="apache-2.0")
    publish(hub, "sentiment/sst-2@acme", 4, description="language of films")
    publish(hub, "sentiment/secretive@lab", 5, private=True, metrics=metric(0.99))
    publish(
        hub, "qa/squad@acme", 6, metrics=metric(3.5, "squad", name="loss", higher_is_better=False)
    )
    return hub


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param({"q": "multi"}, ["nli/multi-genre@acme", "nli/multinli@ukp"], id="beginning"),
        pytest.param(
            {"q": "MultiNLI"}, ["nli/multinli@ukp", "nli/multi-genre@acme"], id="name first"
        ),
        pytest.param({"q": "naively"}, ["nli/multinli@ukp"], id="accents"),
        pytest.param({"q": '"language inference"'}, ["nli/multinli@ukp"], id="phrase"),
        pytest.param({"q": '"inference language"'}, [], id="phrase in the wrong order"),
        pytest.param({"q": "language"}, ["sentiment/sst-2@acme", "nli/multinli@ukp"], id="texts"),
        pytest.param({"q": "language -task:nli"}, ["sentiment/sst-2@acme"], id="not a field"),
        pytest.param({"q": "language -films"}, ["nli/multinli@ukp"], id="not a word"),
        pytest.param({"q": "base:roberta-base task:nli"}, ["nli/multi-genre@acme"], id="fields"),
        pytest.param(
            {"q": f"base:{OTHER_FINGERPRINT} imdb"}, ["sentiment/imdb@acme"], id="identity"
        ),
        pytest.param({"q": "fingerprint:roberta-base"}, [], id="a name is no fingerprint"),
        pytest.param({"q": "method:lora"}, ["nli/rte@ukp"], id="method"),
        pytest.param({"q": "method:1234"}, ["nli/rte@ukp"], id="config"),
        pytest.param(
            {"q": "arch:roberta license:apache-2.0"}, ["sentiment/imdb@acme"], id="aliases"
        ),
        pytest.param({"q": "head:classification"}, ["nli/multinli@ukp"], id="head"),
        pytest.param({"q": "dataset:rte lang:de"}, ["nli/rte@ukp"], id="dataset and language"),
        pytest.param({"q": "acc>0.84"}, ["nli/multi-genre@acme"], id="above"),
        pytest.param({"q": "acc>=0.84 -acc>0.9"}, ["nli/multinli@ukp"], id="between"),
        pytest.param({"q": "metric:acc@rte"}, ["nli/rte@ukp"], id="reports it"),
        pytest.param({"q": "acc@rte<0.9"}, ["nli/rte@ukp"], id="of one dataset"),
        pytest.param({"q": "status:yanked"}, [], id="status"),
        pytest.param({"q": "composition:yes"}, [], id="composition"),
        pytest.param({"q": "secretive"}, [], id="what is private is not found"),
        pytest.param({"q": "acc>0.95"}, [], id="nor are its numbers"),
        pytest.param(
            {"sort": "metric:acc@multinli"},
            ["nli/multi-genre@acme", "nli/multinli@ukp"],
            id="by a metric",
        ),
        pytest.param({"sort": "metric:acc@nothing"}, [], id="by a metric nobody reports"),
        pytest.param(
            {"sort": "name", "task": "sentiment"},
            ["sentiment/imdb@acme", "sentiment/sst-2@acme"],
            id="by name",
        ),
        pytest.param(
            {"sort": "created", "org": "ukp"}, ["nli/rte@ukp", "nli/multinli@ukp"], id="by age"
        ),
    ],
)
def test_a_query_finds_the_same_everywhere(
    shelf: Hub, query: dict[str, str], found: list[str]
) -> None:
    assert names(shelf, **query) == found


def test_members_find_what_is_private(shelf: Hub) -> None:
    token = shelf.token("lab")

    assert names(shelf, token, q="secretive") == ["sentiment/secretive@lab"]
    assert page(shelf, token, task="sentiment").total == 3
    assert page(shelf, task="sentiment").total == 2


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("multinil", "nli/multinli@ukp"), ("sqaud", "qa/squad@acme"), ("idmb", "sentiment/imdb@acme")],
)
def test_a_misspelt_name_is_found(shelf: Hub, typed: str, meant: str) -> None:
    found = page(shelf, q=typed)

    assert found.items[0].reference == meant
    assert list(found.corrections) == [typed]


def test_a_private_name_corrects_nothing_for_strangers(shelf: Hub) -> None:
    assert page(shelf, q="secretiev") == wire.AdapterPage(items=[], total=0)
    assert names(shelf, shelf.token("lab"), q="secretiev") == ["sentiment/secretive@lab"]


def test_an_unknown_name_has_near_ones(shelf: Hub) -> None:
    refused = problem(shelf.get("/resolve?ref=nli/multinil@ukp"))

    assert refused.nearest[0] == "nli/multinli@ukp"
    assert not [name for name in refused.nearest if "secret" in name]


def test_a_malformed_query_says_where(shelf: Hub) -> None:
    refused = problem(shelf.get("/adapters?" + urlencode({"q": "nli taks:x"})))

    assert (refused.status, refused.code, refused.nearest) == (422, "malformed_query", ["task"])
    assert refused.detail.startswith("At character 5: there is no field 'taks'; expected one of ")


def test_facets_count_what_each_answer_would_leave(shelf: Hub) -> None:
    found = page(shelf, facets="true", q="task:nli")

    counted = {
        facet.field: {each.value: each.adapters for each in facet.values} for facet in found.facets
    }
    assert counted["task"] == {"nli": 3, "sentiment": 2, "qa": 1}
    assert counted["method"] == {"seq_bn": 2, "lora": 1}
    assert counted["base"] == {FINGERPRINT: 2, OTHER_FINGERPRINT: 1}
    assert counted["org"] == {"ukp": 2, "acme": 1}
    assert counted["dataset"] == {"multinli": 2, "rte": 1}
    assert all(facet.exact for facet in found.facets)
    assert found.ranges[0] == wire.MetricRange(
        dataset="multinli", metric="acc", adapters=2, lowest=0.84, highest=0.91
    )


def test_pages_are_stable_while_others_publish(shelf: Hub) -> None:
    first = page(shelf, limit=2)
    publish(shelf, "new/arrival@ukp", 7)
    second = page(shelf, limit=2, after=first.next)
    third = page(shelf, limit=2, after=second.next)

    seen = [item.reference for each in (first, second, third) for item in each.items]
    assert len(seen) == len(set(seen)) == 6
    assert "new/arrival@ukp" not in seen


@pytest.mark.parametrize(
    "query",
    [
        {"q": "acme"},
        {"sort": "metric:acc@multinli"},
        {"sort": "created"},
        {"q": "a", "sort": "name"},
    ],
)
def test_pages_of_one_are_the_whole_list(shelf: Hub, query: dict[str, str]) -> None:
    whole = names(shelf, **query)
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        found = page(shelf, limit=1, **query, **after)
        seen += [item.reference for item in found.items]
        if found.next is None:
            break
        after = {"after": found.next}

    assert seen == whole
    assert len(whole) > 1


def test_a_leaderboard_has_the_best_version_of_each(shelf: Hub) -> None:
    best = publish(shelf, "nli/multinli@ukp", 8, metrics=metric(0.95))
    publish(shelf, "nli/multinli@ukp", 9, metrics=metric(0.5))

    board = ok(shelf.get("/leaderboards?dataset=multinli&metric=acc"), wire.Leaderboard)

    assert [(each.place, each.reference, each.value) for each in board.entries] == [
        (1, "nli/multinli@ukp", 0.95),
        (2, "nli/multi-genre@acme", 0.91),
    ]
    assert (board.entries[0].digest, board.entries[0].std) == (best.digest, 0.1)
    assert board.board == wire.Board(
        dataset="multinli", metric="acc", split="test", higher_is_better=True, adapters=2
    )


def test_a_leaderboard_goes_on_where_it_ended(shelf: Hub) -> None:
    address = "/leaderboards/multinli/acc?limit=1"
    first = ok(shelf.get(address), wire.Leaderboard)
    second = ok(shelf.get(f"{address}&after={first.next}"), wire.Leaderboard)

    assert [each.place for each in (*first.entries, *second.entries)] == [1, 2]
    assert second.next is None


def test_lower_is_better_where_the_metric_says_so(shelf: Hub) -> None:
    loss = metric(2.5, "squad", name="loss", higher_is_better=False)
    publish(shelf, "qa/better@acme", 10, metrics=loss)

    board = ok(shelf.get("/leaderboards/squad/loss"), wire.Leaderboard)

    assert [each.reference for each in board.entries] == ["qa/better@acme", "qa/squad@acme"]


def test_what_was_withdrawn_leads_no_board(shelf: Hub) -> None:
    path = "/adapters/nli/multi-genre@acme/versions/1/yank"
    shelf.call("POST", path, shelf.token("acme"), body={"reason": "wrong"})

    board = ok(shelf.get("/leaderboards/multinli/acc"), wire.Leaderboard)

    assert [each.reference for each in board.entries] == ["nli/multinli@ukp"]
    assert names(shelf, q="status:yanked") == ["nli/multi-genre@acme"]


def test_an_unknown_board_names_those_of_its_dataset(shelf: Hub) -> None:
    refused = problem(shelf.get("/leaderboards/multinli/f1"))

    assert (refused.code, refused.nearest) == ("leaderboard_not_found", ["acc@multinli"])


def test_datasets_say_what_was_measured(shelf: Hub) -> None:
    found = ok(shelf.get("/datasets?limit=1"), wire.DatasetPage)
    rest = ok(shelf.get(f"/datasets?after={found.next}"), wire.DatasetPage)

    assert [(each.name, each.adapters) for each in (*found.items, *rest.items)] == [
        ("multinli", 2),
        ("rte", 1),
        ("squad", 1),
    ]
    assert rest.items[1].boards[0].higher_is_better is False


@pytest.mark.parametrize("base", ["roberta-base", OTHER_FINGERPRINT])
def test_all_that_fits_a_base_is_listed(shelf: Hub, base: str) -> None:
    address = "/compatible?" + urlencode({"base": base, "limit": 1})
    first = ok(shelf.get(address), wire.VersionPage)
    second = ok(shelf.get(f"{address}&after={first.next}"), wire.VersionPage)

    found = [each.reference for each in (*first.items, *second.items)]
    assert found == ["nli/multi-genre@acme", "sentiment/imdb@acme"]
    assert second.next is None


def test_what_fits_no_adapter_is_no_base(shelf: Hub) -> None:
    assert problem(shelf.get("/compatible?base=gpt")).code == "base_not_found"


def test_rebuilding_makes_what_publishing_made(shelf: Hub) -> None:
    publish(shelf, "nli/rte@ukp", 11, base=ROBERTA, metrics=metric(0.8, "rte"))
    path = "/adapters/sentiment/imdb@acme/versions/1/yank"
    shelf.call("POST", path, shelf.token("acme"), body={"reason": "wrong"})
    before = _contents(shelf)

    with shelf.runtime.database.writing() as session:
        indexing.rebuild(session)

    assert _contents(shelf) == before


def test_a_catalogue_without_search_is_noticed(shelf: Hub) -> None:
    with shelf.runtime.database.writing() as session:
        before = indexing.is_missing(session)
        indexing.forget(session, session.scalars(select(SearchDocument.adapter_id)).all())
        without = indexing.is_missing(session)
        indexing.rebuild(session)
        after = indexing.is_missing(session)

    assert (before, without, after) == (False, True, False)


def test_what_is_forgotten_leaves_nothing(shelf: Hub) -> None:
    with shelf.runtime.database.writing() as session:
        ids = session.scalars(select(SearchDocument.adapter_id)).all()
        indexing.forget(session, ids)

    contents = _contents(shelf)
    assert contents.pop("search_trigram")
    assert not any(contents.values())


def test_many_are_counted_up_to_a_limit(shelf: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "COUNTED", 2)

    some = page(shelf, q="acme a", facets="true")
    alone = page(shelf, q="org:acme", sort="name")
    everything = page(shelf)

    assert (some.total, some.exact) == (2, False)
    assert not any(facet.exact for facet in some.facets)
    assert (alone.total, alone.exact, len(alone.items)) == (4, True, 4)
    assert (everything.total, everything.exact, len(everything.items)) == (6, True, 6)
    assert len(some.items) == 4


def _contents(hub: Hub) -> dict[str, list[tuple[object, ...]]]:
    """Every row of search, in an order of its own."""
    models = (SearchDocument, SearchFacet, SearchCount, SearchScore, SearchTrigram)
    found = {}
    with hub.runtime.database.reading() as session:
        for model in models:
            rows = session.execute(select(*model.__table__.columns)).all()
            found[model.__tablename__] = sorted(map(tuple, rows), key=repr)
        if hub.runtime.settings.is_sqlite:
            rows = session.execute(text("SELECT rowid, title, body FROM search_text")).all()
            found["search_text"] = sorted(map(tuple, rows), key=repr)
    return found
