"""Measure when a page stands there in a real browser: Chromium on the loopback, nothing cached, a catalogue of 10,000.

    python tests/benchmarks/paint.py --database sqlite:////tmp/pages.sqlite

The database is that of `pages.py`, filled where it is empty. Each reading is a browser context of its own, so fonts,
styles and script travel every time. What is measured is the largest contentful paint, from the start of the navigation,
and the bytes of the page and of its scripts as they travelled: scripts compressed, pages as they are, since compressing
those is the proxy's part. The kinds take turns, so that what else the machine does falls on all alike.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import msgspec
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import pages
from tests.benchmarks.registry import say, served

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 3,
        "is_mobile": True,
        "has_touch": True,
    },
}
PAINTED = """() => new Promise((done) => {
  let last = 0;
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) last = entry.startTime;
  });
  observer.observe({ type: "largest-contentful-paint", buffered: true });
  setTimeout(() => done(last), 300);
})"""
"""the time of the last candidate, in milliseconds"""


class Reading(msgspec.Struct, frozen=True):
    """One page, read once."""

    painted: float
    """milliseconds from the start of the navigation"""
    html: int
    """bytes, as they travelled"""
    script: int
    everything: int


def main() -> None:
    """Fill, serve, read, print."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as home:
        environment = pages.environment(given.database, home, given.blobs)
        asked = pages.prepare(environment, pages.catalogue.Size(given.adapters, given.versions))
        compared = "&".join(f"with={each}" for each in asked.adapters[:4])
        paths = {
            "start": "/",
            "search": "/adapters?q=sentence",
            "adapter": f"/adapters/{asked.adapters[0]}",
            "adapter, rich": pages.RICH[1],
            "leaderboard": f"/leaderboards/{asked.datasets[0]}",
            "compare": f"/compare?{compared}",
        }
        with served(environment, given.port), sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            _print(_read_all(browser, f"http://127.0.0.1:{given.port}", paths, given.readings))
            browser.close()


def _read_all(
    browser: Browser, address: str, paths: dict[str, str], readings: int
) -> dict[tuple[str, str], list[Reading]]:
    """Every page on every screen, in turn; the first round only warms the server."""
    found: dict[tuple[str, str], list[Reading]] = {
        (name, screen): [] for name in paths for screen in SCREENS
    }
    for at in range(readings + 1):
        for (name, screen), taken in found.items():
            reading = _read(browser, address + paths[name], screen)
            if at:
                taken.append(reading)
    return found


def _read(browser: Browser, url: str, screen: str) -> Reading:
    context = browser.new_context(**SCREENS[screen])
    page = context.new_page()
    page.goto(url, wait_until="load")
    painted = page.evaluate(PAINTED)
    sizes = [(each.resource_type, each.sizes()["responseBodySize"]) for each in page.requests()]
    context.close()
    return Reading(
        painted=painted,
        html=sum(size for kind, size in sizes if kind == "document"),
        script=sum(size for kind, size in sizes if kind == "script"),
        everything=sum(size for _, size in sizes),
    )


def _print(found: dict[tuple[str, str], list[Reading]]) -> None:
    say(f"{'':16}{'':9}{'median':>8}{'worst':>8}{'HTML':>9}{'script':>9}{'all':>9}")
    say(f"{'':16}{'':9}{'ms':>8}{'ms':>8}{'bytes':>9}{'bytes':>9}{'bytes':>9}")
    for (name, screen), readings in found.items():
        times = [each.painted for each in readings]
        last = readings[-1]
        say(
            f"{name:16}{screen:9}{statistics.median(times):8.0f}{max(times):8.0f}"
            f"{last.html:9,}{last.script:9,}{last.everything:9,}"
        )
    say("to reach: 800 ms; HTML of 60,000 bytes, script of 30,000")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", required=True, help="filled where it is empty")
    parser.add_argument("--blobs", help="the folder of the bytes, for a database that is kept")
    parser.add_argument("--adapters", type=int, default=10_000)
    parser.add_argument("--versions", type=int, default=40_000)
    parser.add_argument("--readings", type=int, default=9, help="of each page on each screen")
    parser.add_argument("--port", type=int, default=8498)
    return parser.parse_args()


if __name__ == "__main__":
    main()
