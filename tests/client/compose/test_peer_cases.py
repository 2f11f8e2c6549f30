"""Every architecture and method against the reference library itself, in both directions (ADAPTERS_PEER_PYTHON)."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from adapterhub_client import compose

from .peer_kinds import ARCHITECTURES, METHODS, kinds, refused

PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
SCRIPT = Path(__file__).parent / "peer_cases.py"
TOLERANCE = 1e-4

# What the engine does not do yet, or not so: architectures and words of kinds. Whoever makes one pass takes it out.
WAITING = {
    "deberta-v2": ("prefix", "prompt", "mam", "unipelt"),
    # With a prefix in some layers only, the library gives the others no position bias at all.
    "t5": ("prefix_tuning_gated",),
}
# The library writes their tensors under many names, which only torch's format can hold without copies.
SHARING = ("prefix", "mam", "unipelt")


def compared(architecture):
    """The kinds that both can do."""
    waiting = WAITING.get(architecture, ())
    return [
        kind
        for kind in kinds(architecture)
        if kind not in refused(architecture) and not any(word in kind for word in waiting)
    ]


def written_format(case):
    return "bin" if any(word in case["kind"] for word in SHARING) else "safetensors"


CASES = [
    pytest.param(
        f"{architecture}-{kind}".replace(":", "-").replace("+", "p"), id=f"{architecture}/{kind}"
    )
    for architecture in ARCHITECTURES
    for kind in compared(architecture)
]
# We write heads as the library's flexible ones, which it has not got for models that it knows by an interface only.
WRITTEN = [parameter for parameter in CASES if not parameter.id.endswith("head:static")]
NEW = [parameter for parameter in CASES if "/method:" in parameter.id]

pytestmark = [
    pytest.mark.skipif(not PEER, reason="ADAPTERS_PEER_PYTHON is not set"),
    pytest.mark.timeout(
        900
    ),  # the first test waits for the library to make all cases: a minute on a free core
]


def run_peer(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [PEER, SCRIPT, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Peer:
    """The library's cases, by id."""

    def __init__(self, root):
        self.root = root
        self.manifest = json.loads((root / "manifest.json").read_text())
        self.cases = {case["id"]: case for case in self.manifest["cases"]}

    def tensors(self, case, part):
        tensors = load_file(self.root / case["tensors"])
        return {
            key[len(part) + 1 :]: value
            for key, value in tensors.items()
            if key.startswith(f"{part}.")
        }


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """Everything at once: the library takes seconds to import."""
    root = tmp_path_factory.mktemp("peer")
    run_peer(root, "--only", *(f"{architecture}/" for architecture in ARCHITECTURES))
    return Peer(root)


def expression(tree):
    if tree["type"] == "single":
        return tree["children"][0]
    options = tree.get("kwargs") or {}
    stated = "".join(
        f"; {key}={options[key]}" for key in ("splits", "batch_sizes", "weights") if key in options
    )
    return f"{tree['type'].lower()}({', '.join(map(expression, tree['children']))}{stated})"


def model_of(peer, case):
    options = {"attn_implementation": case["attn_implementation"]}
    base = peer.root / case["base"]
    if case["kind"] != "static_head":
        return transformers.AutoModel.from_pretrained(base, **options)
    config = json.loads((peer.root / case["heads"][0]["path"] / "head_config.json").read_text())
    return getattr(transformers, case["model_class"]).from_pretrained(
        base, num_labels=config["num_labels"], **options
    )


def loaded(peer, case):
    """Our model with a case's folders on it."""
    adapted = compose.attach(model_of(peer, case).eval())
    for adapter in case["adapters"]:
        adapted.load(peer.root / adapter["path"], name=adapter["name"])
    for fusion in case["fusions"]:
        adapted.load_fusion(peer.root / fusion["path"])
    for head in case["heads"]:
        adapted.load_head(peer.root / head["path"], name=head["name"])
    return adapted


