"""Every kind of task, from its rows to a saved run that predicts: on a tiny base, in a second or two."""

import json

import numpy as np
import pytest

from adapterhub_training import experiment, pruned, run, saved
from adapterhub_training.errors import BadData, BadExperiment
from adapterhub_training.kinds import Row, named
from adapterhub_training.progress import Quiet
from adapterhub_training.run import Around
from adapterhub_training.workshop import Workshop

ANIMALS, DEEDS, HOW = ("cat", "dog", "bird"), ("sleeps", "runs", "sings"), ("well", "badly")
EVERY = [(a, d, h) for a in ANIMALS for d in DEEDS for h in HOW] * 2


def text(animal, deed, how):
    return f"the {animal} {deed} {how} ."


TASKS = {
    "classification": [{"text": text(*each), "label": each[2]} for each in EVERY],
    "multilabel": [
        {"text": text(*each), "labels": [each[2], *(["sings"] if each[1] == "sings" else [])]}
        for each in EVERY
    ],
    "regression": [
        {"text": text(*each), "score": (1.0 if each[2] == "well" else -1.0)} for each in EVERY
    ],
    "tagging": [
        {
            "tokens": text(*each).split(),
            "tags": ["O", "B-WHO", "O", "B-HOW", "O"],
        }
        for each in EVERY
    ],
    "multiple_choice": [
        {
            "context": text(*each),
            "question": "",
            "choices": list(HOW),
            "label": str(HOW.index(each[2])),
        }
        for each in EVERY
    ],
    "extractive_qa": [
        {
            "context": text(*each),
            "question": "the cat .",
            "answers": [{"text": each[2], "start": text(*each).index(each[2])}],
        }
        for each in EVERY
    ],
    "masked_lm": [{"text": text(*each)} for each in EVERY],
}
LEARNED = {
    "classification": ("accuracy", 1.0),
    "multilabel": ("macro_f1", 0.95),
    "regression": ("pearson", 0.9),
    "tagging": ("entity_f1", 0.95),
    "multiple_choice": ("accuracy", 0.9),
    "extractive_qa": ("exact_match", 0.9),
    "masked_lm": ("accuracy", 0.3),
}


@pytest.fixture
def learn(experiment_file, tmp_path):
    """Train a task of a kind; its results and its folder."""

    def learn(kind, *overrides, rows=None):
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        rows = rows or TASKS[kind]
        for split, own in (("train", rows[:24]), ("validation", rows[24:]), ("test", rows[24:])):
            lines = "".join(json.dumps(row) + "\n" for row in own)
            (folder / f"{split}.jsonl").write_text(lines)
        wanted = experiment.read(
            experiment_file,
            [f"task.data={folder}", "training.epochs=40", "training.batch_size=4", *overrides],
        )
        (results,) = run.run(wanted, Quiet(), overwrite=True)
        return results, tmp_path / "run"

    return learn


@pytest.mark.parametrize("kind", TASKS)
def test_a_kind_is_recognised_learned_saved_and_found_again(learn, kind):
    results, folder = learn(kind)
    metric, least = LEARNED[kind]

    assert results.kind == kind
    assert results.mean[metric] >= least
    again, split = saved.load(folder).evaluate()
    assert split == "test"
    assert again.values == pytest.approx(results.best.reported.values, abs=1e-5)


