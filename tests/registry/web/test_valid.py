"""Every page is valid HTML, by the checker that the standard's authors keep."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.registry.conftest import Hub
from tests.registry.web.places import PUBLIC, SIGNED_IN

from adapterhub_registry.web import assets

CHECKER = Path(__file__).parent / "node_modules/vnu-jar/build/dist/vnu.jar"
JAVA = shutil.which("java")
pytestmark = [
    pytest.mark.skipif(
        not CHECKER.exists(), reason="no checker: `npm install` in tests/registry/web"
    ),
    pytest.mark.skipif(JAVA is None, reason="no java for the HTML checker"),
]


def complaints(folder: Path) -> list[str]:
    command = [str(JAVA), "-jar", str(CHECKER), "--format", "json", "--no-langdetect", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stderr)["messages"]
    return [
        f"{Path(each.get('url', '')).name}: {each['message']} near {each.get('extract', '')!r}"
        for each in found
        if each["type"] != "info" or each.get("subType") == "warning"
    ]


def test_every_page_is_valid(catalogue: Hub, tmp_path: Path):
    headers = {"Accept": "text/html"}
    member = headers | {"Authorization": f"Bearer {catalogue.token('lab')}"}
    pages = [(path, headers) for path in PUBLIC] + [(path, member) for path in SIGNED_IN]
    for number, (path, sent) in enumerate(pages):
        response = catalogue.client.get(path, headers=sent)
        name = re.sub(r"[^a-z0-9]+", "-", path)[:80]
        (tmp_path / f"{number:02}{name}.html").write_bytes(response.data)

    assert complaints(tmp_path) == []


def test_the_drawings_and_the_feed_are_well_formed(catalogue: Hub):
    feed = ET.fromstring(catalogue.client.get("/adapters.atom?q=task:sts").data)  # noqa: S314  # ours

    icon = ET.parse(assets.FOLDER / "mark.svg")  # noqa: S314  # ours
    assert icon.getroot().tag.endswith("svg")
    names = [each.text for each in feed.iter("{http://www.w3.org/2005/Atom}title")]
    assert names[1:3] == ["sts/mrpc-tuned@lab", "sts/mrpc-of-eight@lab"]
