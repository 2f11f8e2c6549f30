"""What was published through our own API, read by the Hugging Face protocol."""

import hashlib

import pytest
from sqlalchemy import select
from tests.factories import OTHER_FINGERPRINT, make_files, make_manifest, sha256
from tests.registry.conftest import Clock, Hub
from tests.registry.huggingface.conftest import Client

from adapterhub_registry.app import create_app
from adapterhub_registry.models import ImportedEntry, Version
from adapterhub_registry.storage import MemoryStore

REPO = "ukp/nli.multinli"
WEIGHTS = "adapter.safetensors"


@pytest.fixture
def version(hub, ukp):
    return hub.publish(ukp.token, make_manifest(), make_files())


def publish(hub, token, seed, **changes):
    files = make_files(seed)
    return hub.publish(token, make_manifest(files=files, **changes), files)


def git_oid(content):
    digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return digest.hexdigest()


def test_a_file_comes_with_its_commit_and_its_etag(anyone, version):
    head = anyone.call("HEAD", f"/{REPO}/resolve/main/{WEIGHTS}")
    body = anyone.file(REPO, WEIGHTS)

    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["X-Repo-Commit"] == version.digest[7:47]
    assert head.headers["ETag"] == f'"{sha256(make_files()[WEIGHTS])}"'
    assert head.headers["Content-Length"] == head.headers["X-Linked-Size"] == str(len(body.data))
    assert body.data == make_files()[WEIGHTS]
    assert not {"X-Xet-Hash", "X-Xet-Refresh-Route", "Link"} & set(dict(body.headers))


def test_a_small_file_has_the_name_that_git_gives_it(anyone, version):
    head = anyone.call("HEAD", f"/{REPO}/resolve/main/README.md")
    listed = anyone.get(f"/api/models/{REPO}/tree/main").get_json()

    assert head.headers["ETag"] == f'"{git_oid(make_files()["README.md"])}"'
    assert [each["oid"] for each in listed if each["path"] == "README.md"] == [
        git_oid(make_files()["README.md"])
    ]


@pytest.mark.parametrize(
    ("sent", "status", "content_range"),
    [
        pytest.param("bytes=0-3", 206, "bytes 0-3/{}", id="start"),
        pytest.param("bytes=4-", 206, "bytes 4-{last}/{}", id="rest"),
        pytest.param("bytes=-2", 206, "bytes {before_last}-{last}/{}", id="end"),
        pytest.param("bytes=99999-", 416, "bytes */{}", id="beyond"),
    ],
)
def test_a_range_is_served(anyone, version, sent, status, content_range):
    content = make_files()[WEIGHTS]

    found = anyone.get(f"/{REPO}/resolve/main/{WEIGHTS}", headers={"Range": sent})

    size = len(content)
    wanted = content_range.format(size, last=size - 1, before_last=size - 2)
    assert (found.status_code, found.headers["Content-Range"]) == (status, wanted)
    if status == 206:
        start, stop = wanted.removeprefix("bytes ").split("/")[0].split("-")
        assert found.data == content[int(start) : int(stop) + 1]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param(f"/{REPO}/resolve/main/absent.json", "EntryNotFound", id="file"),
        pytest.param(f"/{REPO}/resolve/v9/README.md", "RevisionNotFound", id="tag"),
        pytest.param(f"/{REPO}/resolve/refs%2Fpr%2F1/README.md", "RevisionNotFound", id="pull"),
        pytest.param(f"/{REPO}/resolve/{'0' * 40}/README.md", "RevisionNotFound", id="commit"),
        pytest.param("/ukp/nli.other/resolve/main/README.md", "RepoNotFound", id="repository"),
        pytest.param("/a--b/c!/resolve/main/README.md", "RepoNotFound", id="no id"),
        pytest.param("/gpt2/resolve/main/config.json", "RepoNotFound", id="no namespace"),
        pytest.param("/api/models/gpt2", "RepoNotFound", id="info without namespace"),
        pytest.param("/api/models/gpt2/tree/main", "RepoNotFound", id="tree without namespace"),
        pytest.param(f"/api/models/{REPO}/tree/main/absent", "EntryNotFound", id="folder"),
        pytest.param(f"/{REPO}/resolve/main/..%2f..%2fetc/passwd", "EntryNotFound", id="outside"),
    ],
)
def test_what_is_not_there_is_said_in_a_header(anyone, version, path, code):
    found = anyone.call("HEAD", path)

    assert (found.status_code, found.headers["X-Error-Code"]) == (404, code)
    assert found.headers["X-Error-Message"]


