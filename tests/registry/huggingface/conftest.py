"""A hub as a Hugging Face client sees it."""

import base64
import json
from typing import Any

import pytest
from werkzeug.test import TestResponse


class Client:
    """Speaks the protocol to a hub, with one token or none."""

    def __init__(self, hub: Any, token: str | None = None) -> None:
        self.hub, self.token = hub, token

    def call(self, method: str, path: str, **more: Any) -> TestResponse:
        headers = dict(more.pop("headers", {}))
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        return self.hub.client.open(path, method=method, headers=headers, **more)

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.call("GET", path, **more)

    def post(self, path: str, content: Any = None, **more: Any) -> TestResponse:
        return self.call("POST", path, json=content, **more)

    def create(self, repo_id: str, **more: Any) -> TestResponse:
        organization, _, name = repo_id.partition("/")
        return self.post(
            "/api/repos/create",
            {"name": name, "organization": organization, "type": "model"} | more,
        )

    def commit(
        self,
        repo_id: str,
        files: dict[str, bytes] | None = None,
        *operations: dict[str, Any],
        revision: str = "main",
        **header: Any,
    ) -> TestResponse:
        lines: list[dict[str, Any]] = [
            {"key": "header", "value": {"summary": "Upload", "description": ""} | header}
        ]
        for path, content in (files or {}).items():
            encoded = base64.b64encode(content).decode()
            value = {"content": encoded, "path": path, "encoding": "base64"}
            lines.append({"key": "file", "value": value})
        body = b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, *operations])
        return self.call(
            "POST",
            f"/api/models/{repo_id}/commit/{revision}",
            data=body,
            headers={"Content-Type": "application/x-ndjson"},
        )

    def file(self, repo_id: str, path: str, revision: str = "main") -> TestResponse:
        return self.get(f"/{repo_id}/resolve/{revision}/{path}")

    def info(self, repo_id: str, revision: str = "main") -> dict[str, Any]:
        response = self.get(f"/api/models/{repo_id}/revision/{revision}")
        assert response.status_code == 200, response.text
        return dict(response.get_json())


@pytest.fixture
def anyone(hub) -> Client:
    return Client(hub)


@pytest.fixture
def ukp(hub) -> Client:
    """The account `ukp`, which may write in its own organization."""
    return Client(hub, hub.token("ukp"))
