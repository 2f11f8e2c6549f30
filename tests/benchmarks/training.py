"""Print what training costs, beside the `adapters` library and its AdapterTrainer, in one run.

    DATA=<folder> .venv/bin/python tests/benchmarks/training.py [--rows 1024] [--repeats 3] [--only epoch gang]
    DATA=<folder> .venv/bin/python tests/benchmarks/training.py --device cuda [--peak 989]

`$DATA/mnli` has the texts. The peer is the Python in ADAPTERS_PEER_PYTHON, an environment with `adapters` 1.3.0;
without it its rows are left out.

How it is measured. One thread; the clock is the processor time of the process, so being descheduled does not count.
What a row compares is run in turn, `repeats` times after one time that is not counted; the figure is the median of the
ratios of neighbours, in brackets the least and the most. Both sides have the same base, rows, batch size, and dropout
in training mode (ours also without that of the frozen base, which is one line of an experiment). `epoch` is a pass over
`--rows` texts of MultiNLI as they are; `loop` is a model so small that a step takes a few milliseconds. `peak` is a
model of BERT-base's shape on 128 tokens each, beside the time that its multiplications and additions would take at the
rate of a large product on the same device, or at `--peak` TFLOP/s, which a card's data sheet has and the target is
about. With `--device cuda` the clock is the wall's, bf16 is on, and `epoch` and `loop`, which are about a CPU and the
peer, are left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import click
import torch
import transformers
from torch import nn
from training_workload import (
    BASE,
    LENGTH,
    SHORT,
    Clock,
    arithmetic,
    members,
    rate,
    read,
    small,
    wide,
)
from transformers import BertConfig

from adapterhub_training import building, economy, experiment, run, trainer, workshop
from adapterhub_training.backbone import locate
from adapterhub_training.progress import Quiet
from adapterhub_training.trainer import Watch
from adapterhub_training.workshop import Workshop
from adapterhub_training.world import ALONE

PEER = "ADAPTERS_PEER_PYTHON"
BATCH = 32
SEEDS = 5
LOOP_STEPS = 150
AT_ONCE = {"cpu": 8, "cuda": 256}
"""sequences of LENGTH in a step of a model of BERT-base's shape"""


class Row(NamedTuple):
    """Two ways to do the same work, by their names, and what their ratio should reach."""

    group: str
    says: str
    above: str
    below: str
    target: str


ROWS = (
    Row("epoch", "mnli, one epoch: the peer padding to 128, over ours", "peer padded", "ours", "3.5"),
    Row("epoch", "  ours without the base's dropout", "peer padded", "ours, no dropout", ""),
    Row("epoch", "  ours, bf16 as well", "peer padded", "ours, bf16", ""),
    Row("epoch", "mnli, one epoch: the peer padding to the batch, over ours", "peer dynamic", "ours", "1.75"),
    Row("epoch", "  ours without the base's dropout", "peer dynamic", "ours, no dropout", ""),
    Row("epoch", "  ours, bf16 as well", "peer dynamic", "ours, bf16", ""),
    Row("loop", "our loop over a bare loop of the same steps", "our loop", "our bare loop", "1.03"),
    Row("loop", "the peer's AdapterTrainer over a bare loop", "peer loop", "peer bare loop", ""),
    Row("half", "adapters in the upper half, states kept, over full fine-tuning", "half", "full", "0.25"),
    Row("half", "  adapters in every layer, over full fine-tuning", "ours, no dropout", "full", "floor 0.57"),
    Row("half", "  the same, what is fixed in the first layer kept", "ours, kept", "full", ""),
    Row("gang", "5 seeds in one pass over one seed", "5 seeds", "1 seed", "2"),
    Row("gang", "  batches of 8", "5 seeds of 8", "1 seed of 8", ""),
    Row("gang", "  a small base, short texts, batches of 8", "5 small seeds", "1 small seed", ""),
    Row("gang", "  adapters in the upper half, states kept", "5 seeds, half", "1 seed, half", ""),
    Row("fusion", "fusion of 8, a step over one of full fine-tuning", "fusion", "full", "0.70"),
    Row("fusion", "  nothing kept of the first layer", "fusion, nothing kept", "full", ""),
    Row("peak", "BERT-base's shape, 128 tokens: share of the device's arithmetic", "at peak", "wide", "0.40 (GPU)"),
    Row("peak", "  compiled", "at peak", "wide, compiled", ""),
)  # fmt: skip
ON_A_CPU, ON_A_GPU = {"epoch", "loop"}, {"wide, compiled"}
"""groups, and a way, that are measured there only"""


