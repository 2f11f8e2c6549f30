import filecmp
import json

import pytest

from adapterhub_training import data
from adapterhub_training.demo_data import FOLDER, words, write
from adapterhub_training.experiment import Task

TASKS = {
    "nli": ("contradiction", "entailment", "neutral"),
    "paraphrase": ("different", "paraphrase"),
    "sentiment": ("negative", "positive"),
    "entailment": ("entailment", "not_entailment"),
}


def rows(task, split):
    lines = (FOLDER / task / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("task", TASKS)
def test_the_trainer_reads_every_task(task):
    dataset = data.load(Task(name=task, data=str(FOLDER / task)))

    assert dataset.labels == TASKS[task]
    assert {split: len(rows) for split, rows in dataset.splits.items()} == write.SIZES[task]


def test_the_script_writes_exactly_the_files_that_are_kept(tmp_path):
    write.write(tmp_path)

    for task in TASKS:
        for split in data.SPLITS:
            name = f"{task}/{split}.jsonl"
            assert filecmp.cmp(tmp_path / name, FOLDER / name, shallow=False), name


@pytest.mark.parametrize("task", TASKS)
def test_no_sentence_pair_occurs_in_two_splits(task):
    texts = [
        tuple(sorted(text for key, text in row.items() if key != "label"))
        for split in data.SPLITS
        for row in rows(task, split)
    ]

    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_balanced(task):
    for split in data.SPLITS:
        labels = [row["label"] for row in rows(task, split)]
        shares = [labels.count(label) / len(labels) for label in TASKS[task]]
        assert max(shares) - min(shares) < 0.05


@pytest.mark.parametrize("lexicon", [words.EVERYDAY, words.NEWS])
def test_each_split_has_words_of_its_own(lexicon):
    parts = {split: lexicon.part(split) for split in data.SPLITS}

    for split, part in parts.items():
        others = [other for name, other in parts.items() if name != split]
        for field in ("names", "deeds", "dealings", "places", "times", "adjectives"):
            own = set(getattr(part, field))
            assert own - set().union(*(getattr(other, field) for other in others)), (split, field)


def test_target_and_sources_share_neither_names_nor_people_things_or_places():
    def said(lexicon):
        groups = (*lexicon.kinds.values(), *lexicon.things.values(), lexicon.names, lexicon.places)
        return {word for group in groups for word in group}

    assert said(words.EVERYDAY) & said(words.NEWS) == set()
