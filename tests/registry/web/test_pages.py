"""What the pages show."""

import json
import re
import shlex
from itertools import chain

import click
import msgspec
import pytest
from tests.registry.conftest import Hub
from tests.registry.web import sample
from tests.registry.web.document import read, words

from adapterhub_client import cli, wire
from adapterhub_registry import cli as registry_cli
from adapterhub_registry.api import document

FUSION = "/adapters/sts/paraphrase-fusion@ukp"
MULTINLI = "/adapters/nli/multinli@ukp"
BERT = sample.BERT["fingerprint"]


def listed(page) -> list[str]:
    return [each.text for each in page.all("span", class_="ref") if "@" in each.text]


def commands(page) -> list[str]:
    return [line for each in page.all("pre") for line in each.text.strip().splitlines()]


def variant(hub: Hub, base: str) -> str:
    shown = msgspec.json.decode(hub.get("/adapters/nli/multinli@ukp").data, type=wire.Adapter)
    return next(each.id for each in shown.variants if each.base.name == base)


def test_the_start_page_says_what_is_here(catalogue: Hub):
    page = read(catalogue.client, "/")

    tally = dict(zip(*[[e.text for e in page.all(tag)[:5]] for tag in ("dt", "dd")], strict=True))
    assert tally == {
        "adapters": "21",
        "versions": "25",
        "tasks": "7",
        "base models": "6",
        "organizations": "3",
    }
    assert listed(page)[0] == "hostile/text@eve"
    assert len(listed(page)) == 7 + 11
    assert "/leaderboards/sst-2?metric=accuracy&split=validation" in page.links
    assert "/tasks/sts" in page.links
    assert f"/bases/{BERT}" in page.links
    assert page.one("input", type="search")["name"] == "q"


def test_an_empty_catalogue_explains_the_first_steps(hub: Hub):
    page = read(hub.client, "/")

    assert commands(page) == [
        "adapterhub-registry account create ada",
        "adapterhub-registry token create ada --scope write",
        "adapterhub-client login http://localhost",
        "adapterhub-client push nli/multinli@ada runs/multinli/adapter",
    ]
    for path in ("/adapters", "/tasks", "/bases"):
        assert "Nothing is published here yet" in read(hub.client, path).text


@pytest.mark.parametrize("path", ["/", "/about"])
def test_every_command_on_a_page_is_one(hub: Hub, path: str):
    programs = {"adapterhub-client": cli.main, "adapterhub-registry": registry_cli.main}

    for command in commands(read(hub.client, path)):
        program, *words = shlex.split(command)
        if program == "export":
            continue
        group: click.Command = programs[program]
        while isinstance(group, click.Group):
            context = click.Context(group)
            _, group, words = group.resolve_command(context, words)
        assert group.make_context(command, words).params


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param(
            "task=nli", ["nli/scitail@ukp", "nli/qnli@ukp", "nli/multinli@ukp"], id="task"
        ),
        pytest.param("org=lab&task=ner", ["ner/wnut17@lab"], id="organization"),
        pytest.param("method=lora&q=eight", ["sentiment/umsab@lab"], id="method and words"),
        pytest.param("base=distilbert-base-cased", ["sentiment/imdb@ukp"], id="base by name"),
        pytest.param(
            f"base={BERT}&task=sentiment",
            ["sentiment/short-texts@ukp", "sentiment/sst-2-double@lab", "sentiment/sst-2@ukp"],
            id="base by fingerprint",
        ),
        pytest.param("language=pt", ["sentiment/umsab@lab"], id="language"),
        pytest.param(
            "task=sts&sort=name",
            [
                "sts/mrpc-of-eight@lab",
                "sts/mrpc-tuned@lab",
                "sts/mrpc@ukp",
                "sts/paraphrase-fusion@ukp",
                "sts/qqp@ukp",
                "sts/sts-b@ukp",
            ],
            id="order",
        ),
        pytest.param(
            "task=ner&sort=nonsense&colour=red", ["ner/wnut17@lab"], id="unknown is ignored"
        ),
    ],
)
def test_the_address_is_the_state_of_the_list(catalogue: Hub, query: str, found: list[str]):
    page = read(catalogue.client, f"/adapters?{query}")

    assert listed(page) == found


