"""Whole visits in a real browser, each on a registry of its own: find, compare, pull, publish, withdraw, leave."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page
from safetensors.numpy import load_file, save_file
from tests.factories import make_folder
from tests.registry.conftest import Clock, Hub
from tests.registry.web import sample, tensors
from tests.registry.web.conftest import PASSWORD, needs_browser, served, watched

from adapterhub_client import Hub as Client
from adapterhub_client import wire
from adapterhub_registry.app import create_app
from adapterhub_registry.service import account as accounts
from adapterhub_registry.settings import from_environment

pytestmark = needs_browser
OURS = "nli/multinli@lab"
REASON = "Trained on the test set by mistake."


class Terminal:
    """A shell of somebody who has the client, an empty cache, and nothing else."""

    def __init__(self, address: str, home: Path) -> None:
        self.home = home
        self.environment = os.environ | {
            "ADAPTERHUB_URL": address,
            "ADAPTERHUB_CACHE": str(home / "cache"),
            "ADAPTERHUB_CONFIG": str(home / "client.json"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.environment.pop("ADAPTERHUB_TOKEN", None)

    def __call__(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            ["/bin/sh", "-c", command],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran


@pytest.fixture
def registry(tmp_path: Path, sqlite_template: Path) -> Iterator[str]:
    """Some adapters of two organizations; gives the address."""
    shutil.copyfile(sqlite_template, tmp_path / "registry.sqlite")
    environment = {
        "ADAPTERHUB_HOME": str(tmp_path),
        "ADAPTERHUB_DATABASE_URL": f"sqlite:///{tmp_path / 'registry.sqlite'}",
        "ADAPTERHUB_SECRET_KEY": "for tests",
        "ADAPTERHUB_TRY_SECONDS": "0",
    }
    clock = Clock()
    hub = Hub(create_app(from_environment(environment), clock=clock), clock)
    ukp, lab = hub.token("ukp"), hub.token("lab")
    with hub.runtime.database.writing() as session:
        accounts.give_password(session, "lab", PASSWORD, clock())
    for name, method, value in (("qnli", sample.SEQ_BN, 0.904), ("scitail", sample.LORA, 0.931)):
        measured = [sample.metric(name, "accuracy", value, 0.003)]
        sample.publish(hub, ukp, f"nli/{name}@ukp", method=method, metrics=measured)
    sample.publish(hub, ukp, "sentiment/sst-2@ukp")
    folder = make_folder(tmp_path / "made")
    (folder / wire.BASE_FINGERPRINT_FILE).write_bytes(tensors.encoded(sample.BERT_LEAVES))
    with served(hub.app) as address:
        with Client(address, lab, tmp_path / "first") as client:
            client.push(OURS, folder)
        yield address
    hub.runtime.database.close()


@pytest.fixture
def terminal(registry: str, tmp_path: Path) -> Terminal:
    return Terminal(registry, tmp_path / "visitor")


@pytest.fixture
def plain(browser: Browser) -> Iterator[Page]:
    """A page without script."""
    context = browser.new_context(java_script_enabled=False)
    yield from watched(context.new_page())
    context.close()


def test_a_visit_from_the_first_search_to_signing_out(
    scripted: Page, registry: str, terminal: Terminal
):
    page = scripted
    page.goto(registry)
    page.get_by_role("link", name="All adapters").click()
    _narrow(page, "task", "nli")
    _narrow(page, "method", "seq_bn")
    page.wait_for_url("**/adapters?task=nli&method=seq_bn")
    assert set(page.locator(".entry h2").all_inner_texts()) == {OURS, "nli/qnli@ukp"}

    page.get_by_label("Compare nli/qnli@ukp").check()
    page.get_by_label(f"Compare {OURS}").check()
    page.get_by_role("button", name="Compare").click()
    columns = page.locator(".compare thead .ref")
    assert set(columns.all_inner_texts()) == {f"{OURS}:1", "nli/qnli@ukp:1"}

    columns.get_by_text("multinli").click()
    pulled = Path(terminal(_copied(page)).stdout.strip())
    assert (pulled / "adapter.safetensors").is_file()

    _sign_in(page)
    token = _token(page)
    said = terminal(
        f"adapterhub-client push {OURS} {_changed(pulled)}", ADAPTERHUB_TOKEN=token
    ).stdout
    assert said.startswith(f"{OURS}:2  sha256:")
    page.goto(f"{registry}/adapters/{OURS}")
    assert _copied(page) == f"adapterhub-client pull {OURS}:2"

    _yank(page)
    again = terminal(_copied(page))
    assert (Path(again.stdout.strip()) / "adapter.safetensors").is_file()
    assert REASON in again.stderr

    _sign_out(page)
    page.goto(f"{registry}/account")
    assert page.locator("h1").inner_text() == "Sign in"


def test_publishing_and_withdrawing_need_no_script(plain: Page, registry: str, terminal: Terminal):
    plain.goto(registry)
    _sign_in(plain)
    token = _token(plain)
    pulled = Path(terminal(f"adapterhub-client pull {OURS}").stdout.strip())
    terminal(f"adapterhub-client push {OURS} {_changed(pulled)}", ADAPTERHUB_TOKEN=token)

    plain.goto(f"{registry}/adapters/{OURS}")
    _yank(plain)
    plain.goto(f"{registry}/adapters/{OURS}")
    assert plain.locator(".get pre:visible").inner_text() == f"adapterhub-client pull {OURS}:1"

    _sign_out(plain)
    plain.goto(f"{registry}/account")
    plain.wait_for_url("**/sign-in?next=%2Faccount")
    assert plain.locator("h1").inner_text() == "Sign in"


def test_the_keyboard_alone_leads_from_a_search_to_an_adapter(scripted: Page, registry: str):
    scripted.goto(registry)
    _tab_to(scripted, "Search adapters")
    scripted.keyboard.type("ukp")
    scripted.keyboard.press("Enter")
    scripted.wait_for_url("**/adapters?q=ukp")

    _tab_to(scripted, "nli 2")
    scripted.keyboard.press("Enter")
    scripted.wait_for_url("**/adapters?q=ukp&task=nli")
    assert scripted.locator(".found").inner_text() == "2 adapters"

    _tab_to(scripted, "Compare nli/scitail@ukp")
    scripted.keyboard.press("Space")
    assert scripted.get_by_label("Compare nli/scitail@ukp").is_checked()
    _tab_to(scripted, "nli/scitail@ukp")
    scripted.keyboard.press("Enter")
    scripted.wait_for_url("**/adapters/nli/scitail@ukp")
    assert scripted.locator("h1").inner_text() == "nli/scitail@ukp"


def _narrow(page: Page, facet: str, choice: str) -> None:
    """Click an answer of a facet, and wait until it is among the chosen ones."""
    page.locator(f".facet.{facet} a", has_text=choice).click()
    page.locator(".chosen a", has_text=choice).wait_for()


def _copied(page: Page) -> str:
    """What the button beside the command puts on the clipboard."""
    page.locator(".get .copy-button:visible").click()
    page.get_by_text("Copied").wait_for()
    copied: str = page.evaluate("navigator.clipboard.readText()")
    return copied


def _sign_in(page: Page) -> None:
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Name").fill("lab")
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("main").get_by_role("button", name="Sign in").first.click()
    page.get_by_role("link", name="lab", exact=True).click()


def _token(page: Page) -> str:
    """Make a token that may publish; gives what the page shows of it, this once."""
    page.get_by_role("link", name="Tokens").click()
    page.get_by_label("What it is for").fill("a visit")
    page.get_by_label("read and publish").check()
    page.get_by_role("button", name="Make the token").click()
    shown = page.locator(".once pre").inner_text()
    assert shown.startswith("ahub_")
    page.goto(page.url)
    assert "a visit" in page.locator(".sheet").inner_text()
    assert shown not in page.content()
    return shown


def _yank(page: Page) -> None:
    """Withdraw the version on the page, by its own link, with the reason."""
    page.get_by_role("link", name="Yank, deprecate, name, hide").click()
    page.get_by_label("Reason, for everyone who has it").fill(REASON)
    page.get_by_role("button", name="Yank").click()
    warning = page.locator(".notice.yanked").inner_text()
    assert warning.splitlines()[0] == f"Version 2 is yanked. {REASON}"


def _sign_out(page: Page) -> None:
    page.get_by_role("link", name="lab", exact=True).click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.get_by_role("link", name="Sign in").wait_for()


def _changed(pulled: Path) -> Path:
    """The folder as if trained on: other weights."""
    folder = pulled.parent / "trained-on"
    shutil.copytree(pulled, folder, copy_function=shutil.copyfile)
    weights = load_file(folder / "adapter.safetensors")
    save_file(
        {name: each + np.float32(0.5) for name, each in weights.items()},
        folder / "adapter.safetensors",
    )
    return folder


def _tab_to(page: Page, name: str) -> None:
    """Press the tabulator until what is called so has the focus."""
    passed = []
    for _ in range(80):
        page.keyboard.press("Tab")
        passed.append(page.evaluate(NAME))
        if passed[-1] == name:
            return
    raise AssertionError(passed)


NAME = """() => {
  const at = document.activeElement;
  const named = at.getAttribute("aria-label") || at.labels?.[0]?.innerText || at.innerText;
  return named.replace(/\\s+/g, " ").trim();
}"""
"""of what has the focus"""
