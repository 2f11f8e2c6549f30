"""Take a picture of every page: on a desktop and on a phone, light and dark.

python -m tests.screenshots screenshots [--only adapter]
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import structlog
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from tests.registry.web import sample
from tests.screenshots import stage
from tests.screenshots.pages import PAGES, SIGNED_IN

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")


def main() -> None:
    """Build a registry, serve it, take the pictures."""
    given = _arguments()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    snapshot = stage.SNAPSHOT if stage.SNAPSHOT.exists() else None
    with tempfile.TemporaryDirectory() as home:
        hub = stage.build(Path(home), snapshot)
        with stage.served(hub) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            taken = sum(1 for _ in _pictures(browser, address, given))
            browser.close()
        hub.runtime.database.close()
    print(f"{taken} pictures in {given.folder}")  # noqa: T201


def _pictures(browser: Browser, address: str, given: argparse.Namespace) -> Iterator[Path]:
    for screen, (width, height) in SCREENS.items():
        for scheme in SCHEMES:
            if given.quick and (screen, scheme) not in {("desktop", "light"), ("phone", "dark")}:
                continue
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                device_scale_factor=given.scale,
            )
            yield from _of_context(context, address, given, f"{screen}-{scheme}")
            context.close()


def _of_context(
    context: BrowserContext, address: str, given: argparse.Namespace, kind: str
) -> Iterator[Path]:
    page = context.new_page()
    yield from _shoot(page, address, given, kind, PAGES)
    page.goto(address + "/sign-in")
    page.get_by_label("Name").fill(stage.ACCOUNT)
    page.get_by_label("Password").fill(stage.PASSWORD)
    page.get_by_role("button", name="Sign in").first.click()
    page.wait_for_url("**/account")
    yield from _shoot(page, address, given, kind, SIGNED_IN)


def _shoot(
    page: Page, address: str, given: argparse.Namespace, kind: str, pages: dict[str, str]
) -> Iterator[Path]:
    for name, path in pages.items():
        if given.only and given.only not in name:
            continue
        page.goto(address + path.replace("BERT", sample.BERT["fingerprint"]))
        page.evaluate("document.fonts.ready")
        target = given.folder / f"{name}-{kind}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=target, full_page=True)
        yield target


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="pages whose name has this")
    parser.add_argument("--quick", action="store_true", help="one desktop, one phone")
    parser.add_argument("--scale", type=float, default=1.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
