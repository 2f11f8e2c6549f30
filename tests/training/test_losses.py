import pytest
import torch
from torch.nn import functional

from adapterhub_training.kinds import IGNORED, Wanted, losses

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 3.0, 0.0]])
GOLD = torch.tensor([0, 2, 1])
ONES = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def mean(sums):
    return (sums.total / sums.weight).item()


def test_cross_entropy_is_torchs():
    found = losses.crossed(LOGITS, GOLD, Wanted())

    assert mean(found) == pytest.approx(functional.cross_entropy(LOGITS, GOLD).item())


def test_weights_of_labels_and_smoothing_are_torchs():
    wanted = Wanted(weights=(1.0, 2.0, 0.5), smoothing=0.1)
    expected = functional.cross_entropy(
        LOGITS, GOLD, weight=torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.1
    )

    assert mean(losses.crossed(LOGITS, GOLD, wanted)) == pytest.approx(expected.item())


def test_what_is_ignored_does_not_count():
    gold = torch.tensor([0, IGNORED, 1])
    found = losses.crossed(LOGITS, gold, Wanted())

    assert found.weight == 2
    assert mean(found) == pytest.approx(functional.cross_entropy(LOGITS[[0, 2]], gold[[0, 2]]))


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
@pytest.mark.parametrize("weights", [(), (1.0, 2.0, 0.5)])
def test_a_label_that_is_ignored_leaves_what_the_others_come_to(loss, weights):
    wanted = Wanted(loss=loss, weights=weights)
    padded = torch.cat([LOGITS, torch.ones(1, 3)]), torch.cat([GOLD, torch.tensor([IGNORED])])
    whole = losses.crossed(LOGITS, GOLD, wanted, all_count=True)
    among = losses.crossed(*padded, wanted)

    assert mean(whole) == pytest.approx(mean(among))
    assert float(whole.weight) == pytest.approx(float(among.weight))


def test_focal_without_focus_is_cross_entropy_and_with_it_counts_the_easy_less():
    plain = losses.crossed(LOGITS, GOLD, Wanted(loss="focal", focus=0.0))
    focused = losses.crossed(LOGITS, GOLD, Wanted(loss="focal", focus=2.0))
    right = LOGITS.softmax(-1).gather(1, GOLD[:, None])[:, 0]

    assert mean(plain) == pytest.approx(functional.cross_entropy(LOGITS, GOLD).item())
    assert mean(focused) == pytest.approx((-((1 - right) ** 2) * right.log()).mean().item())


def test_binary_is_torchs_and_its_weights_are_of_what_is_there():
    plain = functional.binary_cross_entropy_with_logits(LOGITS, ONES)
    weighted = functional.binary_cross_entropy_with_logits(
        LOGITS, ONES, pos_weight=torch.tensor([3.0, 1.0, 1.0])
    )

    assert mean(losses.binary(LOGITS, ONES, Wanted())) == pytest.approx(plain.item())
    found = losses.binary(LOGITS, ONES, Wanted(weights=(3.0, 1.0, 1.0)))
    assert mean(found) == pytest.approx(weighted.item())


def test_labels_as_one_distribution_leave_out_examples_without_any():
    found = losses.spread(LOGITS, ONES)
    logs = LOGITS.log_softmax(-1)

    assert found.weight == 2
    assert found.total.item() == pytest.approx((-(logs[0, 0] + logs[0, 2]) / 2 - logs[2, 1]).item())


def test_balanced_weights_let_all_labels_count_alike():
    weights = losses.balanced([30, 10, 0])

    assert weights == pytest.approx((40 / 60, 40 / 20, 1.0))
    assert 30 * weights[0] == pytest.approx(10 * weights[1])


def test_parts_of_a_batch_add_up_to_the_whole():
    wanted = Wanted(weights=(1.0, 2.0, 0.5))
    whole = losses.crossed(LOGITS, GOLD, wanted)
    parts = [losses.crossed(LOGITS[at], GOLD[at], wanted) for at in (slice(0, 1), slice(1, 3))]

    assert sum(part.total for part in parts) == pytest.approx(whole.total.item())
    assert sum(part.weight for part in parts) == pytest.approx(whole.weight.item())