def test_facets_count_what_they_would_leave(catalogue: Hub):
    page = read(catalogue.client, "/adapters?task=nli")

    facets = {each["href"]: words(each.text) for each in page.all("a") if "rel" in each.attributes}
    assert facets["/adapters?task=nli&method=lora"] == "lora 1"
    assert facets["/adapters?task=nli&method=seq_bn"] == "seq_bn 2"
    assert facets["/adapters?task=sts"] == "sts 6"
    assert page.one("a", href="/adapters", **{"aria-current": "true"}).text.split() == ["nli", "3"]


def test_searching_again_keeps_the_filters(catalogue: Hub):
    page = read(catalogue.client, "/adapters?task=nli&sort=name&q=science")

    kept = {each["name"]: each["value"] for each in page.all("input", type="hidden")}
    assert kept == {"task": "nli", "sort": "name"}
    assert page.one("input", type="search")["value"] == "science"


def test_a_search_without_results_says_what_to_leave_out(catalogue: Hub):
    page = read(catalogue.client, "/adapters?q=science&task=sts&method=lora")

    relaxed = page.one("ul", class_="relaxed")
    assert words(relaxed.text) == "without task sts 1 adapter"
    assert "/adapters?q=science&method=lora" in page.links


def test_a_search_that_no_single_filter_spoils_leads_back(catalogue: Hub):
    page = read(catalogue.client, "/adapters?q=zebra&task=unheard-of")

    assert "No single filter is the cause" in page.text


def test_pages_follow_each_other_without_gap_or_repetition(hub: Hub):
    token = hub.token("ukp")
    for number in range(60):
        sample.publish(hub, token, f"many/number-{number:02}@ukp", label=f"{number}")

    seen, path = [], "/adapters?task=many&sort=name"
    while path:
        page = read(hub.client, path)
        seen.append(listed(page))
        path = next((each["href"] for each in page.all("a", rel="next")), "")

    assert [len(names) for names in seen] == [25, 25, 10]
    assert list(chain.from_iterable(seen)) == [
        f"many/number-{number:02}@ukp" for number in range(60)
    ]


def test_a_forged_place_in_the_list_is_refused(catalogue: Hub):
    page = read(catalogue.client, "/adapters?after=forged", 422)

    assert "`after` is not the `next` of a page" in page.text


def test_tasks_and_bases_are_listed(catalogue: Hub):
    tasks = read(catalogue.client, "/tasks").text
    bases = read(catalogue.client, "/bases")

    assert "sentiment 8 sts 6 nli 3" in tasks
    row = [words(each.text) for each in bases.all("tr") if "xlm-roberta-large" in each.text]
    assert row == [f"xlm-roberta-large {sample.XLMR['fingerprint'][7:19]} xlm-roberta 1024 24 2"]
    assert "/adapters?base=distilbert-base-cased" in bases.links


def test_a_task_shows_its_adapters(catalogue: Hub):
    page = read(catalogue.client, "/tasks/nli")

    assert page.one("h1").text == "nli"
    assert listed(page) == ["nli/scitail@ukp", "nli/qnli@ukp", "nli/multinli@ukp"]


def test_an_unknown_task_names_those_that_look_alike(catalogue: Hub):
    page = read(catalogue.client, "/tasks/sentimant", 404)

    assert "/tasks/sentiment" in page.links


def test_bases_of_one_name_are_told_apart(hub: Hub):
    token, unnamed = hub.token("lab"), {**sample.BERT, "fingerprint": None}
    sample.publish(hub, token, "nli/known@lab")
    sample.publish(hub, token, "nli/imported@lab", base=unnamed)

    facets = read(hub.client, "/adapters").all("span", class_="facet-label")
    listed = read(hub.client, "/").all("svg", class_="strip")

    named = {words(each.text) for each in facets if "bert" in each.text}
    assert named == {f"bert-base-uncased {BERT[7:19]}", "bert-base-uncased no fingerprint"}
    assert {each["class"] for each in listed} == {"strip", "strip blank"}


def test_a_base_shows_what_fits_it(catalogue: Hub):
    page = read(catalogue.client, f"/bases/{sample.XLMR['fingerprint']}")

    assert listed(page) == ["ner/wnut17@lab", "sentiment/umsab@lab"]
    assert sample.XLMR["fingerprint"] in page.text
    assert read(catalogue.client, "/bases/sha256:00", 404).one("h1").text == "Not here"


