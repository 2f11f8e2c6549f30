"""Hostile text in every field is shown as text, and nothing inline runs anywhere."""

from itertools import pairwise

import pytest
from tests.registry.conftest import Hub
from tests.registry.web.document import Page, read

HOSTILE = "/adapters/hostile/text@eve"
PATHS = (
    "/",
    "/adapters",
    "/adapters?q=%3Cscript%3Ealert(1)%3C/script%3E%22%27",
    "/tasks/%3Cscript%3E",
    "/tasks",
    "/bases",
    "/orgs/%3Csvg%20onload=alert(1)%3E",
    "/orgs",
    "/methods",
    "/methods/%3Csvg%20onload=alert(1)%3E",
    "/leaderboards",
    "/leaderboards/%3Csvg%20onload=alert(1)%3E",
    "/compositions",
    "/compare?with=hostile/text@eve&with=%3Cscript%3E&with=nli/multinli@ukp",
    "/sign-in?next=%22%3E%3Cscript%3E",
    "/join?invitation=%3Cscript%3E",
    "/docs/api",
    "/about",
    HOSTILE,
    f"{HOSTILE}/fits?base=%3Cscript%3E",
    f"{HOSTILE}/diff?from=%3Cscript%3E",
    f"{HOSTILE}/tensors/adapter.safetensors",
    "/adapters/nli/multinli@ukp",
    "/adapters/sts/paraphrase-fusion@ukp",
    "/adapters/%3Cscript%3E/x@y",
    "/nowhere/%22%3E%3Cscript%3E",
)
ELEMENTS = """
a aside b blockquote body br button caption circle code dd details div dl dt em fieldset figcaption figure footer form g
h1 h2 h3 h4 h5 h6 head header hr html input label legend li line link main meta nav ol option p path pre rect s script
section select span strong summary svg table tbody td text textarea tfoot th thead time title tr ul wbr
"""
SCRIPTS = ["/static/site.js", "/static/htmx-4.0.1.min.js"]
ARXIV = "https://arxiv.org/abs/"


def fetched(hub: Hub, path: str) -> Page:
    response = hub.client.get(path, headers={"Accept": "text/html"})
    return Page(response.text)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_inline_and_nothing_from_elsewhere(catalogue: Hub, path: str):
    page = fetched(catalogue, path)

    assert {each.tag for each in page.elements} <= set(ELEMENTS.split())
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on")]
        assert "style" not in element.attributes
        for name in ("src", "href", "action"):
            target = element.attributes.get(name) or "/"
            allowed = ("/", "#", "?", "https://example.org/", ARXIV)
            assert target.startswith(allowed), (element.tag, target)
            assert not target.startswith("//"), (element.tag, target)
    scripts = [each["src"].partition("?")[0] for each in page.all("script")]
    assert scripts == SCRIPTS[: len(scripts)] != []
    assert {each["rel"] for each in page.all("link")} <= {
        "preload",
        "stylesheet",
        "icon",
        "alternate",
    }
    for each in page.all("link"):
        assert each["href"].startswith(("/static/", "/adapters.atom")), each["href"]


@pytest.mark.parametrize("path", PATHS)
def test_a_page_has_one_heading_one_main_and_no_id_twice(catalogue: Hub, path: str):
    page = fetched(catalogue, path)

    ids = [each["id"] for each in page.elements if "id" in each.attributes]
    assert len(set(ids)) == len(ids)
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1
    levels = [int(each.tag[1]) for each in page.elements if each.tag in {"h1", "h2", "h3", "h4"}]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    named = {each.attributes.get("for") for each in page.all("label")}
    shown = [each for each in page.all("input") if each.attributes.get("type") != "hidden"]
    assert all("aria-label" in each.attributes or each["id"] in named for each in shown)


def test_hostile_text_is_shown_as_it_is(catalogue: Hub):
    page = read(catalogue.client, HOSTILE)

    assert '<script>document.title="owned"</script>' in page.one("p", class_="lead").text
    assert page.all("title")[0].text.startswith("hostile/text@eve")
    assert "</p><script>" in page.one("span", class_="byline").text
    assert "javascript:alert" in page.text
    assert "pixel" in page.one("div", class_="card").text


def test_links_of_a_card_carry_no_trust(catalogue: Hub):
    page = read(catalogue.client, HOSTILE)

    outside = [
        each for each in page.all("a") if each.attributes.get("href", "/").startswith("http")
    ]
    assert {each["href"] for each in outside} == {
        "https://example.org/fine",
        "https://example.org/pixel.png",
    }
    assert {each["rel"] for each in outside} == {"nofollow ugc noopener noreferrer"}


def test_the_policy_forbids_what_is_inline(catalogue: Hub):
    response = catalogue.client.get("/")

    policy = response.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
