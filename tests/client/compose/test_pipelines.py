"""An adapted model in the pipelines of transformers."""

import logging

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import BertProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from adapterhub_client import compose
from adapterhub_client.errors import CompositionError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "warm", "dull", "film"]
TEXTS = ["a warm film", "a dull film", "dull"]


@pytest.fixture
def tokenizer():
    words = Tokenizer(WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]"
    )


@pytest.fixture
def adapted():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.5,
    )
    found = compose.attach(BertModel(config).eval())
    found.add("own", "seq_bn")
    return found


def logits(adapted, tokenizer, text):
    with torch.no_grad():
        return adapted(**tokenizer(text, return_tensors="pt")).logits[0]


def test_labels_have_the_probabilities_that_the_model_gives(adapted, tokenizer, caplog):
    adapted.add_head("own", kind="classification", labels=["bad", "good"])
    adapted.activate("own", head="own")

    with caplog.at_level(logging.WARNING):
        classify = adapted.pipeline(tokenizer, top_k=None)
    found = classify(TEXTS, batch_size=2)

    assert isinstance(classify, transformers.TextClassificationPipeline)
    assert "not supported" not in caplog.text
    for text, scores in zip(TEXTS, found, strict=True):
        wanted = logits(adapted, tokenizer, text).softmax(-1)
        told = {each["label"]: each["score"] for each in scores}
        assert told == pytest.approx({"bad": wanted[0].item(), "good": wanted[1].item()}, abs=1e-5)


def test_labels_of_a_multilabel_head_are_told_one_by_one(adapted, tokenizer):
    labels = ["joy", "anger", "surprise"]
    adapted.add_head("own", kind="multilabel_classification", labels=labels)
    adapted.activate("own", head="own")

    (found,) = adapted.pipeline(tokenizer, top_k=None)(TEXTS[:1])

    wanted = logits(adapted, tokenizer, TEXTS[0]).sigmoid()
    told = {each["label"]: each["score"] for each in found}
    assert told == pytest.approx(dict(zip(labels, wanted.tolist(), strict=True)), abs=1e-5)


def test_words_are_tagged(adapted, tokenizer):
    adapted.add_head("own", kind="tagging", labels=["O", "THING"])
    adapted.activate("own", head="own")

    found = adapted.pipeline(tokenizer, ignore_labels=[])(TEXTS[0])

    places = logits(adapted, tokenizer, TEXTS[0]).argmax(-1)[1:-1]
    assert [each["entity"] for each in found] == [["O", "THING"][at] for at in places]


def test_a_pipeline_answers_for_the_head_it_was_made_for_or_not_at_all(adapted, tokenizer):
    for name in ("own", "other"):
        adapted.add_head(name, labels=[f"{name} a", f"{name} b"])
    adapted.activate("own", head="own")
    classify = adapted.pipeline(tokenizer)
    adapted.activate("own", head="other")

    with pytest.raises(CompositionError, match="Another head is active"):
        classify(TEXTS[0])
    adapted.activate("own", head="own")
    assert classify(TEXTS[0])[0]["label"].startswith("own")


def test_what_no_pipeline_is_for_is_said(adapted, tokenizer):
    adapted.activate("own")
    with pytest.raises(CompositionError, match="needs one head, and none is active"):
        adapted.pipeline(tokenizer)

    adapted.add_head("own", kind="multiple_choice", num_choices=2)
    adapted.activate("own", head="own")
    with pytest.raises(CompositionError, match="no pipeline for a head of the kind"):
        adapted.pipeline(tokenizer)
