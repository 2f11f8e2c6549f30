"""One process of a distributed run: the gradients of its rows, and of all rows without the others (torchrun)."""

import importlib
import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

# A process of torchrun is no pytest, and the tests are no installed package.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
small_models = importlib.import_module("client.compose.small_models")
conftest = importlib.import_module("client.compose.conftest")

FOLDER, *CASES = sys.argv[1:]
ROWS = 2


def loss_of(model, batch):
    return model(**batch).last_hidden_state.square().sum(dim=-1).mean()


def main():
    distributed.init_process_group("gloo")
    for number, case in enumerate(CASES):
        compare(number, *case.split("="))
    distributed.destroy_process_group()


def compare(number, expression, trained):
    rank = distributed.get_rank()
    adapted = small_models.adapted_of("bert", ["seq_bn", "seq_bn", "lora"])
    conftest.fused(adapted, "a", "b")
    adapted.activate(expression)
    adapted.trainable(trained)
    whole = small_models.batch_of(rows=2 * ROWS)
    own = {name: value[rank * ROWS : (rank + 1) * ROWS] for name, value in whole.items()}
    wrapped = DistributedDataParallel(adapted, find_unused_parameters=False)

    loss_of(wrapped, own).backward()
    save(adapted, f"{number}-rank{rank}")
    adapted.zero_grad()
    loss_of(wrapped, own).backward()  # a second pass finds no reduction left open by the first
    adapted.zero_grad()
    if rank == 0:
        loss_of(adapted, whole).backward()
        save(adapted, f"{number}-single")


def save(adapted, name):
    found = {n: p.grad for n, p in adapted.named_parameters() if p.grad is not None}
    torch.save(found, Path(FOLDER) / f"{name}.pt")


main()