def test_info_names_commit_and_files(anyone, version):
    found = anyone.info(REPO)

    assert (found["id"], found["modelId"], found["sha"]) == (REPO, REPO, version.digest[7:47])
    assert {each["rfilename"] for each in found["siblings"]} == set(make_files())
    assert found["config"]["adapters"]["model_name"] == "bert-base-uncased"
    assert {"adapters", "adapter-transformers", "base_model:bert-base-uncased"} <= set(
        found["tags"]
    )
    assert found["lastModified"].endswith("Z")


def test_blobs_are_described_on_request(anyone, version):
    found = anyone.get(f"/api/models/{REPO}?blobs=True").get_json()

    by_path = {each["rfilename"]: each for each in found["siblings"]}
    content = make_files()[WEIGHTS]
    assert by_path[WEIGHTS]["lfs"]["sha256"] == sha256(content)
    assert by_path["README.md"]["blobId"] == git_oid(make_files()["README.md"])


def test_the_id_may_come_in_any_case(anyone, version):
    assert anyone.info("UKP/NLI.MultiNLI")["id"] == REPO


def test_versions_are_tags_and_main_is_the_newest(hub, ukp, anyone, version):
    second = publish(hub, ukp.token, 1)

    found = anyone.get(f"/api/models/{REPO}/refs").get_json()

    tags = {each["name"]: each["targetCommit"] for each in found["tags"]}
    assert tags == {"v1": version.digest[7:47], "v2": second.digest[7:47]}
    assert [(each["name"], each["targetCommit"]) for each in found["branches"]] == [
        ("main", second.digest[7:47])
    ]
    assert found["converts"] == []
    assert anyone.file(REPO, "README.md", "v1").data == b"# Adapter 0\n"
    assert anyone.file(REPO, "README.md", version.digest[7:47]).data == b"# Adapter 0\n"


def test_another_variant_is_a_branch(hub, ukp, anyone, version):
    base = {"name": "org/roberta_Base", "fingerprint": OTHER_FINGERPRINT}
    other = publish(hub, ukp.token, 1, base=base)

    found = anyone.get(f"/api/models/{REPO}/refs").get_json()

    branches = {each["name"]: each["targetCommit"] for each in found["branches"]}
    assert branches == {
        "main": version.digest[7:47],
        "roberta_base.seq_bn": other.digest[7:47],
    }
    assert "roberta_base.seq_bn.v1" in {each["name"] for each in found["tags"]}
    assert anyone.file(REPO, "README.md", "roberta_base.seq_bn").data == b"# Adapter 1\n"


def test_an_alias_is_a_tag(hub, ukp, anyone, version):
    path = "/adapters/nli/multinli@ukp/aliases/stable"
    assert hub.call("PUT", path, ukp.token, body={"version": "1"}).status_code == 200

    assert anyone.info(REPO, "stable")["sha"] == version.digest[7:47]


def test_a_yanked_version_warns_and_main_goes_back(hub, ukp, anyone, version):
    publish(hub, ukp.token, 1)
    path = "/adapters/nli/multinli@ukp/versions/2/yank"
    assert hub.call("POST", path, ukp.token, body={"reason": "wrong labels"}).status_code == 200

    pinned = anyone.file(REPO, "README.md", "v2")

    assert pinned.headers["X-HF-Warning"].startswith("yank; ")
    assert "wrong labels" in pinned.headers["X-HF-Warning"]
    assert anyone.file(REPO, "README.md").data == b"# Adapter 0\n"
    assert "X-HF-Warning" not in anyone.file(REPO, "README.md").headers


def test_when_all_is_yanked_main_says_why(hub, ukp, anyone, version):
    path = "/adapters/nli/multinli@ukp/versions/1/yank"
    assert hub.call("POST", path, ukp.token, body={"reason": "leaked data"}).status_code == 200

    found = anyone.file(REPO, "README.md")

    assert (found.status_code, found.headers["X-Error-Code"]) == (404, "RevisionNotFound")
    assert "leaked data" in found.headers["X-Error-Message"]
    assert anyone.file(REPO, "README.md", "v1").status_code == 200


def test_private_is_as_missing(hub, ukp, anyone):
    files = make_files()
    manifest = make_manifest(reference="nli/secret@ukp", files=files)
    hub.publish(ukp.token, manifest, files, private=True)

    routes = ["/{}/resolve/main/README.md", "/api/models/{}", "/api/models/{}/refs"]
    for route in routes:
        private = anyone.get(route.format("ukp/nli.secret"))
        missing = anyone.get(route.format("ukp/nli.absent"))
        assert private.status_code == missing.status_code == 404
        assert private.text.replace("secret", "absent") == missing.text
        assert private.headers["X-Error-Code"] == missing.headers["X-Error-Code"]
        assert ukp.get(route.format("ukp/nli.secret")).status_code == 200


def test_a_wrong_token_is_told_apart_from_a_missing_repository(hub, anyone, version):
    anyone.token = "ahub_wrong"

    found = anyone.get(f"/api/models/{REPO}")

    assert found.status_code == 401
    assert found.headers["X-Error-Message"] == "Invalid credentials in Authorization header"


