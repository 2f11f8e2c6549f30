"""A client of old: how adapter-transformers 2 and 3 find and load an adapter, written anew from its description."""

import hashlib
import io
import json
import zipfile
from typing import Any

import torch

OLD_DEFAULTS = {
    "phm_layer": True,
    "phm_dim": 4,
    "init_weights": "bert",
    "scaling": 1.0,
}


class NotFound(Exception):
    """What such a client says when nothing fits."""


class OldClient:
    """Looks an adapter up in the index, then fetches, checks and opens its zip."""

    def __init__(self, get: Any, root: str = "/dist/v2/") -> None:
        self.get, self.root = get, root

    def find(
        self,
        identifier: str,
        model_name: str,
        *,
        config: dict[str, Any] | None = None,
        version: str | None = None,
    ) -> dict[str, Any]:
        """The file entry that an identifier means."""
        path = self._path(identifier, model_name, config)
        entry = self.json(path)
        chosen = version if version in entry["files"] else entry["default_version"]
        return dict(entry["files"][chosen])

    def load(self, file: dict[str, Any]) -> dict[str, Any]:
        """The tensors and the JSON of a zip whose checksums hold."""
        response = self.get(file["url"].removeprefix("http://localhost"))
        assert response.status_code == 200
        assert hashlib.sha1(response.data, usedforsecurity=False).hexdigest() == file["sha1"]
        assert hashlib.sha256(response.data).hexdigest() == file["sha256"]
        loaded: dict[str, Any] = {}
        with zipfile.ZipFile(io.BytesIO(response.data)) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                if name.endswith(".bin"):
                    loaded[name] = torch.load(io.BytesIO(content), weights_only=True)
                elif name.endswith(".json"):
                    loaded[name] = json.loads(content)
        return loaded

    def json(self, path: str) -> Any:
        response = self.get(self.root + path)
        if response.status_code != 200:
            raise NotFound(path)
        return response.get_json()

    def _path(self, identifier: str, model_name: str, config: dict[str, Any] | None) -> str:
        if identifier.startswith("@"):
            return f"adapters/{identifier[1:]}.json"
        index = self.json(f"index/{model_name}.json")
        name, _, org = identifier.partition("@")
        task, _, subtask = name.partition("/")
        found = index.get(task, {}).get(subtask)
        if found is None:
            raise NotFound(identifier)
        if config is not None and (key := self.hashed(config)) in found:
            versions = found[key]["versions"]
            path = versions.get(org) if org else next(iter(versions.values()))
            if path is None:
                raise NotFound(identifier)
            return str(path)
        return str(found["default"])

    @staticmethod
    def hashed(config: dict[str, Any]) -> str:
        left = {key: value for key, value in config.items() if value}
        text = json.dumps(left, sort_keys=True)
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]
