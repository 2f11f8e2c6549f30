"""Look into a folder that shall be published: which format it has, and what its manifest must say.

Three formats are known. *adapters*: ``adapter_config.json`` with ``config``. *peft*: ``adapter_config.json`` with
``peft_type``. *composition*: ``adapter_fusion_config.json``, or ``adapter_fusion_compiled.json`` for a fusion in its
compiled form, or both; and ``composition.json``, which pins the members. A run folder of the trainer is one of these in
a sub-folder, and ``push.json`` beside it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from adapterhub_client import fingerprint
from adapterhub_client.errors import CompositionError, NotAnAdapter, UsageError
from adapterhub_client.formats.method import config_id, method_name
from adapterhub_client.wire import (
    BASE_FINGERPRINT_FILE,
    MANIFEST_FILE,
    REPORT_FILE,
    Base,
    Composition,
    Head,
    Lineage,
    Member,
    Method,
    Metric,
    Training,
)

CONFIG = "adapter_config.json"
HEAD_CONFIG = "head_config.json"
FUSION_CONFIG = "adapter_fusion_config.json"
COMPILED_CONFIG = "adapter_fusion_compiled.json"
COMPOSITION_FILE = "composition.json"
RUN = "push.json"
LOOKED_FOR = (
    f"{CONFIG} (adapters or PEFT)",
    f"{FUSION_CONFIG} or {COMPILED_CONFIG} (a fusion)",
    f"{RUN} (a training run)",
)

# what PEFT writes beside the method: the same method on another base has the same config id
NOT_OF_THE_METHOD = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_version",
    "revision",
}
# weights of the formats as pickles, and what they are called once converted
CONVERTED = {
    "adapter_model.bin": "adapter_model.safetensors",
    "pytorch_adapter.bin": "adapter.safetensors",
    "pytorch_model_adapter_fusion.bin": "model_adapter_fusion.safetensors",
    "pytorch_model_head.bin": "model_head.safetensors",
}
# everything a version is made of; what else lies in the folder stays there, however it came to be
PUBLISHED = {
    *CONVERTED.values(),
    BASE_FINGERPRINT_FILE,
    COMPILED_CONFIG,
    COMPOSITION_FILE,
    CONFIG,
    FUSION_CONFIG,
    HEAD_CONFIG,
    REPORT_FILE,
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
    "README.md",
    "adapter_interface.json",
    "adapter_setup.json",
    "model_adapter_fusion_compiled.safetensors",
    "model_adapter_fusion_members.safetensors",
}
PICTURES = {".png", ".svg"}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a training run says about its result; the trainer writes it as ``push.json``."""

    folder: str
    reference: str | None = None
    metrics: list[Metric] = []
    training: Training | None = None
    description: str = ""
    license: str | None = None
    languages: list[str] = []
    citation: str | None = None
    lineage: list[Lineage] = []


class MemberPin(msgspec.Struct, frozen=True):
    """A member in a ``composition.json``; reference and digest are null where it was never published."""

    name: str
    reference: str | None = None
    digest: str | None = None


class CompositionFile(msgspec.Struct, frozen=True):
    """A ``composition.json``."""

    expression: str
    members: list[MemberPin] = []


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A folder ready to be published, but for its name and its bytes' digests."""

    folder: Path
    base: Base
    method: Method
    heads: list[Head]
    composition: Composition | None
    run: Run | None
    files: dict[str, Path]
    """the files to publish, by their path in the version"""
    pickles: list[Path]
    """weights that have to be converted first"""
    left_out: list[str]


def inspect(folder: Path) -> Content:
    """Say what a folder holds.

    Raises:
        NotAnAdapter: None of the known formats; the message says what was looked for.
        UsageError: A file in it cannot be read.
        CompositionError: A fusion whose members are not published.
    """
    run = _run(folder)
    content = _content(folder if run is None else folder / run.folder)
    return msgspec.structs.replace(content, run=run)


