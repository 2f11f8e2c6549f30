"""Lists and pages: what is found, in which order, and by whom."""

from urllib.parse import urlencode

import pytest
from tests.factories import FINGERPRINT, OTHER_FINGERPRINT, make_files, make_manifest
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire


def publish(hub: Hub, reference: str, seed: int = 0, **changes: object) -> wire.Version:
    token = hub.token(reference.partition("@")[2])
    private = bool(changes.pop("private", False))
    files = make_files(seed)
    hub.clock.move(minutes=1)
    return hub.publish(token, make_manifest(reference, files, **changes), files, private=private)


def listed(hub: Hub, token: str | None = None, **query: object) -> list[str]:
    page = ok(hub.get("/adapters?" + urlencode(query), token), wire.AdapterPage)
    return [item.reference for item in page.items]


@pytest.fixture
def stocked(hub: Hub) -> Hub:
    """A registry with four adapters."""
    lora = {"name": "lora", "config_id": "1234"}
    roberta = {"name": "roberta-base", "fingerprint": OTHER_FINGERPRINT}
    publish(hub, "nli/multinli@ukp", description="Entailment 100%", languages=["en"])
    publish(hub, "nli/rte@ukp", 1, method=lora, languages=["en", "de"])
    publish(hub, "sentiment/imdb@acme", 2, base=roberta, license="mit")
    publish(hub, "sentiment/secret@acme", 3, private=True)
    return hub


def test_the_newest_come_first(stocked: Hub) -> None:
    assert listed(stocked) == ["sentiment/imdb@acme", "nli/rte@ukp", "nli/multinli@ukp"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param({"q": "ENTAIL"}, ["nli/multinli@ukp"], id="a word of the description"),
        pytest.param({"q": "nli rte"}, ["nli/rte@ukp"], id="every word has to be there"),
        pytest.param({"q": "100%"}, ["nli/multinli@ukp"], id="a percent sign is no wildcard"),
        pytest.param({"q": "n_i"}, [], id="an underscore is no wildcard"),
        pytest.param({"task": "sentiment"}, ["sentiment/imdb@acme"], id="task"),
        pytest.param({"org": "acme"}, ["sentiment/imdb@acme"], id="org"),
        pytest.param({"base": OTHER_FINGERPRINT}, ["sentiment/imdb@acme"], id="fingerprint"),
        pytest.param({"base": "roberta-base"}, ["sentiment/imdb@acme"], id="name of the base"),
        pytest.param({"method": "lora"}, ["nli/rte@ukp"], id="method"),
        pytest.param({"method": "1234"}, ["nli/rte@ukp"], id="config"),
        pytest.param({"language": "de"}, ["nli/rte@ukp"], id="language"),
        pytest.param({"language": "e"}, [], id="a part of a language"),
        pytest.param({"task": "nli", "language": "de"}, ["nli/rte@ukp"], id="two at once"),
        pytest.param(
            {"sort": "name"}, ["nli/multinli@ukp", "nli/rte@ukp", "sentiment/imdb@acme"], id="order"
        ),
    ],
)
def test_filters_narrow(stocked: Hub, query: dict[str, str], expected: list[str]) -> None:
    assert listed(stocked, **query) == expected


def test_a_summary_says_what_a_list_needs(stocked: Hub) -> None:
    page = ok(stocked.get("/adapters?q=imdb"), wire.AdapterPage)

    assert page.items == [
        wire.AdapterSummary(
            reference="sentiment/imdb@acme",
            description="",
            private=False,
            bases=["roberta-base"],
            methods=["seq_bn"],
            languages=[],
            license="mit",
            versions=1,
            downloads=0,
            updated_at="2026-11-20T12:03:00.000Z",
            metrics=[],
        )
    ]


def test_a_summary_has_the_metrics_of_the_newest_version_that_is_offered(hub: Hub) -> None:
    def metric(value: float) -> list[wire.Metric]:
        return [wire.Metric(dataset="mnli", split="test", name="acc", value=value, seeds=[1, 2])]

    for seed in range(3):
        publish(hub, "nli/multinli@ukp", seed, metrics=metric(seed / 4))
    path = "/adapters/nli/multinli@ukp/versions/3/yank"
    hub.call("POST", path, hub.token("ukp"), body={"reason": "wrong"})

    summary = ok(hub.get("/adapters"), wire.AdapterPage).items[0]

    assert (summary.metrics, summary.versions) == (metric(0.25), 3)