class Ours:
    """Trainings of this project, each ready to go on for so many steps."""

    def __init__(self, base: str, data: Path, home: Path, rows: int, device: str) -> None:
        self._base, self._data, self._home, self._rows = base, data, home, rows
        self._device, self.clock = device, Clock(device)

    @contextmanager
    def course(self, method: str, more: dict[str, object]) -> Iterator[Callable[[int], float]]:
        """A training; calling it takes steps, and says the seconds of each."""
        training = {
            "seeds": [1], "epochs": 1000, "batch_size": BATCH, "max_length": LENGTH, "dropout": False,
            "train_examples": self._rows, "validation_examples": BATCH, "cache": "no",
            "device": self._device,
        }  # fmt: skip
        tables = {
            "task": {"name": "task", "data": str(self._data)},
            "base": {"path": self._base},
            "method": json.loads(method),
            "training": training | more,
            "output": {"folder": str(self._home / "run")},
        }
        wanted = experiment.decode(tables, "benchmark")
        ready = run.prepare(wanted, Workshop())
        tasks, seeds = workshop.datasets(ready.lessons), ready.experiment.training.seeds
        with building.prepared(ready.base, ready.experiment, tasks, seeds) as subject:
            economy.keep_states(subject, ready.experiment, ready.lessons, Quiet(), ALONE)
            watch = Watch(Quiet(), Deaf())
            taught = trainer.Run(subject, ready.lessons, ready.experiment, watch, ALONE)
            taught._evaluate = lambda _: None  # noqa: SLF001  # what is compared with does not evaluate either

            def advance(steps: int) -> float:
                began = self.clock()
                for _ in range(steps):
                    taught.advance()
                return (self.clock() - began) / steps

            advance.taught = taught
            yield advance


class Deaf:
    """Records nothing."""

    def record(self, event: str, **facts: object) -> None:
        """Nothing."""