def test_paths_info_leaves_out_what_is_not_there(anyone, version):
    form = {"paths": [WEIGHTS, "absent"], "expand": "True"}

    found = anyone.call("POST", f"/api/models/{REPO}/paths-info/main", data=form).get_json()

    assert [each["path"] for each in found] == [WEIGHTS]
    assert found[0]["lfs"]["oid"] == sha256(make_files()[WEIGHTS])
    assert found[0]["lastCommit"]["id"] == version.digest[7:47]
    assert found[0]["securityFileStatus"]["status"] == "safe"


def test_commits_are_versions_newest_first(hub, ukp, anyone, version):
    second = publish(hub, ukp.token, 1)

    found = anyone.get(f"/api/models/{REPO}/commits/main").get_json()

    assert [each["id"] for each in found] == [second.digest[7:47], version.digest[7:47]]
    assert found[0]["authors"] == [{"user": "ukp"}]


def test_a_slash_after_the_revision_changes_nothing(anyone, version):
    assert anyone.get(f"/api/models/{REPO}/tree/main/").status_code == 200


def test_no_xet_is_offered(anyone, version):
    token = anyone.get(f"/api/models/{REPO}/xet-write-token/main")
    expanded = anyone.get(f"/api/models/{REPO}/revision/main?expand=xetEnabled").get_json()

    assert token.status_code == 404
    assert "HF_HUB_DISABLE_XET" in token.headers["X-Error-Message"]
    assert expanded["xetEnabled"] is False


@pytest.mark.parametrize(
    "path",
    [
        "/api/datasets/a/b",
        "/api/spaces",
        "/datasets/a/b/resolve/main/x.csv",
        f"/api/models/{REPO}/discussions",
        "/api/settings/webhooks",
        "/api/collections",
    ],
)
def test_what_is_not_offered_says_so(anyone, version, path):
    found = anyone.get(path)

    assert (found.status_code, found.headers["X-Error-Code"]) == (501, "NotImplemented")
    assert found.headers["X-Error-Message"].endswith(".")


def test_a_download_of_weights_counts_once(anyone, version):
    anyone.call("HEAD", f"/{REPO}/resolve/main/{WEIGHTS}")
    anyone.file(REPO, WEIGHTS)
    anyone.file(REPO, "README.md")

    assert anyone.info(REPO)["downloads"] == 1


class Linking(MemoryStore):
    """A store that serves clients itself."""

    def download_url(self, sha256, lifetime):
        del lifetime
        return f"https://store.example/{sha256}"


def test_large_files_come_from_a_store_that_serves_them(settings):
    hub = Hub(create_app(settings, store=Linking(), clock=Clock()), Clock())
    hub.publish(hub.token("ukp"), make_manifest(), make_files())
    anyone = Client(hub)

    head = anyone.call("HEAD", f"/{REPO}/resolve/main/{WEIGHTS}")
    body = anyone.file(REPO, WEIGHTS)
    small = anyone.file(REPO, "README.md")
    hub.runtime.database.close()

    digest = sha256(make_files()[WEIGHTS])
    assert (head.status_code, head.headers["X-Linked-Etag"]) == (200, f'"{digest}"')
    assert body.status_code == 302
    assert body.headers["Location"] == f"https://store.example/{digest}"
    assert body.headers["X-Repo-Commit"] == head.headers["X-Repo-Commit"]
    assert (small.status_code, small.data) == (200, make_files()["README.md"])


def test_an_entry_of_the_old_hub_answers_to_its_old_id(hub, ukp, anyone, version):
    base = {"name": "roberta-base", "fingerprint": OTHER_FINGERPRINT}
    other = publish(hub, ukp.token, 1, base=base)
    with hub.runtime.database.writing() as session:
        row = session.scalars(select(Version).filter_by(digest=other.digest)).one()
        texts = ("kind", "task", "subtask", "model_type", "model_name", "author", "architecture")
        session.add(
            ImportedEntry(
                **dict.fromkeys((*texts, "config_id", "default_version", "description"), ""),
                **{key: {} for key in ("contact", "overrides", "config", "dependencies")},
                organization="ukp",
                file="roberta-base-pf-multinli",
                source_sha256="0" * 64,
                position=0,
                variant_id=row.variant_id,
                adapter_id=row.variant.adapter_id,
                prediction_head=False,
                languages=[],
            )
        )

    found = anyone.info("AdapterHub/roberta-base-pf-multinli")

    assert found["sha"] == other.digest[7:47]
    assert found["id"] == "AdapterHub/roberta-base-pf-multinli"
    assert anyone.get("/api/models/AdapterHub/absent").status_code == 404
