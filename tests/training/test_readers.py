import json

import pytest

from adapterhub_training import data
from adapterhub_training.errors import BadData
from adapterhub_training.experiment import Task
from adapterhub_training.kinds import Example

pyarrow = pytest.importorskip("pyarrow")


def load(folder, **columns):
    place = str(folder) if not isinstance(folder, str) else folder
    return data.load(Task(name="task", data=place, columns=columns))


def test_a_table_is_read_with_its_quotes_and_line_breaks(tmp_path):
    (tmp_path / "train.csv").write_text(
        'text,label\n"She said ""no"", and\nleft.",bad\nFine.,good\n', encoding="utf-8"
    )
    (tmp_path / "validation.csv").write_text("text,label\nFine.,good\n")

    dataset = load(tmp_path)

    assert dataset.splits["train"][0] == Example('She said "no", and\nleft.', None, 0)
    assert dataset.labels == ("bad", "good")


def test_columns_are_called_what_they_are_called(tmp_path):
    header = "id\treview\tstars\n"
    (tmp_path / "train.tsv").write_text(header + "1\tBad.\t1\n2\tGreat.\t5\n3\tOh.\t10\n")
    (tmp_path / "validation.tsv").write_text(header + "4\tGreat.\t5\n")

    dataset = load(tmp_path, text="review", label="stars")

    assert dataset.labels == ("1", "5", "10")  # numbers in their order
    assert dataset.splits["validation"] == (Example("Great.", None, 1),)


def test_columns_of_json_lines_can_be_named_too(tmp_path):
    rows = [{"body": "Bad.", "y": 0}, {"body": "Good.", "y": 1}]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert load(tmp_path, text="body", label="y").labels == ("0", "1")


def test_lists_in_a_table_are_json(tmp_path):
    (tmp_path / "train.csv").write_text(
        'tokens,tags\n"[""A"",""cat""]","[""O"",""B-ANIMAL""]"\n"[""Rome""]","[""B-PLACE""]"\n'
    )
    (tmp_path / "validation.csv").write_text('tokens,tags\n"[""Rome""]","[""B-PLACE""]"\n')

    dataset = load(tmp_path)

    assert dataset.kind == "tagging"
    assert dataset.labels == ("B-ANIMAL", "B-PLACE", "O")


def test_parquet_is_read(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"text": ["Bad.", "Good."], "label": [0, 1], "other": [1.5, 2.5]})
    for split in ("train", "validation"):
        parquet.write_table(table, tmp_path / f"{split}.parquet")

    assert load(tmp_path).splits["train"] == (Example("Bad.", None, 0), Example("Good.", None, 1))


@pytest.mark.filterwarnings("ignore")  # of the library's own dependencies
def test_a_folder_is_read_by_the_library_datasets_with_the_names_of_its_classes(
    tmp_path, monkeypatch
):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    features = datasets.Features(
        {
            "sentence": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["negative", "positive"]),
        }
    )
    rows = {"sentence": ["Bad.", "Good.", "Fine."], "label": [0, 1, 1]}
    for split in ("train", "dev"):
        made = datasets.Dataset.from_dict(rows, features=features)
        made.to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")

    dataset = load(f"datasets:{tmp_path}", text="sentence")

    assert dataset.labels == ("negative", "positive")
    assert len(dataset.splits["validation"]) == 3


def test_a_name_that_the_library_cannot_find_is_refused(monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(BadData, match="it cannot be loaded"):
        load("datasets:./nowhere")


@pytest.mark.parametrize(
    ("content", "columns", "fault", "line"),
    [
        pytest.param("text,label\na\n", {}, "not as many cells as the header", 2, id="few"),
        pytest.param("text,label\na,b,c\n", {}, "not as many cells as the header", 2, id="many"),
        pytest.param('text,label\n"a,b\n', {}, "no row of a table", 2, id="quote"),
        pytest.param("a,b\n1,2\n", {}, "none of the columns of a task", None, id="columns"),
        pytest.param("a,b\n1,2\n", {"text": "c"}, "there is no column 'c'", None, id="column"),
        pytest.param("text,score\na,much\n", {}, "the score 'much' is no number", 2, id="score"),
        pytest.param("text,labels\na,b\n", {}, "Expected `array | null`", 2, id="list"),
        pytest.param("text,label\n,b\n", {}, "there is no text", 2, id="empty"),
        pytest.param("text,label\n", {}, "the file has no examples", None, id="nothing"),
        pytest.param(b"text,label\n\xff,b\n", {}, "this is not UTF-8", None, id="encoding"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path, content, columns, fault, line):
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "train.csv").write_bytes(raw)

    with pytest.raises(BadData) as refusal:
        load(tmp_path, **columns)

    assert fault in str(refusal.value)
    assert refusal.value.line == line


def test_a_file_that_only_claims_to_be_parquet_is_refused(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 it is not")

    with pytest.raises(BadData, match="no Parquet file"):
        load(tmp_path)


def test_a_cell_may_be_as_long_as_a_text_is(tmp_path):
    long = "word " * 40_000
    rows = "".join(f'"{long}{at}",{at % 2}\n' for at in range(4))
    (tmp_path / "train.csv").write_text("text,label\n" + rows)

    found = load(tmp_path)

    texts = [example.text for split in found.splits.values() for example in split]
    assert sorted(texts) == [f"{long}{at}" for at in range(4)]


def test_a_label_that_only_looks_like_a_number_is_a_word(tmp_path):
    rows = "".join(f"a {label},{label}\n" for label in ("10", "²", "9") * 2)
    (tmp_path / "train.csv").write_text("text,label\n" + rows)

    assert load(tmp_path).labels == ("9", "10", "²")
