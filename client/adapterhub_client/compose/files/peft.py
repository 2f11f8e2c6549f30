"""Folders of the PEFT library, read into our methods, and written so that PEFT loads them.

LoRA, DoRA and (IA)3, prefixes and prompts.

PEFT itself is not needed. A folder is read by way of the one that the `adapters` library would have written, so that
every check is made once. What one side can say and the other cannot is refused with the name of the option.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from adapterhub_client.compose.errors import IncompatibleAdapter
from adapterhub_client.compose.files import folder as folders
from adapterhub_client.compose.files import peftia3, peftlinear, peftprompt
from adapterhub_client.compose.files.folder import Files
from adapterhub_client.compose.files.peftplaces import Found
from adapterhub_client.compose.heads.static import StaticHead
from adapterhub_client.compose.methods import method
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError, Corrupt
from adapterhub_client.wire import BASE_FINGERPRINT_FILE, MANIFEST_FILE

FILES = Files("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
NAME = "adapter"
_WRAPPED = "base_model.model."
_ROOT = re.compile(r"^base_model\.(model\.)?")
_BESIDE = (*folders.HEAD, BASE_FINGERPRINT_FILE, MANIFEST_FILE)
_TASKS = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}
_READERS = {
    "LORA": peftlinear.read_lora,
    "IA3": peftia3.read_ia3,
    "PREFIX_TUNING": peftprompt.read_prefix,
    "PROMPT_TUNING": peftprompt.read_prompt,
    "P_TUNING": peftprompt.read_prompt,
}


def is_peft(folder: Path) -> bool:
    """Whether a folder's adapter is one of PEFT's."""
    path = folder / FILES.config
    return path.is_file() and b'"peft_type"' in path.read_bytes()


@contextmanager
def converted(folder: Path, backbone: Backbone) -> Iterator[Path]:
    """The folder as the `adapters` library would have written it, for as long as it is read.

    Raises:
        CompositionError: It is of a kind, or has an option, that none of our methods has.
        IncompatibleAdapter: Tensors are missing or unexpected.
    """
    config, tensors = folders.read_folder(folder, FILES)
    kind = str(config.get("peft_type"))
    if kind not in _READERS:
        raise CompositionError(
            f"'{folder}' holds a {kind} adapter of PEFT, which none of our methods computes.",
            hint="known: " + ", ".join(_READERS),
        )
    start = backbone.prefix + "."
    named = {_ROOT.sub("", key).removeprefix(start): value for key, value in tensors.items()}
    found = _READERS[kind](config, named, backbone, folder)
    with TemporaryDirectory(prefix="adapterhub-") as name:
        place = Path(name)
        _write_adapter(place, found, backbone)
        _write_head(place, config, found.rest, backbone, folder)
        for file in _BESIDE:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, place / file)
        yield place


def write(
    folder: Path, name: str, adapter: LoadedAdapter, backbone: Backbone, model: nn.Module
) -> None:
    """Write an adapter so that PEFT loads it onto a model of this class.

    Raises:
        CompositionError: PEFT has nothing like it; names the option.
    """
    start = f"{backbone.prefix}." if backbone.has_static_head else ""
    if isinstance(adapter.config, peftprompt.KINDS):
        # PEFT does not wrap the model for these, and does not call their tensor a part of it.
        written, root = peftprompt.write(name, adapter, backbone), "base_model."
        tensors = dict(written.tensors)
    else:
        written, root = peftlinear.write(name, adapter, backbone, start, model), _WRAPPED
        tensors = {f"{root}{key}": tensor for key, tensor in written.tensors.items()}
    modules_to_save = None
    if adapter.trained_with_base_head:
        head = StaticHead.of(model).tensors()
        modules_to_save = sorted({key.partition(".")[0] for key in head})
        tensors |= {f"{root}{key}": tensor for key, tensor in head.items()}
    config = {
        "base_model_name_or_path": getattr(backbone.config, "name_or_path", None) or None,
        "inference_mode": True,
        "modules_to_save": modules_to_save,
        "revision": None,
        # With a task PEFT would ask for a head, also where none was trained.
        "task_type": None,
        "auto_mapping": {
            "base_model_class": backbone.model_class,
            "parent_library": type(model).__module__,
        },
        **written.config,
    }
    folders.write_folder(folder, FILES, config, tensors, "safetensors")


def _write_adapter(place: Path, found: Found, backbone: Backbone) -> None:
    config: Any = method.read(found.config, backbone)
    modules = method.build(config, backbone, empty=True)
    tensors: dict[str, Tensor] = {}
    owners = {
        id(part): (key, f"{path}." if path else "")
        for key, module in modules.items()
        for path, part in module.named_modules()
    }
    for entry in method.entries(config, modules, backbone, NAME):
        key, path = owners[id(entry.owner)]
        tensors[entry.keys[0]] = found.tensors[key][path + entry.name]
    envelope = {"config": config.to_dict(), "version": folders.VERSION}
    folders.write_folder(place, folders.ADAPTER, envelope, tensors, "safetensors")


def _write_head(
    place: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    backbone: Backbone,
    folder: Path,
) -> None:
    """Write what was trained besides the adapter as the head of the model's class."""
    if not tensors:
        return
    saved = config.get("modules_to_save") or []
    strange = [key for key in tensors if key.partition(".")[0] not in saved]
    if strange:
        raise IncompatibleAdapter(folder, unexpected=sorted(strange))
    last = max((key for key in tensors if key.endswith("weight")), default=None)
    if last is None:
        raise Corrupt(f"'{folder}' has a head without weights: {', '.join(tensors)}.")
    count = len(tensors[last])
    envelope = {
        "model_class": _class_of(config, backbone, folder),
        "config": None,
        "name": None,
        "label2id": {f"LABEL_{number}": number for number in range(count)},
        "num_labels": count,
    }
    folders.write_folder(place, folders.HEAD, envelope, tensors, "safetensors")


def _class_of(config: Mapping[str, Any], backbone: Backbone, folder: Path) -> str:
    """The class of the model that a head is of."""
    known = (config.get("auto_mapping") or {}).get("base_model_class")
    if isinstance(known, str) and "For" in known:
        return known
    ending = _TASKS.get(str(config.get("task_type")))
    if ending and backbone.model_class.endswith(ending):
        return backbone.model_class
    if ending:
        return backbone.architecture.adapter_class.removesuffix("AdapterModel") + ending
    raise CompositionError(
        f"'{folder}' holds a head, but its task_type {config.get('task_type')!r} does not say of what kind.",
        hint="known: " + ", ".join(_TASKS),
    )
