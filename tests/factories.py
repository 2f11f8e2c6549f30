"""What tests need to exist: plain functions, changed where a test cares."""

import hashlib
import json
from typing import Any

from adapterhub_client import wire

FINGERPRINT = "sha256:" + "a" * 64
OTHER_FINGERPRINT = "sha256:" + "b" * 64


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_weights(seed: int = 0, *, features: int = 8) -> bytes:
    """A small, well-formed safetensors file whose bytes depend on the seed."""
    data = hashlib.sha256(str(seed).encode()).digest()[: features * 4]
    header = json.dumps(
        {
            "adapter.down.weight": {
                "dtype": "F32",
                "shape": [len(data) // 4],
                "data_offsets": [0, len(data)],
            }
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def make_files(seed: int = 0) -> dict[str, bytes]:
    """The files of an adapter folder."""
    return {
        "adapter_config.json": b'{"config": {"reduction_factor": 16}}',
        "adapter.safetensors": make_weights(seed),
        "README.md": f"# Adapter {seed}\n".encode(),
    }


def make_manifest(
    reference: str = "nli/multinli@ukp", files: dict[str, bytes] | None = None, **changes: Any
) -> wire.Manifest:
    """A manifest that breaks no rule; `base` and `method` may be changed by field."""
    head, _, org = reference.partition("@")
    task, _, name = head.partition("/")
    base = {"name": "bert-base-uncased", "architecture": "bert", "fingerprint": FINGERPRINT}
    method = {"name": "seq_bn", "config_id": "9076f36a74755ac4"}
    held = make_files() if files is None else files
    return wire.Manifest(
        reference=wire.Name(task=task, name=name, org=org),
        base=wire.Base(**{**base, **changes.pop("base", {})}),
        method=wire.Method(**{**method, **changes.pop("method", {})}),
        files=[
            wire.File(path=path, sha256=sha256(content), size_bytes=len(content))
            for path, content in held.items()
        ],
        **changes,
    )
