import gzip
import json

import pytest

from adapterhub_training import data
from adapterhub_training.errors import BadData
from adapterhub_training.experiment import Task
from adapterhub_training.kinds import Example

ROWS = [
    {"text_a": "It rains.", "text_b": "It is wet.", "label": "yes"},
    {"text_a": "It rains.", "text_b": "It is dry.", "label": "no"},
]


def load(folder, labels=(), **options):
    return data.load(Task(name="wet", data=str(folder)), labels, **options)


def write(folder, split, rows, *, ending=".jsonl"):
    content = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    packed = gzip.compress(content.encode()) if ending.endswith("gz") else content.encode()
    (folder / (split + ending)).write_bytes(packed)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "train", ROWS)
    write(tmp_path, "validation", ROWS)
    return tmp_path


def test_pairs_are_read_with_their_labels_in_sorted_order(folder):
    dataset = load(folder)

    assert dataset.labels == ("no", "yes")
    assert dataset.splits["train"] == (
        Example("It rains.", "It is wet.", 1),
        Example("It rains.", "It is dry.", 0),
    )


def test_sentences_are_read_too(tmp_path):
    rows = [{"text": "Fine.", "label": "good"}, {"text": "Bad.", "label": "bad"}]
    write(tmp_path, "train", rows)
    write(tmp_path, "validation", rows)

    assert load(tmp_path).splits["train"][0] == Example("Fine.", None, 1)


def test_the_order_of_labels_can_be_given(folder):
    assert load(folder, ["yes", "no"]).splits["train"][0].target == 0


def test_packed_and_plain_files_give_the_same_examples(folder, tmp_path_factory):
    packed = tmp_path_factory.mktemp("packed")
    for split in ("train", "validation"):
        write(packed, split, ROWS, ending=".jsonl.gz")

    assert load(packed).splits == load(folder).splits


def test_one_changed_letter_changes_the_digest(folder):
    before = load(folder).digest
    write(folder, "validation", [{**ROWS[0], "text_a": "It rained."}, ROWS[1]])

    assert load(folder).digest != before


def test_the_test_split_is_reported_where_there_is_one(folder):
    assert load(folder).reported == "validation"
    write(folder, "test", ROWS)
    assert load(folder).reported == "test"


def test_a_tenth_of_train_stands_in_for_an_absent_validation_split(tmp_path):
    rows = [{"text": f"Number {i}.", "label": str(i % 2)} for i in range(40)]
    write(tmp_path, "train", rows)
    write(tmp_path, "test", rows[:4])

    dataset = load(tmp_path)

    assert dataset.held_out
    assert (len(dataset.splits["train"]), len(dataset.splits["validation"])) == (36, 4)
    assert not {e.text for e in dataset.splits["train"]} & {
        e.text for e in dataset.splits["validation"]
    }


def test_a_cap_takes_the_same_sample_every_time(tmp_path):
    rows = [{"text": f"Number {i}.", "label": str(i % 2)} for i in range(40)]
    write(tmp_path, "train", rows)
    write(tmp_path, "validation", rows)

    first = load(tmp_path, caps={"train": 5}).splits
    again = load(tmp_path, caps={"train": 5}).splits

    assert len(first["train"]) == 5
    assert len(first["validation"]) == 40
    assert first == again


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        pytest.param({"text_a": "a", "text_b": "b"}, "there is no `label`", id="no label"),
        pytest.param({"label": "yes"}, "there is no text", id="no text"),
        pytest.param({"text_a": "a", "label": "yes"}, "there is no `text_b`", id="half a pair"),
        pytest.param(
            {"text_a": "a", "text_b": "  ", "label": "yes"}, "`text_b` is empty", id="empty text"
        ),
        pytest.param(
            {"text_a": "a", "text_b": "b", "label": 1},
            "Expected `str | null`, got `int`",
            id="label is no string",
        ),
        pytest.param('{"text_a": "a", \n', "this is no example", id="broken JSON"),
        pytest.param("[1, 2]\n", "Expected `object`", id="no object"),
        pytest.param({"text": "a", "label": "yes"}, "this is a sentence", id="other shape"),
        pytest.param({"text": "a", "text_a": "b", "label": "yes"}, "exclude", id="both shapes"),
        pytest.param(
            {"text_a": "a", "text_b": "b", "label": "maybe"},
            "the label 'maybe' is unknown",
            id="unknown label",
        ),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(folder, row, fault):
    write(folder, "validation", [*ROWS, row])

    with pytest.raises(BadData) as refusal:
        load(folder)

    assert refusal.value.path == folder / "validation.jsonl"
    assert refusal.value.line == 3
    assert fault in str(refusal.value)


def test_a_label_that_was_not_declared_is_refused_in_train(folder):
    with pytest.raises(BadData, match=r"train.jsonl', line 1: the label 'yes' is unknown"):
        load(folder, ["no", "maybe"])


def test_a_folder_without_train_is_refused(tmp_path):
    with pytest.raises(BadData, match="no train split"):
        load(tmp_path)


def test_an_absent_folder_is_refused(tmp_path):
    with pytest.raises(BadData, match="no such folder"):
        load(tmp_path / "nowhere")


def test_a_file_that_only_claims_to_be_gzip_is_refused(tmp_path):
    (tmp_path / "train.jsonl.gz").write_text("{}")

    with pytest.raises(BadData, match="no gzip file"):
        load(tmp_path)


def test_a_cut_gzip_file_is_refused(folder):
    (folder / "validation.jsonl").unlink()
    whole = gzip.compress(json.dumps(ROWS[0]).encode())
    (folder / "validation.jsonl.gz").write_bytes(whole[:-9])

    with pytest.raises(BadData, match="broken"):
        load(folder)


def test_an_empty_file_is_refused(folder):
    (folder / "validation.jsonl").write_text("\n")

    with pytest.raises(BadData, match="no examples"):
        load(folder)


def test_data_with_one_label_only_is_refused(tmp_path):
    write(tmp_path, "train", ROWS[:1])

    with pytest.raises(BadData, match="one label 'yes'"):
        load(tmp_path)
