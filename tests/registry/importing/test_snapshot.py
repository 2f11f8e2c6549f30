"""The real reference hub: all of its 291 entries, and every identifier of them."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import func, select
from tests.registry.conftest import Clock, Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry import request as requests
from adapterhub_registry.app import create_app
from adapterhub_registry.importing import importer
from adapterhub_registry.importing.findings import Report, table
from adapterhub_registry.importing.reading import Repository, read
from adapterhub_registry.models import Architecture, ImportedFile, Subtask, TaskProfile, Variant
from adapterhub_registry.settings import from_environment
from adapterhub_registry.storage import MemoryStore


@pytest.fixture(scope="module")
def hub(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    home = tmp_path_factory.mktemp("home")
    shutil.copyfile(sqlite_template, home / "registry.sqlite")
    settings = from_environment({"ADAPTERHUB_HOME": str(home), "ADAPTERHUB_SECRET_KEY": "test"})
    clock = Clock()
    app = create_app(settings, store=MemoryStore(), clock=clock)
    yield Hub(app, clock)
    with app.app_context():
        requests.runtime().database.close()


@pytest.fixture(scope="module")
def report(hub: Hub, snapshot: Path) -> Report:
    return importer.run(hub.runtime, snapshot, lambda _: None, metadata_only=True)


@pytest.fixture(scope="module")
def repository(snapshot: Path) -> Repository:
    return read(snapshot)


def refused(hub: Hub, reference: str, **query: str) -> wire.Problem:
    extra = "".join(f"&{key}={quote(value)}" for key, value in query.items())
    return problem(hub.get(f"/resolve?ref={quote(reference)}{extra}"))


def test_everything_is_there(hub: Hub, report: Report) -> None:
    with hub.runtime.database.reading() as session:
        rows = {
            model.__tablename__: session.scalar(select(func.count()).select_from(model))
            for model in (Variant, ImportedFile, TaskProfile, Subtask, Architecture)
        }

    assert rows == {
        "variant": 291,
        "imported_file": 501,
        "task_profile": 123,
        "subtask": 188,
        "architecture": 5,
    }
    assert (report.counts.entries, report.counts.files) == (291, 501)
    assert report.counts.not_mirrored == 501


def test_configs_have_the_ids_of_the_reference_index(repository: Repository) -> None:
    """The numbers of the real index; one entry's factor is a float, and so has an id of its own."""
    assert Counter(entry.config_id for entry in repository.entries) == {
        "9076f36a74755ac4": 101,
        "e15331acc3f0a5c0": 64,
        "b1017368d7a97b11": 46,
        "d345095bcb01e325": 45,
        "f10efa747ae87c60": 26,
        "57d1ca6590547ddd": 4,
        "ec8c0cba5e6454ec": 2,
        "a6c620158938303a": 1,
        "fbcd3ea118026d02": 1,
        "e36ab9a116654f61": 1,
    }


def test_every_trap_is_in_the_report(report: Report) -> None:
    kinds = Counter(finding.kind for finding in report.findings)
    subjects = {finding.kind: finding.subject for finding in report.findings}

    assert kinds == {
        "malformed_name": 1,
        "file_name": 18,
        "file_ending": 1,
        "dependency_key": 6,
        "float_factor": 1,
        "language": 48,
        "metric_name": 10,
        "empty_field": 185,
        "handle": 256,
        "old_gelu": 75,
        "language_adapter": 134,
        "version_name": 1,
    }
    assert subjects["malformed_name"] == "tasks/text_task/text-classification.yml"
    assert subjects["float_factor"].startswith("adapters/kabirahuja2431/")
    assert all(kind in table(report) for kind in kinds)


def test_every_identifier_answers(hub: Hub, report: Report, repository: Repository) -> None:
    """Without weights here, the answer is where they are: for each base, and for each config of it."""
    identifiers = {entry.reference.adapter for entry in repository.entries}

    for identifier in identifiers:
        assert refused(hub, identifier).code == "not_mirrored"
    for entry in repository.entries:
        found = refused(hub, entry.reference.adapter, base=entry.model_name, config=entry.config_id)
        urls = {each.url for each in found.recorded}
        assert found.code == "not_mirrored"
        assert urls <= {file.url for file in entry.files}
        assert any(file.url in found.detail for file in entry.files)

    assert len(identifiers) == report.counts.identifiers == 95


def test_another_config_org_or_version_never_answers(
    hub: Hub, report: Report, repository: Repository
) -> None:
    for entry in repository.entries:
        name, base = entry.reference.adapter, entry.model_name
        own = {each.config_id for each in repository.entries if each.reference.adapter == name}

        config = refused(hub, name, base=base, config="0123456789abcdef")
        version = refused(hub, name, base=base, config=entry.config_id, version="unheard-of")

        assert config.code == "no_variant_for_config"
        assert {each.base for each in config.recorded} == {base}
        assert {each.config_id for each in config.recorded} <= own
        assert version.code == "version_not_found"
        assert {each.config_id for each in version.recorded} == {entry.config_id}
        assert {each.reference for each in config.recorded + version.recorded} == {name}
    for name in {entry.reference.adapter for entry in repository.entries}:
        elsewhere = refused(hub, name.replace("@", "@no-such-"))
        assert elsewhere.code == "adapter_not_found"
        assert elsewhere.recorded == []
        base = refused(hub, name, base="no-such-base")
        assert base.code == "no_variant_for_base"
        assert {each.reference for each in base.recorded} == {name}


def test_versions_keep_their_names(hub: Hub, report: Report) -> None:
    adapter = ok(hub.get("/adapters/sts/stackexchange@ukp"), wire.Adapter)

    names = [each.name for each in adapter.recorded]

    assert len(names) == len(set(names)) == 141
    assert names[0] == "cooking_stackexchange_com"
    assert adapter.summary.not_mirrored == 141


def test_search_finds_what_is_only_recorded(
    hub: Hub, report: Report, repository: Repository
) -> None:
    queries = {
        "task=nli": lambda entry: entry.task == "nli",
        "base=gpt2&task=nli": lambda entry: (entry.model_name, entry.task) == ("gpt2", "nli"),
        "org=mlki": lambda entry: entry.reference.org == "mlki",
        "language=sw": lambda entry: entry.task == "sw",
        "method=double_seq_bn": lambda entry: entry.architecture == "houlsby",
        "q=multinli": lambda entry: entry.subtask == "multinli",
    }

    for query, fits in queries.items():
        page = ok(hub.get(f"/adapters?{query}&limit=200"), wire.AdapterPage)
        expected = {each.reference.adapter for each in repository.entries if fits(each)}
        assert {item.reference for item in page.items} == expected != set(), query
        assert all(item.not_mirrored and not item.versions for item in page.items)


def test_the_second_import_changes_nothing(hub: Hub, report: Report, snapshot: Path) -> None:
    again = importer.run(hub.runtime, snapshot, lambda _: None, metadata_only=True)

    assert (again.counts.created, again.counts.updated, again.counts.unchanged) == (0, 0, 291)
    assert again.findings == report.findings
