"""C4: what happens when something is deleted, hidden, transferred or collected while others publish."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.factories import make_files, make_manifest, sha256
from tests.registry.conftest import Hub, ok, problem
from werkzeug.test import TestResponse

from adapterhub_client import wire
from adapterhub_registry.models import Adapter, Member, Tombstone, Variant, Version
from adapterhub_registry.service import garbage, integrity
from adapterhub_registry.service import organization as organizations
from adapterhub_registry.storage import FolderStore

ADAPTER = "/adapters/nli/multinli@ukp"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "blobs")


def publish(hub: Hub, token: str, seed: int, reference: str = "nli/multinli@ukp") -> TestResponse:
    """Publish and give the answer, whatever it is."""
    return send(hub, token, make_manifest(reference, make_files(seed)), make_files(seed))


def send(hub: Hub, token: str, manifest: wire.Manifest, files: dict[str, bytes]) -> TestResponse:
    begun = hub.call("POST", "/uploads", token, body=wire.UploadDraft(manifest=manifest))
    if begun.status_code != 201:
        return begun
    upload = ok(begun, wire.Upload)
    contents = {sha256(content): content for content in files.values()}
    for target in upload.missing:
        path = target.url.removeprefix("/api/v1")
        hub.call("PUT", path, token, data=contents[target.sha256])
    return hub.call("POST", f"/uploads/{upload.id}/commit", token)


def together(*calls: Callable[[], TestResponse]) -> list[TestResponse]:
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], TestResponse]) -> TestResponse:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result() for each in [pool.submit(run, call) for call in calls]]


def test_c4_numbers_are_not_given_twice_while_versions_are_deleted(hub: Hub) -> None:
    token = hub.token("ukp")
    for seed in range(3):
        assert publish(hub, token, seed).status_code == 201

    def remove(number: int) -> Callable[[], TestResponse]:
        path = f"{ADAPTER}/versions/{number}?reason=race"
        return lambda: hub.call("DELETE", path, token)

    answers = together(
        *(remove(number) for number in (2, 3)),
        *(lambda seed=seed: publish(hub, token, seed) for seed in (10, 11, 12)),
    )

    assert [each.status_code for each in answers] == [200, 200, 201, 201, 201]
    with hub.runtime.database.reading() as session:
        living = session.scalars(select(Version.number)).all()
        gone = session.scalars(select(Tombstone.number)).all()
    assert sorted([*living, *gone]) == [1, 2, 3, 4, 5, 6]


def test_c4_a_publish_beside_the_deletion_of_its_adapter_is_whole_or_refused(hub: Hub) -> None:
    token = hub.token("ukp")
    publish(hub, token, 0)

    answers = together(
        lambda: hub.call("DELETE", f"{ADAPTER}?reason=race", token),
        *(lambda seed=seed: publish(hub, token, seed) for seed in (10, 11)),
    )

    # A blob that was known when the upload began may have gone with the version: it has to be sent again.
    refusals = {"name_retired", "deleted", "upload_incomplete"}
    assert answers[0].status_code == 200
    for answer in answers[1:]:
        assert answer.status_code == 201 or problem(answer).code in refusals
    with hub.runtime.database.reading() as session:
        for model in (Adapter, Variant, Version):
            assert session.scalars(select(model)).all() == []
        graves = len(session.scalars(select(Tombstone)).all())
    assert graves == 1 + sum(answer.status_code == 201 for answer in answers[1:])


def test_c4_a_publish_beside_a_transfer_lands_in_one_adapter_or_is_refused(hub: Hub) -> None:
    token = hub.token("ukp")
    with hub.runtime.database.writing() as session:
        organizations.found(session, "lab", "ukp", hub.clock())
    publish(hub, token, 0)

    answers = together(
        lambda: hub.call("POST", f"{ADAPTER}/transfer", token, body={"org": "lab"}),
        *(lambda seed=seed: publish(hub, token, seed) for seed in (10, 11)),
    )

    assert answers[0].status_code == 200
    for answer in answers[1:]:
        assert answer.status_code == 201 or problem(answer).code == "name_moved"
    with hub.runtime.database.reading() as session:
        assert session.scalars(select(Adapter.full_name)).all() == ["nli/multinli@lab"]
        numbers = sorted(session.scalars(select(Version.number)))
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("change", ["hide", "delete"])
def test_c4_no_public_composition_is_left_with_a_member_that_is_not(hub: Hub, change: str) -> None:
    token = hub.token("ukp")
    publish(hub, token, 0)
    with hub.runtime.database.reading() as session:
        digest = session.scalars(select(Version.digest)).one()
    member = wire.Member(name="m", reference="nli/multinli@ukp", digest=digest)
    manifest = make_manifest(
        "nli/fused@ukp",
        make_files(5),
        method={"name": "fusion", "config_id": "f" * 16, "format": "composition"},
        composition=wire.Composition(expression="stack(m)", members=[member]),
    )
    body = {"body": {"private": True}} if change == "hide" else {}
    path = f"{ADAPTER}/visibility" if change == "hide" else f"{ADAPTER}/versions/1?reason=race"
    method = "PUT" if change == "hide" else "DELETE"

    changed, published = together(
        lambda: hub.call(method, path, token, **body),
        lambda: send(hub, token, manifest, make_files(5)),
    )

    assert (changed.status_code, published.status_code) in {(200, 409), (409, 201), (200, 422)}
    with hub.runtime.database.reading() as session:
        pinned = session.scalars(select(Member)).all()
    assert len(pinned) == (published.status_code == 201)


def test_c4_collection_beside_deletion_and_publishing_takes_nothing_that_is_needed(
    hub: Hub, store: FolderStore
) -> None:
    token = hub.token("ukp")
    hub.clock.moment = datetime.now(UTC) + timedelta(hours=1)
    wish = garbage.Wish(grace=timedelta(0))
    done = threading.Event()

    def sweep() -> None:
        while not done.wait(0.02):
            garbage.sweep(hub.runtime, wish)

    sweeper = threading.Thread(target=sweep)
    for seed in range(4):
        publish(hub, token, seed)
    sweeper.start()
    try:
        for number in range(1, 5):
            hub.call("DELETE", f"{ADAPTER}/versions/{number}?reason=race", token)
            again = publish(hub, token, number - 1, f"nli/again{number}@ukp")
            assert again.status_code in {201, 409}
    finally:
        done.set()
        sweeper.join()

    assert list(integrity.check(hub.runtime)) == []
