"""What is copied works as it is."""

import ast
import hashlib
import shlex
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.registry.conftest import Hub
from tests.registry.web.document import read

from adapterhub_client import wire

PATHS = (
    "/adapters/nli/multinli@ukp:3?variant=1",
    "/adapters/nli/qnli@ukp",
    "/adapters/sts/paraphrase-fusion@ukp",
)


def shown(catalogue: Hub, path: str, tool: str, pin: str) -> str:
    page = read(catalogue.client, path)
    box = next(
        each for each in page.all("div", class_=f"tool-{tool}") if f"pin-{pin}" in each["class"]
    )
    return box.text.strip().removesuffix("Copy").strip()


def ask(catalogue: Hub, command: str):
    """Do what curl would do with the arguments that the snippets use."""
    words = shlex.split(command)
    address = next(word for word in words if word.startswith("http://localhost/"))
    data = [words[at + 1] for at, word in enumerate(words) if word == "--data-urlencode"]
    query = dict(each.split("=", 1) for each in data)
    return catalogue.client.get(urlsplit(address).path, query_string=query, buffered=True)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("pin", ["newest", "number"])
def test_curl_resolves_to_the_version_of_the_page(catalogue: Hub, path: str, pin: str):
    response = ask(catalogue, shown(catalogue, path, "curl", pin))

    resolved = msgspec.json.decode(response.data, type=wire.Resolution)
    assert resolved.version.digest in shown(catalogue, path, "client", "digest")


@pytest.mark.parametrize("path", PATHS)
def test_curl_fetches_every_file_of_the_exact_version(catalogue: Hub, path: str):
    commands = shown(catalogue, path, "curl", "digest").splitlines()

    for command in commands:
        content = ask(catalogue, command).data
        assert hashlib.sha256(content).hexdigest() in command
    assert any(" adapter.safetensors " in command for command in commands)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("pin", ["newest", "number", "digest"])
def test_python_is_python(catalogue: Hub, path: str, pin: str):
    code = shown(catalogue, path, "python", pin)

    assert ast.parse(code)
    assert 'Hub("http://localhost")' in code


def test_a_base_is_named_only_where_there_are_several(catalogue: Hub):
    several, one = PATHS[:2]

    assert shown(catalogue, several, "client", "number") == (
        "adapterhub-client pull nli/multinli@ukp:3 --base bert-base-uncased"
    )
    assert shown(catalogue, one, "client", "newest") == "adapterhub-client pull nli/qnli@ukp"
    assert "--base" not in shown(catalogue, several, "client", "digest")


def test_text_that_a_shell_or_python_would_run_is_quoted(catalogue: Hub):
    path = "/adapters/hostile/text@eve"

    for pin in ("newest", "number", "digest"):
        assert ast.parse(shown(catalogue, path, "python", pin))
        assert shlex.split(shown(catalogue, path, "client", pin))[2].startswith("hostile/text@eve")
