import pytest
import torch

from adapterhub_training import backbone, batches
from adapterhub_training.data import Example

CPU = torch.device("cpu")
TEXTS = ["the cat sleeps .", "a dog runs well . the bird sings .", "birds", "the dog .", "a cat"]


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return backbone.load(str(tiny_base), CPU).tokenizer


@pytest.fixture
def encoded(tokenizer):
    return batches.encode(
        tokenizer, [Example(text, None, i % 2) for i, text in enumerate(TEXTS)], 32
    )


def test_tokens_are_those_of_the_tokenizer(tokenizer, encoded):
    assert encoded.inputs["input_ids"][0] == tokenizer("the cat sleeps .")["input_ids"]
    assert encoded.lengths == [6, 11, 3, 5, 4]


def test_pairs_have_token_types(tokenizer):
    pairs = batches.encode(tokenizer, [Example("the cat", "a dog .", 0)], 32)

    assert pairs.inputs["token_type_ids"] == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_long_texts_are_cut(tokenizer):
    cut = batches.encode(tokenizer, [Example(TEXTS[1], TEXTS[1], 0)], 8)

    assert cut.lengths == [8]


def test_an_epoch_has_every_example_once(encoded):
    rows = [row for batch in batches.shuffled(encoded, 2, seed=7) for row in batch]

    assert sorted(rows) == [0, 1, 2, 3, 4]


def test_the_same_seed_gives_the_same_order_and_another_one_another(tokenizer):
    many = batches.encode(tokenizer, [Example("the cat .", None, 0)] * 64, 32)

    assert batches.shuffled(many, 8, seed=1) == batches.shuffled(many, 8, seed=1)
    assert batches.shuffled(many, 8, seed=1) != batches.shuffled(many, 8, seed=2)


def test_examples_of_like_length_share_a_batch(tokenizer):
    texts = ["cat " * (1 + i % 10) for i in range(100)]
    mixed = batches.encode(tokenizer, [Example(text, None, 0) for text in texts], 32)
    in_order = [list(range(i, i + 10)) for i in range(0, 100, 10)]

    assert batches.padding_share(mixed, batches.shuffled(mixed, 10, seed=1)) == 0
    assert batches.padding_share(mixed, in_order) == pytest.approx(1 - 7.5 / 12)


def test_a_batch_is_padded_to_its_longest_example(encoded):
    [batch] = batches.collate(encoded, [[2, 3]])

    assert batch.inputs["input_ids"].shape == (2, 5)
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.inputs["input_ids"][0, 3:].tolist() == [0, 0]
    assert batch.labels.tolist() == [0, 1]


def test_lengths_can_be_rounded_up(encoded):
    [batch] = batches.collate(encoded, [[1]], multiple=8)

    assert batch.inputs["input_ids"].shape == (1, 16)


def test_padding_goes_to_the_left_where_the_tokenizer_wants_it(tokenizer, encoded):
    tokenizer.padding_side = "left"
    left = batches.encode(tokenizer, [Example("a cat", None, 0), Example("the dog .", None, 0)], 32)
    tokenizer.padding_side = "right"

    [batch] = batches.collate(left, [[0, 1]])

    assert batch.inputs["attention_mask"].tolist() == [[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]


def test_evaluation_goes_by_length(encoded):
    assert batches.ordered(encoded, 2) == [[2, 4], [3, 0], [1]]
