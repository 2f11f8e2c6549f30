"""Write the demo's data: `python -m adapterhub_training.demo_data.write [FOLDER]`; the same files every time.

Four tasks in the format the trainer reads. The splits share no sentence, and each has words of its own.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from adapterhub_training.demo_data import FOLDER
from adapterhub_training.demo_data.draw import Draw
from adapterhub_training.demo_data.inference import (
    CONTRADICTION,
    ENTAILMENT,
    NEUTRAL,
    NEWS_PHENOMENA,
    PHENOMENA,
)
from adapterhub_training.demo_data.paraphrase import PATTERNS as PARAPHRASES
from adapterhub_training.demo_data.sentiment import OPINIONS
from adapterhub_training.demo_data.sentiment import PATTERNS as VERDICTS
from adapterhub_training.demo_data.words import EVERYDAY, NEWS

Row = dict[str, str]
SIZES = {
    "nli": {"train": 1500, "validation": 150, "test": 150},
    "paraphrase": {"train": 1200, "validation": 120, "test": 120},
    "sentiment": {"train": 1000, "validation": 120, "test": 120},
    "entailment": {"train": 300, "validation": 150, "test": 240},
}
EASY = 0.5
"""share of the pairs that say different things which have no more than their form in common"""
SEED = "adapterhub"


def nli(split: str) -> Iterator[Row]:
    """Premise and hypothesis from everyday life, with three labels."""
    draw = Draw(EVERYDAY.part(split), f"{SEED} nli {split}")
    while True:
        for phenomenon in PHENOMENA:
            for label in (ENTAILMENT, NEUTRAL, CONTRADICTION):
                premise, hypothesis = phenomenon(draw, label)
                yield {"text_a": premise, "text_b": hypothesis, "label": label}


def paraphrase(split: str) -> Iterator[Row]:
    """Two sentences or questions from everyday life that say the same, or do not."""
    draw = Draw(EVERYDAY.part(split), f"{SEED} paraphrase {split}")
    while True:
        for pattern in PARAPHRASES:
            for same in (True, False):
                first, second = draw.either(*pattern(draw, same))
                if not same and draw.chance(EASY):
                    second, _ = pattern(draw, same)
                yield {
                    "text_a": first,
                    "text_b": second,
                    "label": "paraphrase" if same else "different",
                }


def sentiment(split: str) -> Iterator[Row]:
    """A verdict on something."""
    draw, words = Draw(EVERYDAY.part(split), f"{SEED} sentiment {split}"), OPINIONS.part(split)
    while True:
        for pattern in VERDICTS:
            for good in (True, False):
                yield {
                    "text": pattern(draw, words, good),
                    "label": "positive" if good else "negative",
                }


def entailment(split: str) -> Iterator[Row]:
    """A short news item and a sentence that follows from it, or does not: two labels, few examples."""
    draw = Draw(NEWS.part(split), f"{SEED} entailment {split}")
    while True:
        for phenomenon in NEWS_PHENOMENA:
            for label in (ENTAILMENT, NEUTRAL, ENTAILMENT, CONTRADICTION):
                premise, hypothesis = phenomenon(draw, label)
                item = " ".join(draw.either(premise, draw.one(draw.words.hearsay)))
                yield {
                    "text_a": item,
                    "text_b": hypothesis,
                    "label": label if label == ENTAILMENT else "not_entailment",
                }


TASKS: dict[str, Callable[[str], Iterator[Row]]] = {
    "nli": nli,
    "paraphrase": paraphrase,
    "sentiment": sentiment,
    "entailment": entailment,
}


def write(folder: Path) -> None:
    """Write all splits of all tasks."""
    for task, rows_of in TASKS.items():
        seen: set[tuple[str, ...]] = set()
        for split, size in SIZES[task].items():
            path = folder / task / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                json.dumps(row, ensure_ascii=False) for row in _fresh(rows_of(split), seen, size)
            ]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _fresh(rows: Iterator[Row], seen: set[tuple[str, ...]], size: int) -> list[Row]:
    """As many rows as asked for, none of whose texts was there before."""
    fresh: list[Row] = []
    for row in rows:
        texts = tuple(sorted(text for name, text in row.items() if name != "label"))
        if texts in seen or len(set(texts)) < len(texts):
            continue
        seen.add(texts)
        fresh.append(row)
        if len(fresh) == size:
            break
    return fresh


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
