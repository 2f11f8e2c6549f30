"""The training of `training.py` in the `adapters` library: a process of its own that takes one command a line.

A command is a JSON object; `do` names a method of `Peer` and the rest are its arguments. The answer is one line too:
the processor seconds that the steps took.
"""

import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

import adapters
import torch
import transformers
from adapters import AdapterTrainer
from torch.nn import functional
from torch.utils.data import DataLoader

MOST = 128
"""tokens, to which one way pads"""


class Peer:
    """The `adapters` library's own trainer, and a bare loop of the same steps."""

    def open(self, base: str, rows: str, batch: int) -> float:
        self._rows = json.loads(Path(rows).read_text())
        self._batch = batch
        config = transformers.AutoConfig.from_pretrained(
            base, num_labels=len({r["labels"] for r in self._rows})
        )
        torch.manual_seed(1)
        self._model = transformers.AutoModelForSequenceClassification.from_pretrained(
            base, config=config
        )
        adapters.init(self._model)
        self._model.add_adapter("own", config="seq_bn")
        self._model.train_adapter("own")
        self._trainers = {}
        return 0.0

    def trainer(self, *, longest: bool, steps: int) -> float:
        """One call of `train()`."""
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=self._batch,
                max_steps=steps,
                learning_rate=1e-4,
                optim="adamw_torch_fused",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                log_level="error",
                dataloader_num_workers=0,
                use_cpu=True,
            )
            taught = AdapterTrainer(
                model=self._model,
                args=arguments,
                train_dataset=self._rows,
                data_collator=lambda rows: collate(rows, MOST if longest else 0),
            )
            began = time.process_time()
            taught.train()
            return time.process_time() - began

    def loop(self, steps: int) -> float:
        """The same steps without a trainer."""
        batches = iter(
            DataLoader(
                self._rows, self._batch, shuffle=True, collate_fn=lambda rows: collate(rows, 0)
            )
        )
        ready = [next(batches) for _ in range(steps)]
        trained = [p for p in self._model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
        self._model.train()
        began = time.process_time()
        for batch in ready:
            labels = batch.pop("labels")
            loss = functional.cross_entropy(self._model(**batch).logits, labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.process_time() - began


def collate(rows, width):
    """Rows as tensors, padded to a width or to the longest of them."""
    width = width or max(len(row["input_ids"]) for row in rows)
    found = {}
    for key in ("input_ids", "token_type_ids", "attention_mask"):
        padded = [row[key][:width] + [0] * (width - len(row[key])) for row in rows]
        found[key] = torch.tensor(padded)
    return found | {"labels": torch.tensor([row["labels"] for row in rows])}


def main():
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    answers = sys.stdout
    sys.stdout = sys.stderr
    peer = Peer()
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(peer, command.pop("do"))(**command)), file=answers, flush=True)


main()
