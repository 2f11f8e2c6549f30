"""An adapter lands on the base it was made for, in whatever form that comes, and on no other."""

import pytest
import torch
from transformers import AutoModel, BertConfig, BertForSequenceClassification, BertModel

from adapterhub_client import Hub, compose
from adapterhub_client.errors import WrongBase


def other_bert(base_folder):
    """A BERT of exactly MiniLM's shape, with other weights."""
    config = AutoModel.from_pretrained(base_folder).config
    torch.manual_seed(0)
    return BertModel(BertConfig(**{**config.to_dict(), "architectures": None}))


def test_another_base_of_the_same_shape_is_refused_with_its_tensors(published, hub, base_folder):
    with pytest.raises(WrongBase) as refusal:
        hub.pull("nli/based@me", base=other_bert(base_folder))

    assert "encoder.layer.0.attention.self.query.weight" in refusal.value.differing
    assert "tensors differ" in str(refusal.value)


def test_the_command_refuses_another_base_with_its_own_exit_code(
    published, client, base_folder, tmp_path
):
    other_bert(base_folder).save_pretrained(tmp_path / "other")

    code, _, err = client("pull", "nli/based@me", "--base", tmp_path / "other")
    allowed, out, _ = client(
        "pull", "nli/based@me", "--base", tmp_path / "other", "--allow-base-mismatch"
    )

    assert code == 68
    assert "tensors differ" in err
    assert "--allow-base-mismatch" in err
    assert allowed == 0
    assert out


@pytest.mark.parametrize("form", ["re-saved", "sharded", "with a head", "bfloat16", "folder"])
def test_the_same_base_is_accepted_in_every_form(form, published, hub, base_folder, tmp_path):
    model = AutoModel.from_pretrained(base_folder)
    if form == "re-saved":
        model.save_pretrained(tmp_path / "copy")
        base = AutoModel.from_pretrained(tmp_path / "copy")
    elif form == "sharded":
        model.save_pretrained(tmp_path / "copy", max_shard_size="20MB")
        base = tmp_path / "copy"
    elif form == "with a head":
        base = BertForSequenceClassification.from_pretrained(base_folder)
    elif form == "bfloat16":
        base = model.to(torch.bfloat16)
    else:
        base = base_folder

    assert (hub.pull("nli/based@me", base=base) / "adapter.safetensors").is_file()


def test_compose_refuses_the_wrong_base_too(published, hub, base_folder):
    adapted = compose.attach(other_bert(base_folder), hub=hub)

    with pytest.raises(WrongBase):
        adapted.load(str(hub.pull("nli/based@me")))

    assert adapted.load(str(hub.pull("nli/based@me")), allow_base_mismatch=True)


def test_a_pull_pinned_by_digest_needs_no_network(published, hub, base_folder):
    pinned = f"nli/based@me:{published.digest}"
    folder = hub.pull(pinned)

    with Hub("http://127.0.0.1:9", cache=hub.cache.root) as offline:
        assert offline.pull(pinned) == folder
        assert offline.pull(pinned, base=base_folder) == folder
        with pytest.raises(WrongBase):
            offline.pull(pinned, base=other_bert(base_folder))


def test_a_wrong_base_can_be_allowed_with_a_warning(published, hub, base_folder):
    with pytest.warns(UserWarning, match="was made for"):
        folder = hub.pull("nli/based@me", base=other_bert(base_folder), allow_base_mismatch=True)

    assert folder.is_dir()
