import pytest
import torch

from adapterhub_training import backbone, batches
from adapterhub_training.batches import Split
from adapterhub_training.kinds import Example, Limits, named

CPU = torch.device("cpu")
KIND = named("classification")
TEXTS = ["the cat sleeps .", "a dog runs well . the bird sings .", "birds", "the dog .", "a cat"]


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return backbone.load(str(tiny_base), CPU).tokenizer


@pytest.fixture
def encode(tokenizer):
    def encode(*texts, longest=32):
        """Texts, or pairs of them, the labels 0 and 1 in turn."""
        pairs = [text if isinstance(text, tuple) else (text, None) for text in texts]
        examples = [Example(*pair, at % 2) for at, pair in enumerate(pairs)]
        return Split(KIND.encode(tokenizer, examples, Limits(longest)), KIND)

    return encode


@pytest.fixture
def split(encode):
    return encode(*TEXTS)


def test_tokens_are_those_of_the_tokenizer(tokenizer, split):
    assert split.encoded.inputs["input_ids"][0] == tokenizer("the cat sleeps .")["input_ids"]
    assert split.lengths == [6, 11, 3, 5, 4]


def test_pairs_have_token_types(encode):
    pairs = encode(("the cat", "a dog ."))

    assert pairs.encoded.inputs["token_type_ids"] == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_long_texts_are_cut_and_counted(encode):
    cut = encode((TEXTS[1], TEXTS[1]), ("a cat", "a dog"), longest=8)

    assert cut.lengths == [8, 7]
    assert cut.encoded.truncated == 1


def test_a_text_that_just_fits_is_not_counted_as_cut(encode):
    assert encode("the cat sleeps .", longest=6).encoded.truncated == 0


def test_an_epoch_has_every_example_once(split):
    rows = [row for batch in batches.shuffled(split.lengths, 2, 7, 0) for row in batch]

    assert sorted(rows) == [0, 1, 2, 3, 4]


def test_the_same_seed_gives_the_same_order_and_another_seed_or_epoch_another():
    lengths = [5] * 64

    first = batches.shuffled(lengths, 8, 1, 0)

    assert batches.shuffled(lengths, 8, 1, 0) == first
    assert batches.shuffled(lengths, 8, 2, 0) != first
    assert batches.shuffled(lengths, 8, 1, 1) != first


def test_examples_of_like_length_share_a_batch():
    lengths = [20 + 10 * (i % 10) for i in range(100)]
    in_order = [list(range(i, i + 10)) for i in range(0, 100, 10)]

    assert batches.padding_share(lengths, batches.shuffled(lengths, 10, 1, 0)) < 0.05
    assert batches.padding_share(lengths, in_order) == pytest.approx(1 - 65 / 110)


def test_batches_of_two_seeds_have_about_the_same_length_at_each_step():
    lengths = [5 + at * 37 % 95 for at in range(640)]

    pairs = zip(*(batches.shuffled(lengths, 32, seed, 3) for seed in (1, 2)), strict=True)

    longest = [[max(lengths[row] for row in rows) for rows in pair] for pair in pairs]
    assert all(abs(first - second) <= 8 for first, second in longest)
    assert len({first for first, _ in longest}) > 10


def test_a_batch_is_padded_to_its_longest_example(split):
    batch = split.batch([2, 3])

    assert batch.inputs["input_ids"].shape == (2, 5)
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.inputs["input_ids"][0, 3:].tolist() == [0, 0]
    assert batch.targets["labels"].tolist() == [0, 1]
    assert not batch.is_full


def test_a_batch_of_one_length_is_full(split):
    assert split.batch([3]).is_full


def test_lengths_can_be_rounded_up(split):
    batch = split.batch([1], multiple=8)

    assert batch.inputs["input_ids"].shape == (1, 16)
    assert not batch.is_full


def test_padding_goes_to_the_left_where_the_tokenizer_wants_it(tokenizer, encode):
    tokenizer.padding_side = "left"
    left = encode("a cat", "the dog .")
    tokenizer.padding_side = "right"

    batch = left.batch([0, 1])

    assert batch.inputs["attention_mask"].tolist() == [[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]


def test_choices_are_batched_side_by_side(tokenizer):
    kind = named("multiple_choice")
    examples = [Example("", ("the cat", "a dog runs ."), 1), Example("", ("a", "the bird"), 0)]
    split = Split(kind.encode(tokenizer, examples, Limits(32)), kind)

    batch = split.batch([1, 0])

    assert batch.inputs["input_ids"].shape == (2, 2, 6)
    assert batch.inputs["attention_mask"].sum(-1).tolist() == [[3, 4], [4, 6]]
    assert batch.targets["labels"].tolist() == [0, 1]


def test_evaluation_goes_by_length(split):
    assert batches.ordered(split.lengths, 2) == [[2, 4], [3, 0], [1]]


def test_a_batch_is_divided_into_parts():
    assert list(batches.micro([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
    assert list(batches.micro([1, 2], None)) == [[1, 2]]