class Peer:
    """The other process."""

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("training_peer.py")
        self._process = subprocess.Popen(
            [python, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def ask(self, do: str, **arguments: object) -> float:
        print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit("The peer's process ended; what it said is above.")
        return json.loads(answer)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def bare(advance: Callable[[int], float], steps: int) -> float:
    """The steps of a training without its loop: batches that are ready, a loss, gradients, an update."""
    taught = advance.taught
    subject, lesson = taught.subject, taught.lessons[0]
    split, member = lesson.splits["train"], subject.members[0]
    plan = [
        taught.timetable.rows(taught.timetable.turn(at), member.seed) for at in range(1, steps + 1)
    ]
    ready = [split.batch(rows, multiple=subject.multiple) for rows in plan]
    trained = [p for p in subject.adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-9, fused=True)
    subject.train()
    subject.compose(lesson.name, [(member, BATCH)])
    began = time.process_time()
    for batch in ready:
        logits = subject.adapted(**batch.inputs).logits
        loss = nn.functional.cross_entropy(logits, batch.targets["labels"])
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.process_time() - began
    subject.forget_composition()
    return seconds / steps


class Way:
    """A training that is begun when it is first asked for, a number of steps at a time."""

    def __init__(
        self, stack: ExitStack, ours: Ours, steps: int, method: str, **more: object
    ) -> None:
        self._stack, self._ours, self._steps = stack, ours, steps
        self._method, self._more = method, more
        self._advance: Callable[[int], float] | None = None

    def __call__(self) -> float:
        return self._begun()(self._steps)

    def bare(self) -> float:
        """The same steps without our loop."""
        return bare(self._begun(), self._steps)

    def _begun(self) -> Callable[[int], float]:
        if self._advance is None:
            self._advance = self._stack.enter_context(self._ours.course(self._method, self._more))
        return self._advance


def ways(stack: ExitStack, given: argparse.Namespace, home: Path) -> dict[str, Callable[[], float]]:
    """Everything that is timed, by its name; each call gives seconds of a step."""
    epoch, few = given.rows // BATCH, max(1, given.rows // 8 // 4)
    many_steps = min(LOOP_STEPS, given.rows)
    rows = read(given.data, given.rows)
    base, data = small(home, rows)
    large, little = (
        Ours(of, texts, home, given.rows, given.device)
        for of, texts in ((BASE, given.data), (base, data))
    )
    adapter = '{"mode": "adapter", "config": "seq_bn[reduction_factor=16]"}'
    upper = '{"mode": "adapter", "config": "seq_bn[reduction_factor=16]", "drop_layers": 3}'
    fused = json.dumps({"mode": "fusion", "members": members(BASE, home)})
    kept, many = {"cache": "yes"}, {"seeds": list(range(SEEDS)), "gang": "yes"}
    quick = Way(stack, little, many_steps, adapter, dropout=True)
    found: dict[str, Callable[[], float]] = {
        "ours": Way(stack, large, epoch, adapter, dropout=True),
        "ours, no dropout": Way(stack, large, epoch, adapter),
        "ours, bf16": Way(stack, large, epoch, adapter, precision="bfloat16"),
        "full": Way(stack, large, epoch, '{"mode": "full"}'),
        "half": Way(stack, large, epoch, upper, **kept),
        "fusion": Way(stack, large, epoch, fused, **kept),
        "fusion, nothing kept": Way(stack, large, epoch, fused),
        "ours, kept": Way(stack, large, epoch, adapter, **kept),
        "1 seed": Way(stack, large, epoch, adapter),
        "5 seeds": Way(stack, large, epoch, adapter, **many),
        "1 seed of 8": Way(stack, large, few, adapter, batch_size=8),
        "5 seeds of 8": Way(stack, large, few, adapter, batch_size=8, **many),
        "1 seed, half": Way(stack, large, epoch, upper, **kept),
        "5 seeds, half": Way(stack, large, epoch, upper, **kept, **many),
        "1 small seed": Way(stack, little, many_steps, adapter, batch_size=8),
        "5 small seeds": Way(stack, little, many_steps, adapter, batch_size=8, **many),
        "our loop": quick,
        "our bare loop": quick.bare,
    }
    if not given.only or "peak" in given.only:
        found |= beside_the_peak(stack, given, home, rows, adapter)
    if given.peer:
        found |= theirs(stack, given, home, rows, base)
    return found


def beside_the_peak(
    stack: ExitStack,
    given: argparse.Namespace,
    home: Path,
    rows: list[dict[str, object]],
    adapter: str,
) -> dict[str, Callable[[], float]]:
    """Steps of a model of BERT-base's shape, and what their arithmetic alone would take."""
    at_once, steps = AT_ONCE[given.device], max(1, given.rows // 8 // 4)
    base, data = wide(home, rows, 4 * at_once)  # no batch is smaller
    ours = Ours(base, data, home, 4 * at_once, given.device)
    more: dict[str, object] = {"batch_size": at_once, "validation_examples": 1}
    asked = arithmetic(BertConfig(), at_once, BertConfig().hidden_size // 16)

    def at_peak() -> float:
        peak = given.peak * 1e12 if given.peak else rate(given.device)
        click.echo(f"  all of it is {peak / 1e12:.3g} TFLOP/s", err=True)
        return asked / peak

    return {
        "wide": Way(stack, ours, steps, adapter, **more),
        "wide, compiled": Way(stack, ours, steps, adapter, compile=True, **more),
        "at peak": at_peak,
    }


def theirs(
    stack: ExitStack,
    given: argparse.Namespace,
    home: Path,
    rows: list[dict[str, object]],
    base: str,
) -> dict[str, Callable[[], float]]:
    """What the other library does, in processes of its own."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(locate(BASE)))
    labels = sorted({row["label"] for row in rows})
    epoch, many_steps = given.rows // BATCH, min(LOOP_STEPS, given.rows)

    def opened(name: str, texts: list[tuple[str, ...]], place: str) -> Peer:
        encoded = [
            {
                **tokenizer(*text, truncation=True, max_length=LENGTH),
                "labels": labels.index(row["label"]),
            }
            for text, row in zip(texts, rows, strict=True)
        ]
        file = home / f"{name}.json"
        file.write_text(json.dumps(encoded))
        peer = Peer(given.peer)
        stack.callback(peer.close)
        peer.ask("open", base=str(locate(place)), rows=str(file), batch=BATCH)
        return peer

    large = opened("large", [(str(row["text_a"]), str(row["text_b"])) for row in rows], BASE)
    little = opened("little", [(str(row["text_b"])[:SHORT],) for row in rows], base)
    return {
        "peer padded": lambda: large.ask("trainer", longest=True, steps=epoch) / epoch,
        "peer dynamic": lambda: large.ask("trainer", longest=False, steps=epoch) / epoch,
        "peer loop": lambda: little.ask("trainer", longest=False, steps=many_steps) / many_steps,
        "peer bare loop": lambda: (
            little.ask("loop", steps=min(epoch, LOOP_STEPS)) / min(epoch, LOOP_STEPS)
        ),
    }


def measure(
    rows: list[Row], timed: dict[str, Callable[[], float]], repeats: int
) -> dict[Row, list[float]]:
    """Ratios of neighbours, after one time that does not count."""
    found: dict[Row, list[float]] = {row: [] for row in rows}
    names = list(dict.fromkeys(name for row in rows for name in (row.above, row.below)))
    for turn in range(repeats + 1):
        seconds = {}
        for name in names:
            seconds[name] = timed[name]()
            click.echo(f"  {turn}/{repeats} {name}: {1000 * seconds[name]:.1f} ms a step", err=True)
        for row in rows if turn else ():
            found[row].append(seconds[row.above] / seconds[row.below])
    return found


def main() -> None:
    """Measure and print."""
    given = arguments()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    rows = [row for row in ROWS if not given.only or row.group in given.only]
    rows = [row for row in rows if (row.group not in ON_A_CPU) or given.device == "cpu"]
    rows = [row for row in rows if (row.below not in ON_A_GPU) or given.device == "cuda"]
    if not given.peer:
        rows = [row for row in rows if not {row.above[:4], row.below[:4]} & {"peer"}]
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        os.environ["ADAPTERHUB_CACHE"] = f"{home}/cache"
        found = measure(rows, ways(stack, given, Path(home)), given.repeats)
    click.echo(f"{'':70}{'measured':>22}  to reach")
    for row, ratios in found.items():
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
        click.echo(f"{row.says:70}{spread:>22}  {row.target}")
    if given.json:
        given.json.write_text(
            json.dumps({row.says.strip(): ratios for row, ratios in found.items()})
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("DATA") and Path(os.environ["DATA"], "mnli")
    )
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=sorted({row.group for row in ROWS}))
    parser.add_argument("--device", choices=list(AT_ONCE), default="cpu")
    parser.add_argument("--peak", type=float, metavar="TFLOP/S", help="what the device can do")
    parser.add_argument("--json", type=Path, help="the ratios")
    given = parser.parse_args()
    if given.data is None:
        parser.error("say where the texts are: DATA=<folder with mnli/>, or --data")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu measures without one")
    if given.device == "cuda" and given.only and not set(given.only) - ON_A_CPU:
        parser.error(f"--only {' '.join(given.only)}: these rows are about a CPU")
    given.peer = os.environ.get(PEER) if given.device == "cpu" else None
    return given


if __name__ == "__main__":
    main()
