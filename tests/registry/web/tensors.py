"""Files of weights that look like real ones, and the fingerprints of made-up bases; the same for the same words."""

import hashlib
import json
from functools import lru_cache
from typing import Any

import numpy as np
from safetensors.numpy import save


@lru_cache(maxsize=256)
def drawn(label: str, values: int) -> np.ndarray:
    """Numbers that follow from a label."""
    seed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(values, dtype=np.float32) * 0.02


def bottleneck(label: str, like: str, *, features: int, layers: int, double: bool) -> bytes:
    """An adapter of two small matrices a layer; it is near the one that grew from the same label `like`."""
    width, found = features // 16, {}
    places = ["attention.output", "output"] if double else ["output"]
    size = 2 * width * features
    for layer in range(layers):
        for place in places:
            name = f"encoder.layer.{layer}.{place}.adapters.adapter"
            values = drawn(f"{like} {layer} {place}", size)
            if label != like:
                values = values + 0.12 * drawn(f"{label} {layer} {place}", size)
            found[f"{name}.adapter_down.0.weight"] = values[: size // 2].reshape(width, features)
            found[f"{name}.adapter_down.0.bias"] = drawn(label + " down", width)
            found[f"{name}.adapter_up.weight"] = values[size // 2 :].reshape(features, width)
            found[f"{name}.adapter_up.bias"] = drawn(label + " up", features)
    return save(found)


def low_rank(label: str, *, features: int, layers: int, rank: int = 8) -> bytes:
    """Pairs of low-rank factors at query and value."""
    found = {}
    for layer in range(layers):
        for at in ("query", "value"):
            name = f"encoder.layer.{layer}.attention.self.{at}.loras.adapter"
            found[f"{name}.lora_A"] = drawn(f"{label} {layer} {at} A", rank * features).reshape(
                rank, features
            )
            found[f"{name}.lora_B"] = drawn(f"{label} {layer} {at} B", rank * features).reshape(
                features, rank
            )
    return save(found)


def fusion(label: str, *, features: int, layers: int) -> bytes:
    """Query, key and value of a fusion."""
    found = {}
    for layer in range(layers):
        for part in ("query", "key", "value"):
            name = f"encoder.layer.{layer}.output.adapter_fusion_layer.members.{part}.weight"
            found[name] = drawn(f"{label} {part}", features * features).reshape(features, features)
    return save(found)


def head(label: str, outputs: int, *, features: int) -> bytes:
    """Two layers, the last with a row for each label."""
    name = "heads.default"
    return save(
        {
            f"{name}.1.weight": drawn(label + " 1", 64 * features).reshape(64, features),
            f"{name}.1.bias": drawn(label + " 1b", 64),
            f"{name}.4.weight": drawn(label + " 4", outputs * 64).reshape(outputs, 64),
            f"{name}.4.bias": drawn(label + " 4b", outputs),
        }
    )


def leaves(name: str, features: int, layers: int) -> dict[str, Any]:
    """What a fingerprint says of each tensor of a base."""
    shapes = {"embeddings.word_embeddings.weight": [30522, features]}
    for layer in range(layers):
        for part in ("query", "key", "value"):
            shapes[f"encoder.layer.{layer}.attention.self.{part}.weight"] = [features, features]
        shapes[f"encoder.layer.{layer}.intermediate.dense.weight"] = [4 * features, features]
        shapes[f"encoder.layer.{layer}.output.dense.weight"] = [features, 4 * features]
    return {
        tensor: {
            "leaf": hashlib.sha256(f"{name} {tensor}".encode()).hexdigest(),
            "dtype": "F32",
            "shape": shape,
            "sample": [round(float(each), 5) for each in drawn(f"{name} {tensor}", 16)],
        }
        for tensor, shape in shapes.items()
    }


def fingerprint(
    name: str, architecture: str, features: int, layers: int, *, changed: int = 0
) -> dict[str, Any]:
    """The file `base_fingerprint.json`; `changed` tensors are not those of the base of this name."""
    tensors = leaves(name, features, layers)
    for tensor in sorted(tensors)[-changed:] if changed else []:
        tensors[tensor]["leaf"] = hashlib.sha256(f"other {tensor}".encode()).hexdigest()
        tensors[tensor]["sample"][0] += 0.5
    return {
        "name": name,
        "architecture": architecture,
        "hidden_size": features,
        "layers": layers,
        "tokenizer": None,
        "quantised": False,
        "tensors": tensors,
    }


def root(document: dict[str, Any]) -> str:
    """The fingerprint itself."""
    found = hashlib.sha256()
    for name in sorted(document["tensors"]):
        found.update(bytes.fromhex(document["tensors"][name]["leaf"]))
    return "sha256:" + found.hexdigest()


def encoded(document: dict[str, Any]) -> bytes:
    """A document as its file has it."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
