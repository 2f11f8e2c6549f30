"""A reference hub of this machine, and the snapshot of the real one."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.compose.conftest import shared_folder
from tests.registry.importing.reference import Reference, Web


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


@pytest.fixture
def reference(tmp_path: Path, web: Web) -> Reference:
    return Reference(tmp_path / "reference", web)


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository of the real reference hub: its documents, no weights."""
    packed = shared_folder() / "hub-snapshot" / "hub.tar.gz"
    if not packed.exists():
        pytest.skip("no snapshot of the reference hub")
    folder = tmp_path_factory.mktemp("snapshot")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder
