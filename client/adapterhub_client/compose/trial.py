"""Run adapters on texts for a registry, as a process of its own: `python -m adapterhub_client.compose.trial`.

Each line of standard input is a `wire.Trial`, each line of standard output its `wire.Tried`. The process has a limit of
memory, one thread, and ends when its input does. It keeps the base model it was asked for last; an adapter is attached
for one trial and detached without trace.
"""

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from adapterhub_client import wire
from adapterhub_client.compose import Adapted, attach
from adapterhub_client.compose.heads import Head
from adapterhub_client.errors import CompositionError, HubError

MEMORY = "ADAPTERHUB_TRY_MEMORY_MB"
_TOKENS = 256
_BASES = 1
_LABELS = 200


class _Members:
    """What a composition pulls its members from: folders that are here, by digest."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = folders

    def pull(self, reference: str, **_: object) -> Path:
        """The folder of a member that is pinned by its digest."""
        digest = reference.partition(":")[2]
        if digest not in self._folders:
            raise CompositionError(f"The member {reference!r} is not at hand.")
        return Path(self._folders[digest])


def attempt(trial: wire.Trial) -> wire.Tried:
    """Attach the adapter to its base, run it on the text, and detach it."""
    model, tokenizer = _base(trial.base)
    adapted = attach(model, _Members(trial.members))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            name = adapted.load(trial.folder)
        adapted.activate(name, head=_head(adapted, name))
        adapted.eval()
        texts = [trial.text] if trial.pair is None else [trial.text, trial.pair]
        encoded = tokenizer(
            *[[text] for text in texts], truncation=True, max_length=_TOKENS, return_tensors="pt"
        )
        began = time.perf_counter()
        with torch.no_grad():
            logits = adapted(**encoded).logits[0]
        seconds = time.perf_counter() - began
        found = _told(adapted.active_heads[0], logits, encoded, tokenizer)
        members, layers = _attention(adapted)
        return msgspec.structs.replace(found, members=members, attention=layers, seconds=seconds)
    finally:
        adapted.detach()


def serve(lines: Iterable[bytes]) -> Iterable[bytes]:
    """Answer each line; what cannot be done is a sentence in the answer, and the next line is read."""
    for line in lines:
        try:
            found = attempt(msgspec.json.decode(line, type=wire.Trial))
        except HubError as error:
            found = wire.Tried(fault=str(error))
        except Exception as error:  # noqa: BLE001  # whatever a library makes of an odd folder
            found = wire.Tried(fault=f"It could not be run: {type(error).__name__}.")
        yield msgspec.json.encode(found) + b"\n"


@lru_cache(maxsize=_BASES)
def _base(folder: str) -> tuple[Any, Any]:
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def _head(adapted: Adapted, name: str) -> str:
    """The head that came along: of the adapter's own name, else the only one."""
    if name in adapted.heads:
        return name
    if len(adapted.heads) == 1:
        return next(iter(adapted.heads))
    raise CompositionError("It has no head that says what a text is.")


def _told(head: Head, logits: Tensor, encoded: Any, tokenizer: Any) -> wire.Tried:  # noqa: ANN401
    """What the logits of one text say, by the kind of head."""
    if head.kind == "tagging":
        return wire.Tried(tokens=_tags(head, logits, encoded, tokenizer))
    if head.kind not in {"classification", "multilabel_classification"}:
        raise CompositionError(f"A head of the kind {head.kind!r} cannot be tried on a text alone.")
    if logits.shape[-1] == 1 and len(head.labels) <= 1:
        return wire.Tried(value=float(logits[0]))
    exclusive = head.kind == "classification"
    shares = logits.softmax(-1) if exclusive else logits.sigmoid()
    named = sorted(zip(head.labels, shares.tolist(), strict=True), key=lambda each: -each[1])
    return wire.Tried(probabilities=dict(named[:_LABELS]), exclusive=exclusive)


def _tags(head: Head, logits: Tensor, encoded: Any, tokenizer: Any) -> list[wire.TokenLabel]:  # noqa: ANN401
    special = set(tokenizer.all_special_ids)
    shares, labels = logits.softmax(-1).max(-1)
    ids = encoded["input_ids"][0].tolist()
    rows = zip(ids, labels.tolist(), shares.tolist(), strict=True)
    return [
        wire.TokenLabel(
            text=tokenizer.convert_ids_to_tokens(token), label=head.labels[label], probability=share
        )
        for token, label, share in rows
        if token not in special
    ]


def _attention(adapted: Adapted) -> tuple[list[str], list[wire.AttentionLayer]]:
    """What the first fusion attended to, layer by layer: the mean over the tokens of the text."""
    seen = adapted.attention() if adapted.fusions else []
    if not seen:
        return [], []
    own = [each for each in seen if each.fusion == seen[0].fusion and each.place == seen[0].place]
    layers = [
        wire.AttentionLayer(layer=each.layer, weights=each.weights[0].float().mean(0).tolist())
        for each in own
    ]
    return list(seen[0].adapters), layers


def _confine() -> None:
    """Take no more memory than allowed, one thread, and step back where others want the processor."""
    megabytes = int(os.environ.get(MEMORY, "0"))
    if megabytes:
        limit = megabytes * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    os.nice(5)


def main() -> None:
    """Answer on the standard output that was there at the start; what libraries print goes to standard error."""
    _confine()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answers.write(json.dumps({"ready": True}).encode() + b"\n")
    for answer in serve(sys.stdin.buffer):
        answers.write(answer)


if __name__ == "__main__":
    main()
