"""Every refusal is a problem with a stable code, and every answer carries the security headers."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from tests.factories import make_manifest
from tests.registry.conftest import Hub, problem

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.app import HEADERS
from adapterhub_registry.storage import StoreUnreachable

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """One database is enough: nothing here depends on it."""
    copy = tmp_path / "registry.sqlite"
    shutil.copyfile(sqlite_template, copy)
    return f"sqlite:///{copy}"


def test_an_address_of_nothing_is_a_problem(hub: Hub) -> None:
    assert problem(hub.get("/nothing")).code == "route_not_found"


def test_a_wrong_method_says_which_are_right(hub: Hub) -> None:
    answer = hub.call("DELETE", "/adapters")

    assert problem(answer).code == "method_not_allowed"
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("body", [b"{", b"\xff", b"", b"{label: 1}"])
def test_a_body_that_is_no_json_is_a_problem(hub: Hub, body: bytes) -> None:
    answer = hub.call("POST", "/tokens", hub.token("ukp"), data=body, headers=JSON)

    assert (answer.status_code, problem(answer).code) == (400, "malformed_body")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_of_another_kind_is_a_problem(hub: Hub, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}

    answer = hub.call("POST", "/tokens", hub.token("ukp"), data=b"{}", headers=headers)

    assert (answer.status_code, problem(answer).code) == (415, "unsupported_media_type")


def test_a_body_that_is_too_large_is_a_problem(hub: Hub) -> None:
    body = b" " * (hub.runtime.settings.max_body_bytes + 1)

    answer = hub.call("POST", "/tokens", hub.token("ukp"), data=body, headers=JSON)

    assert (answer.status_code, problem(answer).code) == (413, "too_large")


def test_a_blob_may_be_larger_than_a_body(hub: Hub) -> None:
    token = hub.token("ukp")
    content = b" " * (hub.runtime.settings.max_body_bytes + 1)
    files = {"a.safetensors": b"", "README.md": content}
    manifest = make_manifest(files=files)
    upload = hub.begin(token, manifest)

    path = f"/uploads/{upload.id}/blobs/{manifest.files[1].sha256}"

    assert hub.call("PUT", path, token, data=content).status_code == 204


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param(RuntimeError("secret detail"), "internal_error", id="a bug"),
        pytest.param(StoreUnreachable("It is gone."), "store_failed", id="the store"),
        pytest.param(OperationalError("x", {}, Exception()), "unavailable", id="the database"),
    ],
)
def test_a_fault_of_ours_says_nothing_of_our_insides(hub: Hub, fault: Exception, code: str) -> None:
    def fail() -> None:
        raise fault

    hub.app.add_url_rule("/api/v1/fail", view_func=fail)

    answer = hub.get("/fail")

    assert (problem(answer).code, answer.status_code >= 500) == (code, True)
    assert "secret detail" not in answer.text


@pytest.mark.parametrize("path", ["/api/v1/adapters", "/api/v1/nothing", "/healthz", "/docs/api"])
def test_every_answer_is_guarded(hub: Hub, path: str) -> None:
    answer = hub.client.get(path)

    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_a_request_keeps_its_id(hub: Hub) -> None:
    sent = hub.get("/stats", headers={"X-Request-Id": "from-the-proxy"})
    forged = hub.get("/stats", headers={"X-Request-Id": "a b" * 99})

    assert sent.headers["X-Request-Id"] == "from-the-proxy"
    assert len(forged.headers["X-Request-Id"]) == 16


def test_codes_are_unique_to_their_error() -> None:
    classes = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.RegistryError)
    ]
    own = [each.code for each in classes if "code" in vars(each)]

    assert len(own) == len(set(own))
    assert wire.Problem(title="", status=400, detail="", code="x").type == "about:blank"
