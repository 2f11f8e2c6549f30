"""A small reference hub: its YAML in a folder, its zips on a server of this machine."""

import hashlib
import io
import json
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import torch
import yaml

PFEIFFER = {
    "ln_before": False,
    "mh_adapter": False,
    "output_adapter": True,
    "non_linearity": "relu",
    "original_ln_after": True,
    "original_ln_before": True,
    "reduction_factor": 16,
    "residual_before_ln": True,
}
PFEIFFER_ID = "9076f36a74755ac4"
HOULSBY = {**PFEIFFER, "mh_adapter": True, "non_linearity": "swish", "original_ln_before": False}
HOULSBY_ID = "b1017368d7a97b11"


class Web:
    """Serves what it is given; what it is not given is missing."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                content = web.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def is_open(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Reference:
    """The repository of a reference hub, entry by entry."""

    def __init__(self, folder: Path, web: Web) -> None:
        self.folder, self.web = folder, web
        for name, config in (("pfeiffer", PFEIFFER), ("houlsby", HOULSBY)):
            content = {"name": name, "displayname": name.title(), "config": config}
            self.write(f"architectures/{name}.yaml", content)
        self.write(
            "tasks/text_task/nli.yaml",
            {"task": "nli", "displayname": "Natural language inference", "description": "d"},
        )
        self.write(
            "tasks/text_lang/en.yaml", {"task": "en", "displayname": "English", "description": ""}
        )
        self.write(
            "subtasks/text_task/nli_multinli.yaml",
            {
                "task": "nli",
                "subtask": "multinli",
                "description": "Multi-genre inference",
                "language": "english",
                "hf_datasets_id": "multi_nli",
                "metric": {"name": "Accuracy", "higher_is_better": True},
            },
        )

    def write(self, path: str, content: object) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        target.write_text(text)

    def add(self, path: str, zips: dict[str, bytes], **changes: Any) -> None:
        """Add an entry whose versions are these zips; `changes` go into its YAML."""
        files = []
        for version, content in zips.items():
            address = f"/{path}/{version}.zip"
            self.web.files[address] = content
            score = changes.pop("score", None)
            files.append(
                {
                    "version": version,
                    "url": self.web.address + address,
                    "sha1": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
                    "sha256": hashlib.sha256(content).hexdigest(),
                    **({} if score is None else {"score": score}),
                }
            )
        entry = {
            "type": "text_task",
            "task": "nli",
            "subtask": "multinli",
            "model_type": "bert",
            "model_name": "bert-base-uncased",
            "author": "Ada",
            "config": {"using": "pfeiffer"},
            "default_version": next(iter(zips)),
            "files": files,
            "description": "An adapter",
            "prediction_head": True,
        }
        self.write(f"adapters/{path}.yaml", {**entry, **changes})


def tensors(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """The weights of an adapter as libraries of old named them."""
    made = torch.Generator().manual_seed(seed)
    place = f"bert.encoder.layer.0.output.layer_text_task_adapters.{name}"
    return {
        f"{place}.adapter_down.0.weight": torch.randn(1, 8, generator=made),
        f"{place}.adapter_down.0.bias": torch.randn(1, generator=made),
        f"{place}.adapter_up.weight": torch.randn(8, 1, generator=made),
        f"{place}.adapter_up.bias": torch.randn(8, generator=made),
    }


def saved(content: object, *, old: bool = True) -> bytes:
    """What torch writes; the layout of old is what most zips of that time have."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def adapter_zip(seed: int = 0, *, config: dict[str, Any] | None = None, old: bool = True) -> bytes:
    """A zip as the reference hub has it: two configs, two files of torch."""
    return zipped(
        {
            "adapter_config.json": json.dumps(
                {
                    "type": "text_task",
                    "model_type": "bert",
                    "model_name": "bert-base-uncased",
                    "hidden_size": 8,
                    "name": "a",
                    "config": PFEIFFER if config is None else config,
                }
            ).encode(),
            "pytorch_adapter.bin": saved(tensors("a", seed), old=old),
            "head_config.json": json.dumps(
                {
                    "model_type": "bert",
                    "name": "a",
                    "config": {"head_type": "classification", "label2id": {"no": 1, "yes": 0}},
                }
            ).encode(),
            "pytorch_model_head.bin": saved(
                {"heads.a.1.weight": torch.ones(2, 8) * (seed + 1)}, old=old
            ),
        }
    )
