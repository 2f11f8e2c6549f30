"""Nothing on any template that axe-core objects to: light and dark, on a phone and on a desktop."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from tests.registry.web.conftest import PASSWORD, needs_browser
from tests.registry.web.places import PUBLIC, SIGNED_IN

AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
pytestmark = [
    needs_browser,
    pytest.mark.skipif(not AXE.exists(), reason="no axe-core: `npm install` in tests/registry/web"),
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SCREENS = {"phone": (320, 640), "desktop": (1280, 900)}


@pytest.fixture(scope="module", params=["light", "dark"])
def scheme(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=SCREENS)
def context(request, browser: Browser, scheme: str) -> Iterator[BrowserContext]:
    width, height = SCREENS[request.param]
    opened = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    yield opened
    opened.close()


def looked(page: Page, url: str) -> list[str]:
    """What axe-core objects to on a page."""
    page.goto(url)
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})",
        RULES,
    )
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for each in found["violations"]
        for node in each["nodes"][:3]
    ]


def test_no_page_has_a_violation(context: BrowserContext, address: str):
    page = context.new_page()

    found = [f"{path}: {each}" for path in PUBLIC for each in looked(page, address + path)]

    page.close()
    assert not found, "\n".join(found)


def test_no_page_of_an_account_has_a_violation(context: BrowserContext, address: str):
    page = context.new_page()
    page.goto(address + "/sign-in")
    page.get_by_label("Name").fill("lab")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").first.click()
    page.wait_for_url("**/account")

    found = [f"{path}: {each}" for path in SIGNED_IN for each in looked(page, address + path)]

    page.close()
    assert not found, "\n".join(found)
