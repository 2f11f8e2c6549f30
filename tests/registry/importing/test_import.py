"""What a reference hub lists becomes adapters, variants and, where its weights can be had, versions."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load
from sqlalchemy import select
from tests.registry.conftest import Hub, ok, problem
from tests.registry.importing.reference import (
    HOULSBY,
    PFEIFFER_ID,
    Reference,
    Web,
    adapter_zip,
    saved,
    tensors,
    zipped,
)

from adapterhub_client import wire
from adapterhub_client.errors import VersionNotFound
from adapterhub_client.transport import Transport
from adapterhub_registry.cli import main
from adapterhub_registry.importing import importer
from adapterhub_registry.importing.findings import Report
from adapterhub_registry.importing.reading import NoHub
from adapterhub_registry.models import AuditEvent, Model

ENTRY = "ukp/bert-base-uncased_nli_multinli_pfeiffer"


def take(hub: Hub, reference: Reference, **options: bool) -> Report:
    return importer.run(hub.runtime, reference.folder, lambda _: None, **options)


def resolve(hub: Hub, **query: str):
    return hub.get("/resolve?" + "&".join(f"{key}={quote(value)}" for key, value in query.items()))


def rows(hub: Hub) -> dict[str, list[Any]]:
    with hub.runtime.database.reading() as session:
        return {
            table.name: session.execute(select(table).order_by(*table.primary_key)).all()
            for table in Model.metadata.sorted_tables
        }


@pytest.mark.parametrize("old", [True, False], ids=["before torch 1.6", "since torch 1.6"])
def test_a_version_has_the_weights_of_its_zip(hub: Hub, reference: Reference, *, old: bool) -> None:
    reference.add(ENTRY, {"1": adapter_zip(old=old)}, score=84.5)

    report = take(hub, reference)

    found = ok(resolve(hub, ref="nli/multinli@ukp"), wire.Resolution)
    files = {file.path: file.sha256 for file in found.manifest.files}
    assert (report.counts.mirrored, report.counts.not_mirrored) == (1, 0)
    assert set(files) == {
        "adapter.safetensors",
        "adapter_config.json",
        "head_config.json",
        "model_head.safetensors",
    }
    weights = load(hub.get(f"/blobs/{files['adapter.safetensors']}").data)
    assert {name: value.tolist() for name, value in weights.items()} == {
        name: value.tolist() for name, value in tensors("a").items()
    }
    assert torch.equal(
        load(hub.get(f"/blobs/{files['model_head.safetensors']}").data)["heads.a.1.weight"],
        torch.ones(2, 8),
    )
    assert (found.version.config_id, found.version.method) == (PFEIFFER_ID, "seq_bn")
    assert found.version.base == wire.Base(
        name="bert-base-uncased", architecture="bert", hidden_size=8
    )
    assert found.manifest.heads == [
        wire.Head(name="a", type="classification", labels=["yes", "no"])
    ]
    assert found.manifest.metrics == [
        wire.Metric(dataset="multi_nli", split="reported", name="accuracy", value=84.5)
    ]
    assert found.version.created_by == "reference-hub"


def test_versions_answer_to_their_names_and_the_default_is_the_newest(
    hub: Hub, reference: Reference
) -> None:
    zips = {"nd": adapter_zip(1), "AdapterFusion": adapter_zip(2), "3dprinting": adapter_zip(3)}
    reference.add(ENTRY, zips)

    take(hub, reference)

    recorded = ok(hub.get("/adapters/nli/multinli@ukp"), wire.Adapter).recorded
    digests = {each.name: each.digest for each in recorded}
    pins = {"nd": "nd", "adapterfusion": "AdapterFusion", "v3dprinting": "3dprinting"}
    for pin, name in pins.items():
        answer = ok(resolve(hub, ref=f"nli/multinli@ukp:{pin}"), wire.Resolution)
        assert answer.version.digest == digests[name]
    newest = ok(resolve(hub, ref="nli/multinli@ukp"), wire.Resolution).version
    default = ok(resolve(hub, ref="nli/multinli@ukp:default"), wire.Resolution).version
    assert newest.digest == default.digest == digests["nd"]
    assert [each.is_default for each in recorded] == [True, False, False]


def test_versions_that_are_called_by_numbers_keep_them(hub: Hub, reference: Reference) -> None:
    zips = {"2": adapter_zip(2), "1": adapter_zip(1), "3": adapter_zip(3)}
    reference.add(ENTRY, zips)
    lost = reference.web.files.pop(f"/{ENTRY}/2.zip")

    take(hub, reference)
    before = {each.name: each.state for each in listed(hub)}
    reference.web.files[f"/{ENTRY}/2.zip"] = lost
    take(hub, reference, resume=True)

    assert before == {"1": "mirrored", "2": "failed", "3": "failed"}
    for each in listed(hub):
        answer = ok(resolve(hub, ref=f"nli/multinli@ukp:{each.name}"), wire.Resolution)
        assert answer.version.digest == each.digest


def listed(hub: Hub) -> list[wire.Recorded]:
    return ok(hub.get("/adapters/nli/multinli@ukp"), wire.Adapter).recorded


def test_importing_twice_changes_nothing(hub: Hub, reference: Reference) -> None:
    reference.add(ENTRY, {"1": adapter_zip()})
    reference.add("ukp/gone", {"1": adapter_zip(1)}, config={"using": "houlsby"})
    del reference.web.files["/ukp/gone/1.zip"]
    take(hub, reference)
    before = rows(hub)
    hub.clock.move(days=1)

    again = take(hub, reference)

    assert rows(hub) == before
    assert (again.counts.created, again.counts.updated, again.counts.unchanged) == (0, 0, 2)
    assert (again.counts.mirrored, again.counts.mirrored_before, again.counts.not_mirrored) == (
        0,
        1,
        1,
    )


def test_an_import_that_is_stopped_goes_on(hub: Hub, reference: Reference) -> None:
    zips = {"nd": adapter_zip(1), "wd": adapter_zip(2), "madx": adapter_zip(3)}
    reference.add(ENTRY, zips)

    def stop(line: str) -> None:
        if line.endswith("madx"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importer.run(hub.runtime, reference.folder, stop)
    asked = len(reference.web.asked)
    report = take(hub, reference)

    assert (report.counts.mirrored, report.counts.mirrored_before) == (2, 1)
    assert asked == 1
    assert len(reference.web.asked) == 3


def test_what_has_no_weights_is_told_from_what_is_not_there(hub: Hub, reference: Reference) -> None:
    reference.add(ENTRY, {"1": adapter_zip()})
    address = f"{reference.web.address}/{ENTRY}/1.zip"
    reference.web.files.clear()

    report = take(hub, reference)

    refused = problem(resolve(hub, ref="nli/multinli@ukp", base="bert-base-uncased"))
    assert (refused.status, refused.code, refused.candidates) == (409, "not_mirrored", [])
    assert address in refused.detail
    assert [(each.url, each.state) for each in refused.recorded] == [(address, "failed")]
    assert refused.recorded[0].fault is not None
    assert "answers with 404" in refused.recorded[0].fault
    assert [each.kind for each in report.findings if each.subject.startswith("adapters")] == [
        "not_mirrored"
    ]


def test_a_pull_says_where_the_weights_are(hub: Hub, reference: Reference) -> None:
    reference.add(ENTRY, {"1": adapter_zip()})
    take(hub, reference, metadata_only=True)
    transport = Transport("http://localhost", through=httpx2.WSGITransport(app=hub.app))

    with pytest.raises(VersionNotFound, match="recorded here without its weights") as refused:
        transport.request(
            "GET", "/api/v1/resolve", wire.Resolution, params={"ref": "nli/multinli@ukp"}
        )
    transport.close()

    assert f"{reference.web.address}/{ENTRY}/1.zip" in (refused.value.hint or "")
    assert refused.value.exit_code == 66


def test_another_base_config_or_version_gives_the_candidates(
    hub: Hub, reference: Reference
) -> None:
    reference.add(ENTRY, {"nd": adapter_zip(1), "wd": adapter_zip(2)})
    take(hub, reference, metadata_only=True)

    asked = {
        "no_variant_for_base": {"base": "roberta-base"},
        "no_variant_for_config": {"base": "bert-base-uncased", "config": "lora"},
        "version_not_found": {"base": "bert-base-uncased", "version": "madx"},
        "adapter_not_found": {"ref": "nli/multinli@other"},
    }

    for code, query in asked.items():
        refused = problem(resolve(hub, **{"ref": "nli/multinli@ukp", **query}))
        assert refused.code == code
        assert refused.candidates == []
        if code == "adapter_not_found":
            assert refused.nearest == ["nli/multinli@ukp"]
        else:
            assert [each.name for each in refused.recorded] == ["nd", "wd"]


def test_what_is_only_recorded_never_answers_for_what_is_here(
    hub: Hub, reference: Reference
) -> None:
    reference.add(ENTRY, {"1": adapter_zip()})
    reference.add("ukp/other", {"1": adapter_zip(1, config=HOULSBY)}, config={"using": "houlsby"})
    del reference.web.files["/ukp/other/1.zip"]
    take(hub, reference)

    here = ok(resolve(hub, ref="nli/multinli@ukp", config="seq_bn"), wire.Resolution)
    refused = problem(resolve(hub, ref="nli/multinli@ukp", config="double_seq_bn"))

    assert here.version.config_id == PFEIFFER_ID
    assert refused.code == "not_mirrored"


def test_weights_that_come_later_are_resumed(hub: Hub, reference: Reference) -> None:
    reference.add(ENTRY, {"1": adapter_zip()})
    content = reference.web.files.pop(f"/{ENTRY}/1.zip")
    take(hub, reference)
    reference.web.files[f"/{ENTRY}/1.zip"] = content

    plain = take(hub, reference)
    resumed = take(hub, reference, resume=True)

    assert (plain.counts.mirrored, resumed.counts.mirrored) == (0, 1)
    assert ok(resolve(hub, ref="nli/multinli@ukp"), wire.Resolution).version.number == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"x", "its zip is refused: it is no zip", id="no zip"),
        pytest.param(
            zipped({"adapter_config.json": b"[]", "pytorch_adapter.bin": saved(tensors("a"))}),
            "its adapter_config.json is no object",
            id="a config that is none",
        ),
        pytest.param(
            zipped({"adapter_config.json": b"{}", "pytorch_adapter.bin": saved({"a": 1})}),
            "its weights are refused: 'a' in it is no tensor",
            id="more than tensors",
        ),
        pytest.param(
            zipped({"adapter_config.json": b"{}"}),
            "there is no .safetensors file",
            id="no weights",
        ),
    ],
)
def test_what_is_no_adapter_is_recorded_only(
    hub: Hub, reference: Reference, content: bytes, sentence: str
) -> None:
    reference.add(ENTRY, {"1": content})

    take(hub, reference)

    (file,) = listed(hub)
    assert file.state == "failed"
    assert sentence in (file.fault or "")


def test_bytes_that_are_others_are_not_taken(hub: Hub, reference: Reference) -> None:
    reference.add(ENTRY, {"1": adapter_zip()})
    reference.web.files[f"/{ENTRY}/1.zip"] = adapter_zip(9)

    take(hub, reference)

    (file,) = listed(hub)
    assert "its sha1 is" in (file.fault or "")


def test_a_host_that_does_not_answer_is_not_asked_for_ever(
    hub: Hub, reference: Reference, web: Web
) -> None:
    reference.add(ENTRY, {f"v{at}": adapter_zip(at) for at in range(5)})
    web.close()

    take(hub, reference)

    faults = [each.fault or "" for each in listed(hub)]
    assert sum("does not answer" in fault for fault in faults) == 3
    assert sum("was not asked again" in fault for fault in faults) == 2


@pytest.fixture
def web() -> Any:
    server = Web()
    yield server
    if server.is_open:
        server.close()


def test_the_config_of_the_zip_counts_under_the_id_of_the_hub(
    hub: Hub, reference: Reference
) -> None:
    config = {**HOULSBY, "invertible_adapter": {"block_type": "nice"}}
    reference.add(ENTRY, {"1": adapter_zip(config=config)})

    report = take(hub, reference)

    found = ok(resolve(hub, ref="nli/multinli@ukp", config=PFEIFFER_ID), wire.Resolution)
    assert found.manifest.method.config == config
    assert "config_differs" in {each.kind for each in report.findings}


def test_what_it_was_trained_with_is_its_lineage(hub: Hub, reference: Reference) -> None:
    reference.add(
        "ada/task",
        {"1": adapter_zip(1)},
        dependencies=[{"key": "en/wiki@ukp", "description": "stacked on it"}],
    )
    reference.add("ukp/en", {"1": adapter_zip(2)}, type="text_lang", task="en", subtask="wiki")

    take(hub, reference)

    language = ok(resolve(hub, ref="en/wiki@ukp"), wire.Resolution)
    task = ok(resolve(hub, ref="nli/multinli@ada"), wire.Resolution)
    assert task.manifest.lineage == [wire.Lineage(kind="source", digest=language.version.digest)]
    assert language.manifest.languages == ["en"]


def test_a_change_upstream_is_followed_until_weights_are_here(
    hub: Hub, reference: Reference
) -> None:
    reference.add(ENTRY, {"1": adapter_zip()}, description="old")
    take(hub, reference, metadata_only=True)
    reference.add(ENTRY, {"1": adapter_zip(5), "2": adapter_zip(6)}, description="new")

    changed = take(hub, reference)

    assert changed.counts.updated == 1
    assert changed.counts.mirrored == 2
    found = ok(resolve(hub, ref="nli/multinli@ukp"), wire.Resolution)
    assert found.manifest.description == "new"


def test_every_change_is_in_the_audit_log(hub: Hub, reference: Reference) -> None:
    reference.add(ENTRY, {"1": adapter_zip()})

    take(hub, reference)

    with hub.runtime.database.reading() as session:
        actions = session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)).all()
    assert actions == [
        "account.create",
        "org.create",
        "adapter.create",
        "import.create",
        "version.publish",
        "import.mirror",
    ]


def test_a_folder_that_is_no_hub_is_refused(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(NoHub, match="has no folder `adapters`"):
        importer.run(hub.runtime, tmp_path, lambda _: None)


def test_the_command_writes_a_table_and_a_report(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "BLOBS", "SECRET_KEY", "PUBLIC_URL"):
        monkeypatch.delenv(f"ADAPTERHUB_{name}", raising=False)
    monkeypatch.setenv("ADAPTERHUB_HOME", str(tmp_path / "home"))
    reference.add(ENTRY, {"1": adapter_zip()}, twitter="@ada")
    report = tmp_path / "report.json"

    run = CliRunner().invoke(
        main, ["import-hub", str(reference.folder), "--report", str(report), "--resume"]
    )

    assert run.exit_code == 0, run.output
    assert "1 entries with 1 file versions of 1 adapters" in run.stdout
    assert "handle" in run.stdout
    written = json.loads(report.read_text())
    assert written["counts"]["mirrored"] == 1
    assert {
        "kind": "handle",
        "subject": f"adapters/{ENTRY}.yaml",
        "wrong": "the twitter handle is '@ada'",
        "done": "it is 'ada' here",
    } in written["findings"]