def test_a_label_is_predicted_with_how_probable_each_is(learn):
    _, folder = learn("classification")

    (told,) = saved.load(folder).predict([Row(text="a bird sings well .")])

    assert told.label == "well"
    assert sum(told.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_several_labels_are_predicted_each_above_its_own_threshold(learn):
    results, folder = learn("multilabel")
    assert len(results.best.selected.thresholds) == 3

    (told,) = saved.load(folder).predict([Row(text="the bird sings well .")])

    assert told.labels == ["sings", "well"]


def test_thresholds_are_chosen_on_validation_and_not_on_what_is_reported():
    kind = named("multilabel")
    gold = [((0,), 1), ((), 1), ((0,), 1), ((), 1)]
    encoded = type("E", (), {"targets": gold})
    certain = [np.array([value], dtype=np.float32) for value in (-0.5, -2.0, -0.4, -3.0)]

    chosen = kind.evaluate(encoded, certain, ["yes"])
    other = [np.array([value], dtype=np.float32) for value in (5.0, 4.0, 5.0, 4.0)]
    reported = kind.evaluate(encoded, other, ["yes"], chosen)

    assert chosen.value("macro_f1") == 1
    assert reported.thresholds == chosen.thresholds
    assert reported.value("macro_f1") == pytest.approx(2 * 2 / (4 + 2))


def test_a_number_is_predicted(learn):
    _, folder = learn("regression")

    good, bad = saved.load(folder).predict(
        [Row(text="the bird sings well ."), Row(text="the bird sings badly .")]
    )

    assert good.score > 0.5 > -0.5 > bad.score


def test_labels_on_a_scale_are_learned_as_numbers_between_minus_one_and_one(learn):
    rows = [{"text": row["text"], "label": row["label"]} for row in TASKS["classification"]]
    results, folder = learn(
        "regression", "task.kind=regression", 'task.scale=["badly", "well"]', rows=rows
    )

    (told,) = saved.load(folder).predict([Row(text="a bird sings well .")])

    assert results.mean["accuracy"] == 1
    assert (told.label, round(told.score)) == ("well", 1)


def test_stars_are_laid_evenly_over_the_scale():
    assert named("regression", ("1", "2", "3", "4", "5")).values == (-1, -0.5, 0, 0.5, 1)


def test_words_are_tagged(learn):
    _, folder = learn("tagging")

    (told,) = saved.load(folder).predict([Row(tokens=["the", "bird", "sings", "well", "."])])

    assert told.tags == ["O", "B-WHO", "O", "B-HOW", "O"]


def test_words_that_do_not_fit_count_as_wrong(learn):
    results, _ = learn("tagging", "training.max_length=5")

    assert results.mean["accuracy"] <= 3 / 5


def test_a_choice_is_predicted_by_its_position(learn):
    _, folder = learn("multiple_choice")

    (told,) = saved.load(folder).predict(
        [Row(context="the bird sings badly .", question="", choices=list(HOW))]
    )

    assert told.label == "1"


def test_an_answer_is_a_piece_of_its_context(learn):
    _, folder = learn("extractive_qa")
    context = "the bird sings badly ."

    (told,) = saved.load(folder).predict([Row(context=context, question="the cat .")])

    assert told.answer == "badly"
    assert context[told.start :].startswith("badly")


def test_a_long_context_is_read_in_windows(learn):
    rows = []
    for animal, deed, how in EVERY:
        context = f"{'a dog runs . ' * 12}the {animal} {deed} {how} ."
        answer = {"text": how, "start": context.index(how)}
        rows.append({"context": context, "question": "the cat .", "answers": [answer]})

    results, folder = learn("extractive_qa", "training.max_length=32", rows=rows)

    assert results.mean["exact_match"] > 0.8
    (told,) = saved.load(folder).predict([Row(context=rows[0]["context"], question="the cat .")])
    assert told.answer == "well"


@pytest.mark.parametrize(
    ("kind", "row", "fault"),
    [
        pytest.param("multilabel", {"text": "a cat"}, "there is no `labels`", id="labels"),
        pytest.param("multilabel", {"text": "a", "labels": ["x"]}, "'x' is unknown", id="label"),
        pytest.param("regression", {"text": "a cat"}, "there is no `score`", id="score"),
        pytest.param("tagging", {"tokens": ["a"], "tags": []}, "1 tokens and 0 tags", id="tags"),
        pytest.param("tagging", {"tokens": ["a"], "tags": ["X"]}, "'X' is unknown", id="tag"),
        pytest.param(
            "multiple_choice",
            {"context": "a", "question": "", "choices": ["a", "b"], "label": "2"},
            "`label` is 2, and there are 2 choices",
            id="choice",
        ),
        pytest.param(
            "multiple_choice",
            {"context": "a", "question": "", "choices": ["a"], "label": "0"},
            "there are not two `choices`",
            id="no choice",
        ),
        pytest.param(
            "extractive_qa",
            {"context": "a cat", "question": "who", "answers": [{"text": "dog", "start": 2}]},
            "the answer 'dog' is not at 2 of its context",
            id="answer",
        ),
        pytest.param("extractive_qa", {"context": "a", "answers": []}, "no `question`", id="ask"),
        pytest.param("masked_lm", {"text": " "}, "there is no text", id="text"),
    ],
)
def test_a_row_that_is_not_of_the_kind_is_named(learn, kind, row, fault):
    rows = [*TASKS[kind][:30], row]

    with pytest.raises(BadData, match=fault) as refusal:
        learn(kind, rows=rows)

    assert refusal.value.line == 7
    assert refusal.value.path.name == "validation.jsonl"


def test_a_metric_that_the_kind_has_not_is_refused(learn):
    with pytest.raises(BadExperiment, match=r"`task\.metric` is 'pearson'") as refusal:
        learn("classification", "task.metric=pearson")

    assert refusal.value.hint == "it has accuracy, macro_f1, mcc"


def test_a_loss_that_the_kind_has_not_is_refused(learn):
    with pytest.raises(BadExperiment, match=r"`training\.loss` is 'bce'"):
        learn("classification", "training.loss=bce")


@pytest.mark.parametrize(
    ("kind", "loss"),
    [("classification", "focal"), ("multilabel", "focal"), ("multilabel", "softmax")],
)
def test_a_kind_learns_with_its_other_losses(learn, kind, loss):
    results, _ = learn(kind, f"training.loss={loss}")

    metric, least = LEARNED[kind]
    assert results.mean[metric] >= least - 0.1


def test_words_the_tokenizer_has_nothing_for_do_not_move_the_others(learn):
    rows = [
        {"tokens": ["\u200b", *row["tokens"]], "tags": ["O", *row["tags"]]}
        for row in TASKS["tagging"]
    ]
    results, folder = learn("tagging", "training.epochs=80", rows=rows)

    words = ["\u200b", *text("bird", "sings", "well").split()]
    (told,) = saved.load(folder).predict([Row(tokens=words)])

    assert told.tags == ["O", "O", "B-WHO", "O", "B-HOW", "O"]
    assert results.mean["entity_f1"] >= 0.95
    assert 0.75 < results.mean["accuracy"] <= 5 / 6  # a word without a token counts as wrong


def test_words_that_were_cut_count_against_the_recall_of_their_tags(learn):
    results, _ = learn("tagging", "training.max_length=5")

    how = next(each for each in results.best.reported.classes if each.label == "B-HOW")
    assert how.support == len(EVERY) - 24
    assert how.recall == 0


def test_a_question_without_an_answer_is_answered_with_nothing(learn):
    asked = [
        {
            "context": row["context"],
            "question": question,
            "answers": row["answers"] if question == "the cat ." else [],
        }
        for row in TASKS["extractive_qa"]
        for question in ("the cat .", "not not not")
    ]
    results, folder = learn("extractive_qa", "training.epochs=80", rows=asked)

    known, unknown = saved.load(folder).predict(
        [
            Row(context="the bird sings badly .", question="the cat ."),
            Row(context="the bird sings badly .", question="not not not"),
        ]
    )

    assert results.mean["exact_match"] >= 0.9
    assert known.answer == "badly"
    assert (unknown.answer, unknown.start) == ("", None)


def test_a_long_question_leaves_room_for_its_context(learn):
    rows = [{**row, "question": "the cat . " * 60} for row in TASKS["extractive_qa"]]

    results, _ = learn("extractive_qa", rows=rows)

    assert results.mean["exact_match"] >= 0.9


def test_rare_labels_are_learned_though_nearly_all_are_absent(learn):
    names = [f"rare-{number}" for number in range(40)]
    rows = [
        {**row, "labels": [*row["labels"], *([names[at]] if at < 24 and at < len(names) else [])]}
        for at, row in enumerate(TASKS["multilabel"])
    ]

    results, _ = learn(
        "multilabel", f"task.labels={json.dumps(['sings', *HOW, *names])}", rows=rows
    )

    scores = {each.label: each.f1 for each in results.best.reported.classes}
    assert scores["well"] >= 0.95
    assert scores["badly"] >= 0.95


@pytest.mark.parametrize(
    ("kind", "row", "fault"),
    [
        ("extractive_qa", Row(text="what is it ?"), "there is no `context` or no `question`"),
        ("multiple_choice", Row(context="a", question="", choices=["b", "c", "d"]), "takes 2"),
        ("classification", Row(), "there is no text"),
    ],
)
def test_a_question_that_is_none_of_its_kind_is_refused(learn, kind, row, fault):
    _, folder = learn(kind, "training.epochs=1")

    with pytest.raises(BadData, match=fault):
        saved.load(folder).predict([row])


def test_other_data_is_scored_though_the_run_s_own_is_gone(learn, tmp_path):
    rows = [{"review": row["text"], "label": row["label"]} for row in TASKS["classification"]]
    _, folder = learn("classification", 'task.columns={text = "review"}', rows=rows)
    (tmp_path / "data").rename(tmp_path / "moved")

    reached, split = saved.load(folder).evaluate(tmp_path / "moved")

    assert (split, reached.value("accuracy")) == ("test", 1.0)


def test_thresholds_of_a_fusion_with_fewer_members_are_those_chosen_on_validation(learn, tmp_path):
    rows = TASKS["multilabel"][:30] + [{**row, "labels": []} for row in TASKS["multilabel"][30:]]
    members = []
    for name in ("first", "second", "third"):
        _, folder = learn("multilabel", f"task.name={name}", "training.epochs=3", rows=rows)
        folder.rename(tmp_path / name)
        members.append(str(tmp_path / name / "adapter"))
    fusion = f"method={{mode='fusion', members={json.dumps(members)}}}"
    whole, folder = learn("multilabel", fusion, "training.epochs=3", rows=rows)

    fewer = pruned.prune(saved.load(folder), 2, tmp_path / "fewer", Around(Quiet(), Workshop()))

    chosen = whole.best.selected.thresholds
    assert len(chosen) == 3
    assert fewer.best.reported.thresholds == whole.best.reported.thresholds == chosen


def test_what_was_trained_in_bfloat16_is_scored_in_float32(learn):
    results, folder = learn("regression", "training.precision=bfloat16", "training.epochs=3")

    reached, _ = saved.load(folder).evaluate()

    assert reached.values == pytest.approx(results.mean, abs=1e-5)
