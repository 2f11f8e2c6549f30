"""A zip gives what an adapter is made of, or nothing."""

import io
import stat
import zipfile
from pathlib import Path

import pytest
from tests.registry.importing.reference import zipped

from adapterhub_registry.importing.archive import ArchiveRefused, unpack

LIMIT = 1_000_000


def test_only_what_an_adapter_is_made_of_is_kept(tmp_path: Path) -> None:
    files = {
        "mnli/adapter_config.json": b"{}",
        "mnli/pytorch_adapter.bin": b"weights",
        "mnli/training_args.bin": b"other",
        "__MACOSX/mnli/adapter_config.json": b"x",
        ".DS_Store": b"x",
    }
    (tmp_path / "a.zip").write_bytes(zipped(files))
    (tmp_path / "out").mkdir()

    left_out = unpack(tmp_path / "a.zip", tmp_path / "out", LIMIT)

    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "adapter_config.json": b"{}",
        "pytorch_adapter.bin": b"weights",
    }
    assert sorted(left_out) == [
        ".DS_Store",
        "__MACOSX/mnli/adapter_config.json",
        "mnli/training_args.bin",
    ]


def linked() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("adapter_config.json")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(zipped({"../adapter_config.json": b"{}"}), "leads outside", id="up"),
        pytest.param(zipped({"/adapter_config.json": b"{}"}), "leads outside", id="absolute"),
        pytest.param(zipped({"a\\..\\b": b"{}"}), "leads outside", id="backslash"),
        pytest.param(linked(), "is a link", id="a symbolic link"),
        pytest.param(zipped({"adapter_config.json": b" " * 2_000_000}), "unpacks to", id="a bomb"),
        pytest.param(zipped({"x.bin": b""}), "has no adapter_config.json", id="no adapter"),
        pytest.param(
            zipped({"a/adapter_config.json": b"", "b/adapter_config.json": b""}),
            "has 2 adapters",
            id="two adapters",
        ),
        pytest.param(zipped({f"{at}": b"" for at in range(1001)}), "1001 entries", id="many"),
        pytest.param(b"no zip", "is no zip", id="no zip"),
    ],
)
def test_a_zip_that_is_not_harmless_is_refused(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    (tmp_path / "out").mkdir()

    with pytest.raises(ArchiveRefused, match=sentence):
        unpack(tmp_path / "a.zip", tmp_path / "out", LIMIT)

    assert list((tmp_path / "out").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "out"}
