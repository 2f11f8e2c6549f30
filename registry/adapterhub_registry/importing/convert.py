"""The program that turns a file of torch into safetensors, in a process that can do nothing else.

`python -I -m adapterhub_registry.importing.convert SOURCE TARGET`: memory, time and output are limited before the
first byte is read; from then on it opens no file, starts no program, loads no code and reaches no network.
"""

import json
import resource
import sys
from typing import IO

from adapterhub_registry.importing.checkpoint import (
    Checkpoint,
    CheckpointRefused,
    Storage,
    bytes_of,
    open_checkpoint,
)

REFUSED = 65
MEMORY_BYTES = 4 * 1024**3
CPU_SECONDS = 300
OUTPUT_BYTES = 2 * 1024**3
_ALIGNMENT = 8
_FORBIDDEN = (
    "compile",
    "ctypes.",
    "exec",
    "import",
    "open",
    "os.",
    "pickle.find_class",
    "shutil.",
    "socket.",
    "subprocess.",
    "syslog.",
    "urllib.",
)


def main(source: str, target: str) -> int:
    """Convert; a refusal is a sentence on stderr and the status 65."""
    _limit()
    with open(source, "rb") as incoming, open(target, "xb") as outgoing:  # noqa: PTH123 - before the hook
        sys.addaudithook(_refuse)
        try:
            write(open_checkpoint(incoming), outgoing)
        except CheckpointRefused as error:
            sys.stderr.write(f"{error}\n")
            return REFUSED
        except MemoryError:
            sys.stderr.write(f"it needs more than {MEMORY_BYTES} bytes of memory\n")
            return REFUSED
    return 0


def write(checkpoint: Checkpoint, target: IO[bytes]) -> None:
    """Write tensors as safetensors, in the order of their names: the same tensors are the same bytes."""
    ordered = sorted(checkpoint.tensors.items())
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        header[name] = {
            "dtype": tensor.storage.dtype.name,
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.size_bytes],
        }
        end += tensor.size_bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    target.write(len(text).to_bytes(8, "little") + text)
    held: tuple[Storage | None, bytes] = (None, b"")
    for _, tensor in ordered:
        if held[0] != tensor.storage:
            held = (None, b"")  # never two storages at once
            held = (tensor.storage, checkpoint.read(tensor.storage))
        target.write(bytes_of(tensor, held[1]))


def _limit() -> None:
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: OUTPUT_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 32,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def _refuse(event: str, _arguments: object) -> None:
    if event.startswith(_FORBIDDEN):
        raise CheckpointRefused(f"reading it would do more than read it ({event})")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