@pytest.fixture(scope="module")
def reports(peer, tmp_path_factory):
    """What the library says of the folders that we wrote: each of its cases, loaded by us and saved again."""
    root = tmp_path_factory.mktemp("written")
    written, failed = [], {}
    for parameter in WRITTEN:
        case = peer.cases.get(parameter.values[0])
        if case is None:
            continue
        try:
            written.append(save_again(peer, case, root))
        except Exception as error:  # noqa: BLE001 - one case that fails must not hide the others
            failed[case["id"]] = {"error": f"we could not write it: {error!r}"}
    (root / "manifest.json").write_text(json.dumps({"cases": written}))
    run_peer(root, "--load")
    return json.loads((root / "report.json").read_text()) | failed


def save_again(peer, case, root):
    adapted = loaded(peer, case)
    ours = json.loads(json.dumps(case))
    for part in ("adapters", "fusions", "heads"):
        for entry in ours[part]:
            entry["formats"] = ["safetensors"]
    for adapter in ours["adapters"]:
        adapter["formats"] = [written_format(case)]
        adapted.save(adapter["name"], root / adapter["path"], format=written_format(case))
    for fusion in ours["fusions"]:
        adapted.save_fusion(",".join(fusion["names"]), root / fusion["path"])
    for head in ours["heads"]:
        adapted.save_head(head["name"], root / head["path"])
    return ours | {
        "base": str(peer.root / case["base"]),
        "tensors": str(peer.root / case["tensors"]),
    }


@pytest.fixture(scope="module")
def new_reports(peer, tmp_path_factory):
    """What the library says of adapters that we made from the same configs and never loaded."""
    root = tmp_path_factory.mktemp("new")
    made, failed = [], {}
    for parameter in NEW:
        case = peer.cases.get(parameter.values[0])
        if case is None:
            continue
        try:
            made.append(make_new(peer, case, root))
        except Exception as error:  # noqa: BLE001 - as above
            failed[case["id"]] = {"error": f"we could not make it: {error!r}"}
    (root / "manifest.json").write_text(json.dumps({"cases": made}))
    run_peer(root, "--load")
    return json.loads((root / "report.json").read_text()) | failed


def make_new(peer, case, root):
    torch.manual_seed(11)
    adapted = compose.attach(model_of(peer, case).eval())
    adapted.add("a", METHODS[case["kind"].removeprefix("method:")])
    adapted.save("a", root / case["id"], format=written_format(case))
    adapted.activate("a")
    inputs = peer.tensors(case, "in")
    with torch.no_grad():
        output = adapted(**inputs)
    tensors = {f"in.{name}": value for name, value in inputs.items()}
    tensors |= {
        f"out.{name}": getattr(output, name).contiguous() for name in peer.tensors(case, "out")
    }
    save_file(tensors, root / f"{case['id']}.safetensors")
    adapters = [{"name": "a", "path": case["id"], "formats": [written_format(case)]}]
    base, tensors = str(peer.root / case["base"]), f"{case['id']}.safetensors"
    return case | {"base": base, "adapters": adapters, "tensors": tensors}


def answer(output, name):
    if name.startswith("head"):
        index, _, field = name.removeprefix("head").partition(".")
        return getattr(output.heads[int(index)], field)
    return getattr(output, name)


@pytest.mark.parametrize("case", CASES)
def test_we_compute_what_the_library_computes(case, peer):
    case = peer.cases[case]
    adapted = loaded(peer, case)
    if case["setup"]:
        adapted.activate(expression(case["setup"]), head=case.get("active_head"))

    with torch.no_grad():
        output = adapted(**peer.tensors(case, "in"))

    for name, expected in peer.tensors(case, "out").items():
        torch.testing.assert_close(answer(output, name), expected, atol=TOLERANCE, rtol=0)


def check(report):
    assert report["error"] is None
    assert report["missing_keys"] == []
    assert report["unexpected_keys"] == []
    assert report["difference"] <= TOLERANCE


@pytest.mark.parametrize("case", WRITTEN)
def test_the_library_computes_the_same_with_what_we_write_again(case, reports):
    check(reports[case])


@pytest.mark.parametrize("case", NEW)
def test_the_library_computes_the_same_with_what_we_make(case, new_reports):
    check(new_reports[case])


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_what_is_not_compared_is_what_the_library_refuses(architecture, peer):
    said = {
        entry["kind"]: entry["error"]
        for entry in peer.manifest["unsupported"]
        if entry["arch"] == architecture
    }

    assert said.keys() == refused(architecture), said
