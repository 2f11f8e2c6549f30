"""What tests need to exist: plain functions, changed where a test cares."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

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


ADAPTER_CONFIG = {
    "config": {
        "mh_adapter": False,
        "output_adapter": True,
        "reduction_factor": 16,
        "non_linearity": "relu",
        "original_ln_before": True,
        "original_ln_after": True,
        "residual_before_ln": True,
    },
    "hidden_size": 32,
    "model_type": "bert",
    "model_name": "tiny",
    "name": "a",
    "version": "adapters.1.3.0",
}


def make_folder(folder: Path, *, size_bytes: int = 4000, seed: int = 0) -> Path:
    """Write an adapter folder whose weights have about this size."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER_CONFIG))
    values = np.random.default_rng(seed).standard_normal(size_bytes // 4).astype(np.float32)
    save_file(
        {"encoder.layer.0.output.adapters.a.adapter_down.0.weight": values},
        folder / "adapter.safetensors",
    )
    return folder