def _content(folder: Path) -> Content:
    fusions = (folder / name for name in (FUSION_CONFIG, COMPILED_CONFIG))
    fusion = next((path for path in fusions if path.is_file()), None)
    if fusion is not None:
        config, composition = read_json(fusion), _composition(folder)
        method = _method("fusion", config.get("config") or {}, "composition")
    elif (folder / CONFIG).is_file():
        config, composition = read_json(folder / CONFIG), None
        method = _peft(config) if "peft_type" in config else _adapter(folder, config)
    else:
        raise NotAnAdapter(folder, LOOKED_FOR)
    files, pickles, left_out = _files(folder)
    return Content(
        folder=folder,
        base=_base(folder, config),
        method=method,
        heads=_heads(folder),
        composition=composition,
        run=None,
        files=files,
        pickles=pickles,
        left_out=left_out,
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UsageError: The file is not one.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"'{path}' cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise UsageError(f"'{path}' holds no JSON object.")
    return content


def _adapter(folder: Path, config: Mapping[str, Any]) -> Method:
    if not isinstance(config.get("config"), dict):
        raise NotAnAdapter(folder, (f"`config` or `peft_type` in {CONFIG}",))
    return _method(method_name(config["config"]), config["config"], "adapters")


def _peft(config: Mapping[str, Any]) -> Method:
    method = {key: value for key, value in config.items() if key not in NOT_OF_THE_METHOD}
    return _method(str(config["peft_type"]).lower(), method, "peft")


def _method(name: str, config: Mapping[str, Any], form: Any) -> Method:  # noqa: ANN401
    return Method(name=name, config=dict(config), config_id=config_id(config), format=form)


def _base(folder: Path, config: Mapping[str, Any]) -> Base:
    """The base as the folder itself knows it: with a fingerprint where one was saved, else only by name."""
    known = folder / BASE_FINGERPRINT_FILE
    if known.is_file():
        return fingerprint.read(known).base
    name = str(config.get("model_name") or config.get("base_model_name_or_path") or "unknown")
    return Base(
        name=Path(name).name
        if Path(name).is_absolute()
        else name,  # a place on one machine names nothing
        architecture=str(config.get("model_type") or "unknown"),
        hidden_size=config.get("hidden_size"),
        revision=config.get("revision"),
    )


def _heads(folder: Path) -> list[Head]:
    if not (folder / HEAD_CONFIG).is_file():
        return []
    saved = read_json(folder / HEAD_CONFIG)
    config = saved.get("config") or {}
    label_ids = config.get("label2id") or saved.get("label2id") or {}
    try:
        ordered = sorted(label_ids.items(), key=lambda item: int(item[1]))
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"'{folder / HEAD_CONFIG}' has labels without numbers: {error}."
        ) from error
    labels = [str(label) for label, _ in ordered]
    kind = config.get("head_type") or saved.get("model_class") or "unknown"
    return [Head(name=str(saved.get("name") or "default"), type=str(kind), labels=labels)]


def _composition(folder: Path) -> Composition:
    if not (folder / COMPOSITION_FILE).is_file():
        raise CompositionError(
            f"'{folder}' holds a fusion, but not which adapters it fuses.",
            hint=f"save it with `adapted.save_fusion(name, folder)`: it writes {COMPOSITION_FILE}",
        )
    try:
        saved = msgspec.json.decode((folder / COMPOSITION_FILE).read_bytes(), type=CompositionFile)
    except msgspec.DecodeError as error:
        raise UsageError(f"'{folder / COMPOSITION_FILE}' cannot be read: {error}.") from error
    pinned = [
        Member(name=member.name, reference=member.reference, digest=member.digest)
        for member in saved.members
        if member.reference and member.digest
    ]
    if len(pinned) < len(saved.members):
        local = {member.name for member in saved.members} - {member.name for member in pinned}
        raise CompositionError(
            f"The fusion's members {', '.join(sorted(local))} were loaded from folders, not from a hub.",
            hint="push each of them, load them by reference, and save the fusion again",
        )
    return Composition(expression=saved.expression, members=pinned)


def _run(folder: Path) -> Run | None:
    if not (folder / RUN).is_file():
        return None
    try:
        return msgspec.json.decode((folder / RUN).read_bytes(), type=Run)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"'{folder / RUN}' cannot be read: {error}.", hint="train again to write it anew"
        ) from error


def _files(folder: Path) -> tuple[dict[str, Path], list[Path], list[str]]:
    files, pickles, left_out = {}, [], []
    for path in sorted(folder.iterdir()):
        is_file = path.is_file() and not path.is_symlink()
        if is_file and path.name in CONVERTED:
            pickles.append(path)
        elif is_file and (path.name in PUBLISHED or path.suffix in PICTURES):
            files[path.name] = path
        elif path.name != MANIFEST_FILE:
            left_out.append(path.name + ("/" if path.is_dir() else ""))
    return files, pickles, left_out
