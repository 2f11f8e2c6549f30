"""Lists of repositories: adapters and drafts, for those who may see them."""

import pytest
from tests.factories import make_files, make_manifest


@pytest.fixture
def shelf(hub, ukp):
    """Three adapters, one draft and one private adapter, made one minute after the other."""
    for seed, (reference, changes) in enumerate(
        [
            ("nli/multinli@ukp", {"license": "mit", "languages": ["en"]}),
            ("sts/mrpc@ukp", {"base": {"name": "roberta-base", "architecture": "roberta"}}),
            ("nli/peft@ukp", {"method": {"format": "peft", "name": "lora"}}),
        ]
    ):
        files = make_files(seed)
        hub.publish(ukp.token, make_manifest(reference, files, **changes), files)
        hub.clock.move(minutes=1)
    ukp.create("ukp/nli.draft")
    hub.clock.move(minutes=1)
    files = make_files(9)
    hub.publish(ukp.token, make_manifest("nli/hidden@ukp", files), files, private=True)


def ids(client, query=""):
    found = client.get(f"/api/models{query}")
    assert found.status_code == 200, found.text
    return [each["id"] for each in found.get_json()]


def test_everything_public_newest_first(anyone, shelf):
    assert ids(anyone) == ["ukp/nli.draft", "ukp/nli.peft", "ukp/sts.mrpc", "ukp/nli.multinli"]


def test_members_see_what_is_private(ukp, shelf):
    assert ids(ukp)[0] == "ukp/nli.hidden"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?search=multi", ["nli.multinli"]),
        ("?search=ukp/nli.peft", ["nli.peft"]),
        ("?search=absent", []),
        ("?author=absent", []),
        ("?author=UKP&filter=adapters", ["sts.mrpc", "nli.multinli"]),
        ("?filter=peft", ["nli.peft"]),
        ("?filter=license:mit", ["nli.multinli"]),
        ("?filter=en", ["nli.multinli"]),
        ("?filter=language:de", []),
        ("?filter=task:sts", ["sts.mrpc"]),
        ("?filter=base_model:adapter:roberta-base", ["sts.mrpc"]),
        ("?filter=roberta", ["sts.mrpc"]),
        ("?filter=lora&filter=peft", ["nli.peft"]),
        ("?filter=dataset:x", []),
        ("?pipeline_tag=text-classification", []),
        ("?sort=createdAt&limit=1", ["nli.draft"]),
        ("?sort=downloads&limit=2", ["nli.peft", "sts.mrpc"]),
        ("?gated=true", []),
    ],
)
def test_a_list_can_be_narrowed(anyone, shelf, query, names):
    assert ids(anyone, query) == [f"ukp/{name}" for name in names]


@pytest.mark.parametrize("sort", ["lastModified", "createdAt", "downloads"])
def test_pages_follow_each_other(anyone, shelf, sort):
    whole = ids(anyone, f"?sort={sort}")
    paged = []
    path = f"/api/models?sort={sort}&limit=1"
    while path:
        found = anyone.get(path)
        paged += [each["id"] for each in found.get_json()]
        link = found.headers.get("Link", "")
        assert not link or link.startswith("<http://localhost/")
        path = link.partition(">")[0].removeprefix("<http://localhost") if link else ""

    assert paged == whole
    assert len(whole) == 4


def test_an_adapter_is_described(anyone, shelf):
    [found] = anyone.get("/api/models?search=multinli&full=True&config=True").get_json()

    assert found["modelId"] == found["id"] == "ukp/nli.multinli"
    assert found["config"]["adapters"]["model_name"] == "bert-base-uncased"
    assert len(found["sha"]) == 40
    assert {"license:mit", "task:nli", "seq_bn", "bert"} <= set(found["tags"])


@pytest.mark.parametrize("query", ["?sort=size", "?limit=many", "?cursor=x", "?cursor=W10="])
def test_what_cannot_be_asked_is_refused(anyone, query):
    assert anyone.get(f"/api/models{query}").status_code == 400