def test_from_a_base_one_comes_to_the_variant_that_fits_it(catalogue: Hub):
    for base in (sample.BERT, sample.ROBERTA):
        links = read(catalogue.client, f"/bases/{base['fingerprint']}").links
        path = next(link for link in links if link.startswith(MULTINLI))
        assert base["name"] in read(catalogue.client, path).one("p", class_="panel-title").text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param(f"/bases/{BERT}", "0.846", id="its page"),
        pytest.param(f"/adapters?base={BERT}", "0.846", id="its list"),
        pytest.param("/adapters?base=roberta-base", "0.872", id="a list of a name"),
        pytest.param("/adapters", "0.872", id="no base"),
    ],
)
def test_a_row_tells_what_was_measured_on_the_base_of_the_list(
    catalogue: Hub, path: str, value: str
):
    rows = read(catalogue.client, path).all("li", class_="entry")

    (own,) = (words(each.text) for each in rows if "nli/multinli@ukp" in each.text)
    assert f" {value} ± " in own


def test_a_yanked_version_has_no_place_among_others(catalogue: Hub):
    own = variant(catalogue, "bert-base-uncased")

    yanked, newest = (
        read(catalogue.client, f"{MULTINLI}:{number}?variant={own}") for number in (1, 3)
    )

    assert "not ranked, as it is yanked" in yanked.text
    assert "of 2" not in words(yanked.one("table", class_="metrics").text)
    assert "1st of 2 here" in words(newest.text)


def test_an_organization_shows_its_adapters_and_members_only_to_members(catalogue: Hub):
    path = "/orgs/lab"

    public = read(catalogue.client, path)
    member = read(catalogue.client, path, Authorization=f"Bearer {catalogue.token('lab')}")

    assert len(listed(public)) == 9
    assert "admin lab" not in public.text
    assert len(listed(member)) == 10
    assert "admin lab" in member.text


def test_the_page_of_an_adapter_says_what_it_is(catalogue: Hub):
    page = read(catalogue.client, f"{MULTINLI}?variant={variant(catalogue, 'bert-base-uncased')}")

    assert page.one("h1").text == "nli/multinli@ukp"
    assert "apache-2.0" in page.text
    assert "12 layers, 768 wide" in page.text
    assert BERT in page.text
    assert "0 entailment 1 neutral 2 contradiction" in page.text
    assert "learning_rate 0.0001" in page.text
    assert "Time 23 min 53 s" in page.text
    assert "NVIDIA H200" in page.text
    assert "reduction_factor 16" in page.text
    assert "A Broad-Coverage Challenge Corpus" in page.text
    assert [each.text for each in page.all("span", class_="alias")] == ["stable", "stable"]


def test_metrics_have_their_deviation_their_seeds_and_a_drawing(catalogue: Hub):
    page = read(catalogue.client, f"{MULTINLI}:3?variant={variant(catalogue, 'bert-base-uncased')}")

    rows = [words(each.text) for each in page.all("tr") if "±" in each.text]
    assert rows[:3] == [
        "accuracy multinli validation 0.846 ± 0.002 5 0.846 ± 0.002; one other: 0.712 1 of 2",
        "full fine-tuning 109,482,240 parameters 0.842 ± 0.003 5 +0.004",
        "head only 2,307 parameters 0.601 ± 0.002 5 +0.245",
    ]
    plots = page.one("table", class_="metrics")
    assert plots.html.count('class="this"') == 4
    assert plots.html.count('class="that"') == 2
    assert plots.html.count('class="other"') == 1


def test_files_link_to_their_bytes(catalogue: Hub):
    page = read(catalogue.client, f"{MULTINLI}:3?variant={variant(catalogue, 'bert-base-uncased')}")

    link = next(each for each in page.all("a") if each.text == "adapter.safetensors")
    response = catalogue.client.get(link["href"])
    assert response.status_code == 200
    assert response.data == sample.weights("multinli 3", "multinli")
    assert link["download"] == "adapter.safetensors"


def test_the_card_is_rendered_below_the_headings_of_the_page(catalogue: Hub):
    page = read(catalogue.client, f"{MULTINLI}:3?variant={variant(catalogue, 'bert-base-uncased')}")

    card = page.one("div", class_="card")
    assert "license: apache-2.0" not in card.text
    assert "MultiNLI for BERT" in [each.text for each in page.all("h3")]
    config = next(each for each in page.all("a") if each.text == "the configuration")
    assert json.loads(catalogue.client.get(config["href"]).data) == sample.SEQ_BN["config"]


