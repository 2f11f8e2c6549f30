"""One filled catalogue for all tests that only read, one server on the loopback for the browser, and who watches it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, Request, sync_playwright
from sqlalchemy import select
from tests.registry.conftest import Clock, Hub
from tests.registry.web import sample
from tests.registry.web.hostile import HOSTILE, LICENSE
from werkzeug.serving import make_server

from adapterhub_registry import migration
from adapterhub_registry.app import create_app
from adapterhub_registry.database import Database
from adapterhub_registry.models import Version
from adapterhub_registry.service import account as accounts
from adapterhub_registry.service import indexing
from adapterhub_registry.settings import from_environment
from adapterhub_registry.storage import MemoryStore

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PASSWORD = "a long walk by the sea"
"""of the account `lab`"""
needs_browser = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory) -> Iterator[Hub]:
    """The sample catalogue, over SQLite and a store in memory."""
    home = tmp_path_factory.mktemp("catalogue")
    environment = {"ADAPTERHUB_HOME": str(home), "ADAPTERHUB_BLOBS": "memory:"}
    environment |= {"ADAPTERHUB_TRY_SECONDS": "0"}
    settings = from_environment(environment | {"ADAPTERHUB_SECRET_KEY": "for tests"})
    database = Database(settings.database_url)
    migration.migrate(database)
    database.close()
    clock = Clock()
    hub = Hub(create_app(settings, store=MemoryStore(), clock=clock), clock)
    sample.fill(hub)
    release = sample.publish(hub, hub.token("eve"), "hostile/text@eve", **HOSTILE)
    license_anew(hub, release.digest, LICENSE)
    with hub.runtime.database.writing() as session:
        accounts.give_password(session, "lab", PASSWORD, clock())
        accounts.find_account(session, "lab").is_admin = True
    yield hub
    hub.runtime.database.close()


def license_anew(hub: Hub, digest: str, license_name: str) -> None:
    """Put a licence into a version that no rule would let in."""
    with hub.runtime.database.writing() as session:
        version = session.scalars(select(Version).where(Version.digest == digest)).one()
        manifest = msgspec.json.decode(version.manifest)
        version.manifest = msgspec.json.encode(manifest | {"license": license_name})
        adapter = version.variant.adapter
        adapter.license = license_name
        indexing.refresh(session, [adapter.id])


@pytest.fixture(scope="session")
def address(catalogue) -> Iterator[str]:
    """The sample catalogue on a real socket."""
    with served(catalogue.app) as found:
        yield found


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """An application on a socket of the loopback; gives its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def scripted(browser: Browser) -> Iterator[Page]:
    """A page with script and a clipboard; whatever the browser complains about fails the test."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    yield from watched(context.new_page())
    context.close()


def watched(page: Page) -> Iterator[Page]:
    complaints: list[str] = []

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page was left before all of it had come
            complaints.append(request.url)

    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", failed)
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    yield page
    assert complaints == []
