import numpy as np
import pytest

from adapterhub_training import evaluation
from adapterhub_training.kinds.classification import classify

# Gold:      a a a b b c        Predicted: a a b b a c
GOLD = np.array([0, 0, 0, 1, 1, 2])
LOGITS = np.array(
    [[3, 1, 0], [2, 0, 0], [0, 1, 0], [0, 5, 1], [4, 1, 1], [0, 0, 1]], dtype=np.float32
)
LABELS = ["a", "b", "c"]


def test_accuracy_is_the_share_of_hits():
    assert classify(GOLD, LOGITS, LABELS).value("accuracy") == pytest.approx(4 / 6)


def test_the_confusion_matrix_has_gold_rows_and_predicted_columns():
    assert classify(GOLD, LOGITS, LABELS).confusion == ((2, 1, 0), (1, 1, 0), (0, 0, 1))


def test_each_label_has_its_precision_recall_and_f1():
    a, b, c = classify(GOLD, LOGITS, LABELS).classes

    assert (a.precision, a.recall, a.f1, a.support) == pytest.approx((2 / 3, 2 / 3, 2 / 3, 3))
    assert (b.precision, b.recall, b.f1, b.support) == pytest.approx((1 / 2, 1 / 2, 1 / 2, 2))
    assert (c.precision, c.recall, c.f1, c.support) == pytest.approx((1, 1, 1, 1))


def test_macro_f1_weighs_all_labels_alike():
    assert classify(GOLD, LOGITS, LABELS).value("macro_f1") == pytest.approx(
        (2 / 3 + 1 / 2 + 1) / 3
    )


def test_a_label_that_never_occurs_scores_zero():
    scores = evaluation.class_scores(np.array([[2, 0], [0, 0]]), ["seen", "unseen"])

    assert (scores[1].precision, scores[1].recall, scores[1].f1) == (0, 0, 0)


def test_precision_and_recall_differ_when_one_label_is_overused():
    scores = evaluation.class_scores(np.array([[3, 0], [3, 2]]), ["often", "seldom"])

    assert (scores[0].precision, scores[0].recall) == (0.5, 1.0)
    assert (scores[1].precision, scores[1].recall) == (1.0, 0.4)
    assert scores[1].f1 == pytest.approx(4 / 7)


def test_cross_entropy_of_even_odds_is_the_log_of_their_number():
    assert evaluation.cross_entropy(
        np.array([0, 1]), np.zeros((2, 4), dtype=np.float32)
    ) == pytest.approx(np.log(4))


def test_cross_entropy_survives_large_logits():
    loss = evaluation.cross_entropy(np.array([1]), np.array([[1000.0, 0.0]], dtype=np.float32))

    assert loss == pytest.approx(1000)


def test_probabilities_add_up_to_one():
    shares = evaluation.probabilities(np.array([[0.0, np.log(3)]], dtype=np.float32))

    assert shares[0] == pytest.approx([0.25, 0.75])


def test_the_spread_over_seeds_is_the_sample_standard_deviation():
    assert evaluation.mean_and_std([0.5, 0.7]) == pytest.approx((0.6, 0.1414213562))


def test_one_seed_has_no_spread():
    assert evaluation.mean_and_std([0.5]) == (0.5, None)