@pytest.mark.parametrize(
    ("pin", "number", "notice"),
    [
        pytest.param(":1", "1", "Version 1 is yanked. The labels of neutral and", id="yanked"),
        pytest.param(":2", "2", "Version 2 is deprecated. Version 3 was trained", id="deprecated"),
        pytest.param(":stable", "3", None, id="alias"),
        pytest.param("", "3", None, id="newest"),
    ],
)
def test_a_version_is_chosen_by_the_address(
    catalogue: Hub, pin: str, number: str, notice: str | None
):
    own = variant(catalogue, "bert-base-uncased")
    page = read(catalogue.client, f"{MULTINLI}{pin}?variant={own}")

    current = page.all("a", **{"aria-current": "true"})
    chosen = [each.text.split()[0] for each in current if each.text[:1].isdigit()]
    assert chosen == [number]
    notices = [words(each.text) for each in page.all("div", class_="notice")]
    assert bool(notices) == (notice is not None)
    assert notice is None or notices[0].startswith(notice)


def test_a_digest_is_an_address_for_good(catalogue: Hub):
    shown = msgspec.json.decode(catalogue.get("/adapters/nli/multinli@ukp").data, type=wire.Adapter)

    for version in shown.versions:
        page = read(catalogue.client, f"{MULTINLI}:{version.digest}")
        assert f"version {version.number}" in page.one("span", class_="byline").text
        assert version.base.name in page.one("p", class_="panel-title").text


def test_an_unknown_version_shows_what_there_is(catalogue: Hub):
    page = read(catalogue.client, f"{MULTINLI}:99", 404)

    assert "has no version '99'" in page.text
    assert any(link.startswith(f"{MULTINLI}:sha256:") for link in page.links)


def test_a_name_that_is_nearly_right_leads_to_the_right_one(catalogue: Hub):
    page = read(catalogue.client, "/adapters/nli/multinly@ukp", 404)

    assert MULTINLI in page.links


def test_a_composition_is_drawn_as_a_tree_of_pinned_members(catalogue: Hub):
    page = read(catalogue.client, FUSION)

    tree = words(page.one("ul", class_="tree").text)
    assert re.sub(r" [0-9a-f]{12}\b", "", tree) == (
        "stack one after the other fuse mixed by attention mnli nli/multinli@ukp:3 qqp sts/qqp@ukp:1 "
        "average weights=[0.7, 0.3] weights averaged mrpc sts/mrpc@ukp:1 sst sentiment/sst-2@ukp:1 "
        "mrpc sts/mrpc@ukp:1"
    )
    pinned = [link for link in page.links if link.startswith(f"{MULTINLI}:sha256:")]
    assert len(set(pinned)) == 1
    assert FUSION in "".join(read(catalogue.client, pinned[0]).links)


def test_the_same_page_again_costs_nothing(catalogue: Hub):
    first = catalogue.client.get("/tasks")
    again = catalogue.client.get("/tasks", headers={"If-None-Match": first.headers["ETag"]})

    assert again.status_code == 304
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert {"Accept", "Authorization", "Cookie"} <= set(first.vary)


def test_every_page_answers_on_every_database(hub: Hub):
    sample.fill(hub)

    for path in ("/adapters?task=nli&q=sentence", "/tasks/nli", f"/bases/{BERT}", "/orgs/ukp"):
        assert "nli/multinli@ukp" in listed(read(hub.client, path))
    assert read(hub.client, MULTINLI).one("h1").text == "nli/multinli@ukp"
    assert read(hub.client, FUSION).one("h1").text == "sts/paraphrase-fusion@ukp"


def test_the_pages_of_the_api_have_every_operation(catalogue: Hub):
    paths = document.generate(catalogue.app)["paths"]
    ids = {operation["operationId"] for methods in paths.values() for operation in methods.values()}

    index = read(catalogue.client, "/docs/api")

    parts = {link.partition("#")[0] for link in index.links if link.startswith("/docs/api/")}
    pages = [read(catalogue.client, part) for part in parts]
    told = {each["id"] for page in pages for each in page.all("section", class_="operation")}
    assert told == ids
    assert {link.partition("#")[2] for link in index.links if "#" in link} >= ids
    headings = [words(each.text) for page in pages for each in page.all("h2")]
    assert "GET /api/v1/resolve" in headings
    assert read(catalogue.client, "/docs/api/nothing", 404).one("h1").text == "Not here"
