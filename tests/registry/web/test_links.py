"""No link leads nowhere."""

import gzip
from collections import deque
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from tests.registry.conftest import Hub
from tests.registry.web.document import Page

from adapterhub_registry.web import assets

FILTERS = 2
LARGEST_PAGE = 60_000
LARGEST_SCRIPT = 30_000


@pytest.fixture(scope="session")
def crawled(catalogue: Hub) -> dict[str, Page | None]:
    """Every address that can be reached from the start page; pages are read, the rest only fetched.

    Filters combine without end, so lists with more than two are left alone.
    """
    hub = catalogue
    found: dict[str, Page | None] = {}
    waiting = deque(["/"])
    while waiting:
        path = waiting.popleft()
        if path in found:
            continue
        response = hub.client.get(path, headers={"Accept": "text/html"}, buffered=True)
        assert response.status_code == 200, path
        found[path] = None
        if response.mimetype != "text/html":
            continue
        assert len(response.data) <= LARGEST_PAGE, path
        page = found[path] = Page(response.text)
        for element in page.elements:
            for name in ("href", "src"):
                target = urlsplit(urljoin(path, element.attributes.get(name) or path))
                if not target.netloc and target.query.count("&") < FILTERS:
                    query = f"?{target.query}" if target.query else ""
                    waiting.append(target.path + query)
    return found


def test_every_link_of_a_crawl_answers(crawled: dict[str, Page | None]):
    reached = {unquote(path.partition("?")[0]) for path in crawled}

    assert len(crawled) > 150
    assert {"/about", "/docs/api", "/api/v1/openapi.json", "/static/site.css"} <= reached
    assert "/adapters/sts/paraphrase-fusion@ukp" in reached
    assert not [path for path in reached if "support-desk" in path]


def test_every_fragment_is_on_its_page(crawled: dict[str, Page | None]):
    for path, page in crawled.items():
        if page is None:
            continue
        ids = {each.attributes.get("id") for each in page.elements}
        for link in page.links:
            if link.startswith("#"):
                assert link[1:] in ids, (path, link)


def test_static_files_are_kept_for_good_under_the_hash_of_their_content(catalogue: Hub):
    page = Page(catalogue.client.get("/").text)

    address = page.one("link", rel="stylesheet")["href"]
    current = catalogue.client.get(address, buffered=True)
    stale = catalogue.client.get("/static/site.css?v=0000", buffered=True)

    assert current.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert stale.headers["Cache-Control"] == "no-cache"
    assert current.mimetype == "text/css"
    assert catalogue.client.get("/static/../pages.py").status_code == 404
    assert catalogue.client.get("/static/%2e%2e/pages.py").status_code == 404


def test_all_script_together_stays_small(catalogue: Hub):
    """As it travels: packed, which every browser takes."""
    scripts = [path.name for path in assets.FOLDER.glob("*.js")]

    sent = 0
    for name in scripts:
        packed = catalogue.client.get(f"/static/{name}", headers={"Accept-Encoding": "gzip"})
        plain = catalogue.client.get(f"/static/{name}")
        assert gzip.decompress(packed.data) == plain.data
        assert packed.headers["ETag"] != plain.headers["ETag"]
        sent += len(packed.data)

    assert len(scripts) == 2
    assert sent <= LARGEST_SCRIPT


def test_the_icon_is_where_browsers_look(catalogue: Hub):
    assert catalogue.client.get("/favicon.ico", buffered=True).mimetype == "image/svg+xml"


def test_fonts_are_kept_for_good_since_their_names_have_their_version(catalogue: Hub):
    page = Page(catalogue.client.get("/").text)

    fonts = [each["href"] for each in page.all("link", rel="preload")]
    styles = catalogue.client.get("/static/site.css").text
    assert len(fonts) == 2
    for address in fonts:
        response = catalogue.client.get(address)
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert address.removeprefix("/static/") in styles