@pytest.mark.parametrize("sort", ["updated", "name", "downloads"])
def test_pages_go_through_all_without_loss_or_repetition(hub: Hub, sort: str) -> None:
    names = [f"nli/a{number}@ukp" for number in range(7)]
    for name in names:
        publish(hub, name)

    seen: list[str] = []
    after: dict[str, str] = {}
    for _ in range(4):
        address = "/adapters?" + urlencode({"sort": sort, "limit": 2, **after})
        page = ok(hub.get(address), wire.AdapterPage)
        seen += [item.reference for item in page.items]
        after = {"after": page.next or ""}

    assert (page.next, page.total) == (None, 7)
    assert sorted(seen) == names
    assert seen == (names if sort == "name" else names[::-1])


@pytest.mark.parametrize("after", ["x", "WzFd", "W10=", "é", "WyJuYW1lIiwgMSwgMV0="])
def test_a_place_that_no_page_gave_is_refused(stocked: Hub, after: str) -> None:
    refused = problem(stocked.get("/adapters?" + urlencode({"after": after})))

    assert (refused.status, refused.code) == (422, "invalid_request")


def test_the_place_of_another_order_is_refused(stocked: Hub) -> None:
    page = ok(stocked.get("/adapters?sort=name&limit=1"), wire.AdapterPage)

    query = urlencode({"sort": "updated", "after": page.next})

    assert problem(stocked.get(f"/adapters?{query}")).code == "invalid_request"


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "sort=size", "q=%00"])
def test_a_query_that_does_not_fit_is_refused(stocked: Hub, query: str) -> None:
    assert problem(stocked.get(f"/adapters?{query}")).code == "invalid_request"


def test_an_adapter_shows_its_variants_and_versions(hub: Hub) -> None:
    first = publish(hub, "nli/multinli@ukp")
    second = publish(hub, "nli/multinli@ukp", 1)
    other = publish(hub, "nli/multinli@ukp", 2, base={"fingerprint": OTHER_FINGERPRINT})

    adapter = ok(hub.get("/adapters/nli/multinli@ukp"), wire.Adapter)

    assert adapter.versions == [other, second, first]
    assert [(each.latest, each.versions) for each in adapter.variants] == [(1, 1), (2, 2)]
    assert hub.get("/adapters/nli/multinli@ukp/versions").json[0]["digest"] == other.digest
    assert len(hub.get("/adapters/nli/multinli@ukp/variants").json) == 2


def test_a_variant_offers_what_is_not_yanked(hub: Hub) -> None:
    for seed in range(2):
        publish(hub, "nli/multinli@ukp", seed)
    path = "/adapters/nli/multinli@ukp/versions/2/yank"
    hub.call("POST", path, hub.token("ukp"), body={"reason": "wrong"})

    variant = ok(hub.get("/adapters/nli/multinli@ukp"), wire.Adapter).variants[0]

    assert (variant.latest, variant.versions) == (1, 2)


def test_private_adapters_are_nowhere_for_strangers(stocked: Hub) -> None:
    stranger = stocked.token("stranger")
    version = ok(
        stocked.get("/adapters/sentiment/secret@acme", stocked.token("acme")), wire.Adapter
    ).versions[0]

    for token in (None, stranger):
        assert "sentiment/secret@acme" not in listed(stocked, token)
        absent = problem(stocked.get("/adapters/sentiment/absent@acme", token))
        hidden = problem(stocked.get("/adapters/sentiment/secret@acme", token))
        assert hidden.detail == absent.detail.replace("absent", "secret")
        assert hidden.nearest == absent.nearest
        assert problem(stocked.get(f"/manifests/{version.digest}", token)).code == (
            "manifest_not_found"
        )
        assert stocked.get("/stats", token).json["versions"] == 3
        assert stocked.get("/orgs/acme", token).json["adapters"] == 1
        assert {"name": "sentiment", "adapters": 1} in stocked.get("/tasks", token).json["items"]


def test_members_see_their_private_adapters(stocked: Hub) -> None:
    token = stocked.token("acme")

    assert "sentiment/secret@acme" in listed(stocked, token)
    assert stocked.get("/stats", token).json["versions"] == 4


def test_bases_are_counted_by_adapters(stocked: Hub) -> None:
    publish(stocked, "nli/rte@ukp", 9)

    listed_bases = stocked.get("/bases").json["items"]
    bases = [(each["base"]["name"], each["adapters"]) for each in listed_bases]

    assert bases == [("bert-base-uncased", 2), ("roberta-base", 1)]
    assert stocked.get(f"/bases/{FINGERPRINT}").json["adapters"] == 2
    assert problem(stocked.get("/bases/none")).code == "base_not_found"


def test_stats_count_what_there_is(stocked: Hub) -> None:
    stocked.token("nobody")
    files = [make_files(seed) for seed in range(3)]
    held = [content for each in files for content in each.values()]

    assert stocked.get("/stats").json == {
        "adapters": 3,
        "versions": 3,
        "bases": 2,
        "tasks": 2,
        "organizations": 2,
        "size_bytes": sum(len(content) for content in held),
    }
