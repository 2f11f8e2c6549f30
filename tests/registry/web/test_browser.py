"""The pages in a real browser: without script, by keyboard, on a narrow screen, with the command really run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page
from tests.registry.web.conftest import needs_browser, watched

pytestmark = needs_browser
PAGES = (
    "/",
    "/adapters",
    "/adapters?q=zebra&task=nli",
    "/tasks",
    "/tasks/sts",
    "/bases",
    "/orgs/ukp",
    "/about",
    "/adapters/nli/multinli@ukp:2?variant=1",
    "/adapters/sts/paraphrase-fusion@ukp",
    "/adapters/emotion/goemotions@lab",
    "/adapters/hostile/text@eve",
)


@pytest.fixture
def plain(browser: Browser) -> Iterator[Page]:
    """A page without script on a narrow screen; whatever the browser complains about fails the test."""
    context = browser.new_context(viewport={"width": 320, "height": 640}, java_script_enabled=False)
    yield from watched(context.new_page())
    context.close()


@pytest.mark.parametrize("path", PAGES)
def test_nothing_sticks_out_of_a_narrow_screen(plain: Page, address: str, path: str):
    plain.goto(address + path)

    sticking = plain.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert sticking == 0


def test_searching_works_without_script_and_by_keyboard(plain: Page, address: str):
    plain.goto(address + "/")
    plain.keyboard.press("Tab")
    assert plain.locator(":focus").inner_text() == "Skip to content"

    plain.get_by_role("searchbox").focus()
    plain.keyboard.type("science")
    plain.keyboard.press("Enter")

    plain.wait_for_url("**/adapters?q=science")
    assert plain.locator(".entry h2").all_inner_texts() == ["nli/scitail@ukp"]
    plain.locator(".entry h2 a").focus()
    plain.keyboard.press("Enter")
    plain.wait_for_url("**/adapters/nli/scitail@ukp")
    assert plain.locator("h1").inner_text() == "nli/scitail@ukp"


def test_filters_fold_out_without_script(plain: Page, address: str):
    plain.goto(address + "/adapters")
    choice = plain.locator(".facet a", has_text="sentiment")
    assert not choice.is_visible()

    plain.get_by_role("checkbox", name="Filters").focus()
    plain.keyboard.press("Space")
    choice.click()

    plain.wait_for_url("**/adapters?task=sentiment")
    assert plain.locator(".found").inner_text() == "8 adapters"


def test_the_tabs_of_the_commands_work_without_script(plain: Page, address: str):
    plain.goto(address + "/adapters/sts/mrpc@ukp")
    shown = plain.locator(".get pre:visible")
    assert shown.all_inner_texts() == ["adapterhub-client pull sts/mrpc@ukp:1"]

    plain.get_by_text("Newest", exact=True).click()
    assert shown.all_inner_texts() == ["adapterhub-client pull sts/mrpc@ukp"]

    plain.get_by_role("radio", name="Command line").focus()
    plain.keyboard.press("ArrowRight")
    assert 'hub.pull("sts/mrpc@ukp", base=model)' in shown.inner_text()
    assert plain.locator(".copy-button:visible").count() == 0


@pytest.mark.parametrize("path", ["/methods/lora", "/methods/lora#content", "/compositions"])
def test_the_bar_of_a_phone_shows_where_one_is(scripted: Page, address: str, path: str):
    scripted.set_viewport_size({"width": 390, "height": 400})
    scripted.goto(address + path)
    scripted.locator("html.scripted").wait_for()

    place = scripted.locator(".top nav [aria-current]").bounding_box()

    assert place is not None
    assert place["x"] >= 0
    assert place["x"] + place["width"] <= 390
    assert (scripted.evaluate("window.scrollY") > 0) == ("#" in path)


@pytest.mark.parametrize(
    "path", ["/adapters/nli/multinli@ukp:3?variant=1", "/adapters/sts/mrpc@ukp"]
)
def test_the_copied_command_pulls_the_adapter(
    scripted: Page, address: str, path: str, tmp_path: Path
):
    scripted.goto(address + path)
    scripted.locator(".get .copy-button:visible").click()
    scripted.get_by_text("Copied").wait_for()
    command = scripted.evaluate("navigator.clipboard.readText()")
    assert command == scripted.locator(".get pre:visible").inner_text()

    cache = str(tmp_path / "cache")
    environment = os.environ | {"ADAPTERHUB_URL": address, "ADAPTERHUB_CACHE": cache}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    ran = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
    assert (Path(ran.stdout.strip()) / "adapter.safetensors").is_file()


def test_hostile_text_runs_nowhere(scripted: Page, address: str):
    requested: list[str] = []
    scripted.on("request", lambda request: requested.append(request.url))

    scripted.goto(address + "/adapters/hostile/text@eve")
    scripted.wait_for_load_state("networkidle")

    assert scripted.title().startswith("hostile/text@eve")
    assert {urlsplit(url).netloc for url in requested} == {urlsplit(address).netloc}
    assert scripted.locator("main script, main img, main iframe, main style").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path", ["/", "/adapters?task=nli", "/adapters/nli/multinli@ukp:1?variant=1"]
)
def test_text_can_be_told_from_what_is_behind_it(
    browser: Browser, address: str, path: str, scheme: str
):
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(address + path)

    faint = page.evaluate(CONTRAST)

    context.close()
    assert faint == []


CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const over = (top, under) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => top[i] * a + under[i] * (1 - a)); };
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    return over(numbers(getComputedStyle(element).backgroundColor), behind(element.parentElement));
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest("title, .unseen, .skip")) continue;
    const style = getComputedStyle(element), ground = behind(element);
    const colour = over(numbers(element.closest("svg") ? style.fill : style.color), ground);
    const faded = over([...colour, Number(style.opacity)], ground);
    const [dark, bright] = [luminance(faded), luminance(ground)].sort((a, b) => a - b);
    const ratio = (bright + 0.05) / (dark + 0.05);
    if (ratio < 4.5) found.push(`${element.className || element.tagName} ${ratio.toFixed(2)}`);
  }
  return found;
}"""
