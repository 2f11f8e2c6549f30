"""What a manifest must obey."""

from pathlib import Path

import msgspec
import pytest
from tests.factories import make_files, make_manifest

from adapterhub_client import wire
from adapterhub_registry.service.rules import faults, path_faults
from adapterhub_registry.settings import Settings

SETTINGS = Settings(
    home=Path(), database_url="", blobs="", secret_key="", max_files=4, max_blob_bytes=1000
)
SHA = "a" * 64
DIGEST = f"sha256:{SHA}"


def files(*paths: str) -> list[wire.File]:
    return [
        wire.File(path=path, sha256=f"{number:064x}", size_bytes=1)
        for number, path in enumerate(paths)
    ]


@pytest.mark.parametrize(
    "path",
    ["a.safetensors", "sub/folder/b.json", "LICENSE", "vocab.txt", "größe.md", ".gitattributes"],
)
def test_a_plain_path_is_good(path: str) -> None:
    assert list(path_faults(path)) == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd.json",
        "../up.json",
        "a/../../up.json",
        "./a.json",
        "a//b.json",
        "a\\b.json",
        "C:/a.json",
        "a\0.json",
        "a\n.json",
        "a?.json",
        "con.json",
        "sub/NUL.txt",
        " a.json",
        "a.json.",
        "sub /a.json",
        ".git/config.json",
        "x/.GIT/a.json",
        "/".join(["d"] * 20) + "/a.json",
        "x" * 300 + ".json",
        "u\u0308.json",
        "model.bin",
        "model.pt",
        "model.pkl",
        "run.py",
        "a.zip",
        "noending",
        "safetensors",
    ],
)
def test_a_path_that_could_do_harm_is_refused(path: str) -> None:
    assert list(path_faults(path))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param({"schema_version": 2}, "schema_version is 2", id="schema"),
        pytest.param({"files": files("a.safetensors", "A.safetensors")}, "the same on", id="case"),
        pytest.param({"files": files("a.safetensors", "a.safetensors")}, "the same on", id="twice"),
        pytest.param({"files": files("a.json", "a.json/b.safetensors")}, "is a file", id="inside"),
        pytest.param({"files": files(*(f"{n}.safetensors" for n in range(5)))}, "5 files", id="5"),
        pytest.param({"files": files("a.json")}, "no .safetensors", id="no weights"),
        pytest.param({"files": []}, "no .safetensors", id="no files"),
        pytest.param(
            {"files": [wire.File(path="a.safetensors", sha256="A" * 64, size_bytes=1)]},
            "64 lower-case",
            id="upper-case digest",
        ),
        pytest.param(
            {"files": [wire.File(path="a.safetensors", sha256=SHA, size_bytes=1001)]},
            "1001 bytes",
            id="too large",
        ),
        pytest.param(
            {"files": [wire.File(path="a.safetensors", sha256=SHA, size_bytes=-1)]},
            "-1 bytes",
            id="negative",
        ),
        pytest.param(
            {
                "files": [
                    wire.File(path="a.safetensors", sha256=SHA, size_bytes=1),
                    wire.File(path="b.safetensors", sha256=SHA, size_bytes=2),
                ]
            },
            "another size",
            id="two sizes",
        ),
        pytest.param({"base": {"name": " "}}, "base.name has 0", id="empty base"),
        pytest.param({"base": {"name": "a\nb"}}, "control characters", id="two lines"),
        pytest.param({"base": {"fingerprint": "me"}}, "base.fingerprint is not", id="fingerprint"),
        pytest.param({"base": {"name": "sha256:" + "b" * 64}}, "not a name", id="name of a base"),
        pytest.param(
            {"files": files("a.safetensors", "Manifest.json")}, "the manifest itself", id="manifest"
        ),
        pytest.param({"license": "do what you want"}, "no SPDX expression", id="license"),
        pytest.param(
            {"heads": [wire.Head(name="a", type="classification", labels=["yes", "yes"])]},
            "a label twice",
            id="two labels",
        ),
        pytest.param(
            {"heads": [wire.Head(name="a", type="classification", labels=[" "])]},
            "an empty label",
            id="no label",
        ),
        pytest.param(
            {"heads": [wire.Head(name="a", type="classification")] * 2}, "two heads", id="heads"
        ),
        pytest.param({"license": "x" * 300}, "license has 300", id="long license"),
        pytest.param({"languages": ["en", "d e"]}, "'d e'", id="language"),
        pytest.param({"method": {"format": "composition"}}, "`composition` is", id="no parts"),
        pytest.param(
            {"lineage": [wire.Lineage(kind="parent", digest="x")]}, "lineage", id="lineage"
        ),
        pytest.param({"description": "a\0b"}, "NUL", id="NUL"),
        pytest.param(
            {"metrics": [wire.Metric(dataset="", split="", name="acc", value=1)]},
            "a metric needs",
            id="metric",
        ),
    ],
)
def test_a_broken_rule_is_named(changes: dict[str, object], fault: str) -> None:
    replaced = {key: changes.pop(key) for key in ("files", "schema_version") if key in changes}
    manifest = msgspec.structs.replace(make_manifest(**changes), **replaced)

    found = faults(manifest, SETTINGS)

    assert any(fault in each for each in found), found


def test_a_name_outside_the_grammar_is_refused() -> None:
    manifest = make_manifest(files=make_files())
    name = wire.Name(task="NLI", name="x", org="ukp")

    found = faults(msgspec.structs.replace(manifest, reference=name), SETTINGS)

    assert found
    assert found[0].startswith("reference: ")


@pytest.mark.parametrize(
    ("members", "expression", "fault"),
    [
        pytest.param([("a", DIGEST, "nli/a@b")] * 2, "fuse(a)", "one name", id="twice"),
        pytest.param([("a", SHA, "nli/a@b")], "fuse(a)", "digest of the member", id="digest"),
        pytest.param([("a", DIGEST, "nowhere")], "fuse(a)", "no reference", id="reference"),
        pytest.param([], "fuse(a)", "no members", id="none"),
        pytest.param([("a", DIGEST, "nli/a@b")], " ", "no expression", id="no expression"),
    ],
)
def test_a_composition_names_its_parts(
    members: list[tuple[str, str, str]], expression: str, fault: str
) -> None:
    parts = [wire.Member(name=n, digest=d, reference=r) for n, d, r in members]
    manifest = make_manifest(
        files={},
        method={"format": "composition"},
        composition=wire.Composition(expression=expression, members=parts),
    )

    assert any(fault in each for each in faults(manifest, SETTINGS))


def test_a_good_manifest_breaks_nothing() -> None:
    assert faults(make_manifest(license="apache-2.0", languages=["en", "de-AT"]), SETTINGS) == []


@pytest.mark.parametrize(
    "license",
    [
        "MIT",
        "apache-2.0",
        "cc-by-nc-sa-4.0",
        "other",
        "(MIT OR GPL-2.0-only WITH Classpath-exception-2.0)",
    ],
)
def test_a_license_is_an_spdx_expression(license: str) -> None:  # noqa: A002  # the field's name
    assert faults(make_manifest(license=license), SETTINGS) == []


@pytest.mark.parametrize("path", ["pytorch_adapter.bin", "model.pt", "a.ckpt", "a.pkl"])
def test_a_pickle_is_refused_with_what_to_do_about_it(path: str) -> None:
    (fault,) = path_faults(path)

    assert "a pickle may run code" in fault
    assert "`adapterhub-client push FOLDER` makes safetensors" in fault
