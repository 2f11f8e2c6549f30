"""The OpenAPI document: valid, reviewed, and true.

After a change of the API on purpose, write the document anew:
`adapterhub-registry openapi > tests/contracts/openapi.json`
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from adapterhub_registry import errors, migration
from adapterhub_registry.api.document import generate
from adapterhub_registry.app import create_app
from adapterhub_registry.cli import main
from adapterhub_registry.settings import from_environment
from adapterhub_registry.storage import MemoryStore

GOLDEN = Path(__file__).with_name("openapi.json")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """A registry with one account."""
    home = str(tmp_path_factory.mktemp("registry"))
    made = create_app(
        from_environment({"ADAPTERHUB_HOME": home, "ADAPTERHUB_SECRET_KEY": "for tests"}),
        store=MemoryStore(),
    )
    runtime = made.extensions["adapterhub"]
    migration.migrate(runtime.database)
    yield made
    runtime.database.close()


def test_the_document_is_valid(app: Flask) -> None:
    assert list(OpenAPIV31SpecValidator(generate(app)).iter_errors()) == []


def test_the_document_is_the_reviewed_one(app: Flask) -> None:
    printed = CliRunner().invoke(main, ["openapi"])

    assert json.loads(printed.stdout) == json.loads(GOLDEN.read_text())
    assert app.test_client().get("/api/v1/openapi.json").json == json.loads(GOLDEN.read_text())


def test_every_endpoint_is_in_the_document(app: Flask) -> None:
    document = generate(app)
    routed = {
        (
            rule.rule.replace("int(max=2147483647):", "")
            .replace("path:", "")
            .replace("int:", "")
            .replace("<", "{")
            .replace(">", "}"),
            method,
        )
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if rule.rule.startswith("/api/v1/") and rule.endpoint != "openapi_document"
    }

    described = {
        (path, method.upper()) for path, methods in document["paths"].items() for method in methods
    }

    assert described == {
        (path, method) for path, method in routed if method not in {"HEAD", "OPTIONS"}
    }


def _below(error: type[errors.RegistryError]) -> set[type[errors.RegistryError]]:
    """The error and all under it; some stand beside the one service that raises them."""
    return {error}.union(*(_below(each) for each in error.__subclasses__()))


def test_every_documented_code_is_one_of_ours(app: Flask) -> None:
    known = {each.code for each in _below(errors.RegistryError)}
    told = {
        word.strip("`,")
        for methods in generate(app)["paths"].values()
        for operation in methods.values()
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for word in response["description"].split()
        if word.startswith("`")
    }

    assert told <= known
    assert {"adapter_not_found", "ambiguous", "manifest_refused", "wrong_token"} <= told


def test_problems_are_documented_as_problems(app: Flask) -> None:
    types = {
        media_type
        for methods in generate(app)["paths"].values()
        for operation in methods.values()
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for media_type in response["content"]
    }

    assert types == {"application/problem+json"}


def test_the_page_for_people_names_every_endpoint(app: Flask) -> None:
    page = app.test_client().get("/docs/api").text

    for path in generate(app)["paths"]:
        assert f">{path.removeprefix('/api/v1')}<" in page
    assert all('src="/static/' in tag for tag in re.findall(r"<script[^>]*>", page))
