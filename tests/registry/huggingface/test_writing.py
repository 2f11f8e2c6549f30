"""Repositories made and changed by the Hugging Face protocol, and the versions that come of it."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from sqlalchemy import select
from tests.factories import make_files, make_manifest, make_weights, sha256

from adapterhub_client import wire
from adapterhub_registry.models import AuditEvent

REPO = "ukp/nli.pushed"
PEFT = {
    "adapter_config.json": json.dumps(
        {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "bert-base-uncased"}
    ).encode(),
    "adapter_model.safetensors": make_weights(3),
    "README.md": b"---\nlicense: mit\nlanguage: en\n---\n# Title\n\nA LoRA for a test.\n",
}


@pytest.fixture
def repository(ukp):
    assert ukp.create(REPO).status_code == 200
    return REPO


def versions(hub, token, name="nli/pushed@ukp"):
    response = hub.get(f"/adapters/{name}", token)
    return [] if response.status_code == 404 else response.get_json()["versions"]


def error(response):
    return response.status_code, response.headers.get("X-Error-Message", "")


def test_a_new_repository_begins_with_a_commit(ukp, anyone, repository):
    found = anyone.info(REPO)

    assert [each["rfilename"] for each in found["siblings"]] == [".gitattributes"]
    assert len(found["sha"]) == 40
    assert b"*.safetensors filter=lfs" in anyone.file(REPO, ".gitattributes").data


def test_a_repository_can_be_made_once(ukp, repository):
    again = ukp.create(REPO)

    assert again.status_code == 409
    assert again.get_json()["url"].endswith(f"/{REPO}")


def test_an_id_answers_in_its_own_spelling(ukp, anyone):
    made = ukp.create("ukp/My-LoRA")

    assert made.get_json()["url"].endswith("/ukp/My-LoRA")
    assert anyone.info("UKP/my-lora")["id"] == "ukp/My-LoRA"
    assert ukp.create("ukp/MY-lora").status_code == 409


@pytest.mark.parametrize("name", ["a--b", "x.git", "-a", "a/b", "ä"])
def test_an_id_outside_the_grammar_is_refused_with_the_reason(ukp, name):
    found = ukp.create(f"ukp/{name}")

    assert found.status_code in {400, 404}
    assert found.headers["X-Error-Message"]


def test_others_may_not_make_repositories_there(hub, ukp, anyone):
    other = type(anyone)(hub, hub.token("other"))

    assert other.create(REPO).status_code == 403
    assert anyone.create(REPO).status_code == 401
    assert ukp.create("absent/nli.x").status_code == 404


def test_a_commit_of_an_adapter_is_a_version(hub, ukp, anyone, repository):
    found = ukp.commit(REPO, PEFT)

    content = found.get_json()
    assert found.status_code == 200, found.text
    assert content["commitUrl"] == f"http://localhost/{REPO}/commit/{content['commitOid']}"
    assert "X-HF-Warning" not in found.headers
    [version] = versions(hub, None)
    assert (version["number"], version["method"]) == (1, "lora")
    assert anyone.info(REPO)["sha"] == content["commitOid"]
    assert anyone.info(REPO)["cardData"] == {"license": "mit", "language": "en"}
    tags = anyone.get(f"/api/models/{REPO}/refs").get_json()["tags"]
    assert [(each["name"], each["targetCommit"]) for each in tags] == [
        ("v1", version["digest"][7:47])
    ]


def test_such_a_version_is_what_a_push_would_have_made(hub, ukp, repository):
    ukp.commit(REPO, PEFT)

    [version] = versions(hub, None)
    manifest = hub.get(f"/manifests/{version['digest']}").get_json()
    assert {each["path"] for each in manifest["files"]} == set(PEFT)
    assert (manifest["license"], manifest["languages"]) == ("mit", ["en"])
    assert manifest["description"] == "A LoRA for a test."
    assert manifest["method"]["format"] == "peft"
    assert manifest["base"]["name"] == "bert-base-uncased"


def test_what_is_no_adapter_yet_stays_a_draft(hub, ukp, anyone, repository):
    found = ukp.commit(REPO, {"config.json": b"{}", "model.safetensors": make_weights()})

    assert found.status_code == 200
    assert found.headers["X-HF-Warning"].startswith("draft; ")
    assert versions(hub, None) == []
    assert anyone.file(REPO, "config.json").data == b"{}"


def test_a_file_that_breaks_a_rule_keeps_the_commit_a_draft(hub, ukp, anyone, repository):
    found = ukp.commit(REPO, PEFT | {"adapter_model.safetensors": b"no safetensors"})

    assert found.status_code == 200
    assert "safetensors" in found.headers["X-HF-Warning"]
    assert versions(hub, None) == []
    assert anyone.file(REPO, "adapter_model.safetensors").data == b"no safetensors"


def test_pickles_are_kept_and_never_part_of_a_version(hub, ukp, anyone, repository):
    pickle = b"\x80\x02}q\x00."
    found = ukp.commit(REPO, PEFT | {"adapter_model.bin": pickle, "train.py": b"print()"})

    assert found.status_code == 200
    [version] = versions(hub, None)
    manifest = hub.get(f"/manifests/{version['digest']}").get_json()
    assert {each["path"] for each in manifest["files"]} == set(PEFT)
    assert anyone.file(REPO, "adapter_model.bin").data == pickle
    tree = anyone.get(f"/api/models/{REPO}/tree/main?expand=true").get_json()
    verdicts = {each["path"]: each["securityFileStatus"]["status"] for each in tree}
    assert verdicts["adapter_model.bin"] == "suspicious"
    assert verdicts["adapter_model.safetensors"] == "safe"


def test_weights_that_are_only_pickled_stay_a_draft(hub, ukp, repository):
    files = {"adapter_config.json": PEFT["adapter_config.json"], "adapter_model.bin": b"\x80\x02."}

    found = ukp.commit(REPO, files)

    assert "adapter_model.bin" in found.headers["X-HF-Warning"]
    assert "safetensors" in found.headers["X-HF-Warning"]
    assert versions(hub, None) == []
    told = hub.get("/resolve?ref=nli/pushed@ukp")
    assert (told.status_code, told.get_json()["code"]) == (404, "adapter_not_found")
    assert "adapterhub-client push" in told.get_json()["detail"]


def test_a_private_draft_is_as_missing_when_it_is_asked_for(hub, ukp):
    ukp.create("ukp/nli.hidden", private=True)

    private = hub.get("/resolve?ref=nli/hidden@ukp").get_json()
    missing = hub.get("/resolve?ref=nli/absent@ukp").get_json()

    assert private["detail"].replace("hidden", "absent") == missing["detail"]


def test_the_same_commit_again_changes_nothing(hub, ukp, anyone, repository):
    parent = anyone.info(REPO)["sha"]

    first = ukp.commit(REPO, PEFT, parentCommit=parent).get_json()
    again = ukp.commit(REPO, PEFT, parentCommit=parent).get_json()
    third = ukp.commit(REPO, PEFT).get_json()

    assert first == again == third
    assert len(versions(hub, None)) == 1


def test_a_commit_on_an_old_parent_is_stale(ukp, anyone, repository):
    parent = anyone.info(REPO)["sha"]
    ukp.commit(REPO, {"a.txt": b"a"}, parentCommit=parent)

    found = ukp.commit(REPO, {"b.txt": b"b"}, parentCommit=parent)

    assert found.status_code == 412
    assert anyone.file(REPO, "b.txt").status_code == 404


def test_files_and_folders_can_be_deleted(ukp, anyone, repository):
    ukp.commit(REPO, {"a.txt": b"a", "runs/1.txt": b"1", "runs/2.txt": b"2"})
    operations = [
        {"key": "deletedFile", "value": {"path": "a.txt"}},
        {"key": "deletedFolder", "value": {"path": "runs/"}},
    ]

    found = ukp.commit(REPO, {}, *operations)
    absent = ukp.commit(REPO, {}, operations[0])

    assert found.status_code == 200
    assert [each["rfilename"] for each in anyone.info(REPO)["siblings"]] == [".gitattributes"]
    assert (absent.status_code, absent.headers["X-Error-Code"]) == (404, "EntryNotFound")


@pytest.mark.parametrize(
    "path",
    ["../up", "a/../b", "/etc/passwd", "a\\b", ".git/config", "a\x00b", "con", "a//b", ""],
)
def test_a_path_that_leads_elsewhere_is_refused(ukp, anyone, repository, path):
    before = anyone.info(REPO)["sha"]

    found = ukp.commit(REPO, {path: b"x"})
    asked = ukp.post(
        f"/api/models/{REPO}/preupload/main", {"files": [{"path": path, "size": 1, "sample": ""}]}
    )

    assert (found.status_code, asked.status_code) == (400, 400)
    assert anyone.info(REPO)["sha"] == before


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"no json\n", id="no JSON"),
        pytest.param(b"[]\n", id="no object"),
        pytest.param(b'{"key": "header", "value": {"summary": ""}}\n', id="no summary"),
        pytest.param(
            b'{"key": "header", "value": {"summary": "s"}}\n'
            b'{"key": "file", "value": {"content": "!!!", "path": "a"}}\n',
            id="no base64",
        ),
        pytest.param(
            b'{"key": "header", "value": {"summary": "s"}}\n{"key": "file", "value": {"content": "QUFB',
            id="cut off",
        ),
        pytest.param(
            b'{"key": "header", "value": {"summary": "s"}}\n{"key": "x", "value": {}}', id="unknown"
        ),
    ],
)
def test_a_body_that_is_no_commit_is_refused(ukp, repository, body):
    found = ukp.call("POST", f"/api/models/{REPO}/commit/main", data=body)

    assert found.status_code == 400
    assert found.get_json()["error"]


def test_who_may_not_write_is_refused_before_a_byte_is_read(hub, anyone, repository):
    other = type(anyone)(hub, hub.token("other"))

    assert anyone.commit(REPO, PEFT).status_code == 401
    assert other.commit(REPO, PEFT).status_code == 403
    assert other.commit("ukp/nli.absent", PEFT).headers["X-Error-Code"] == "RepoNotFound"


def test_a_private_repository_is_as_missing(hub, ukp, anyone):
    assert ukp.create("ukp/nli.hidden", visibility="private").status_code == 200
    ukp.commit("ukp/nli.hidden", PEFT)
    other = type(anyone)(hub, hub.token("other"))

    for client in (anyone, other):
        found = client.get("/api/models/ukp/nli.hidden")
        assert (found.status_code, found.headers["X-Error-Code"]) == (404, "RepoNotFound")
        assert client.file("ukp/nli.hidden", "README.md").status_code == 404
    assert hub.get("/adapters/nli/hidden@ukp").status_code == 404
    assert ukp.info("ukp/nli.hidden")["private"] is True


def test_what_the_api_publishes_moves_main_on(hub, ukp, anyone, repository):
    ukp.commit(REPO, PEFT)
    [first] = versions(hub, None)
    sent = hub.get(f"/manifests/{first['digest']}").data
    manifest = msgspec.json.decode(sent, type=wire.Manifest)
    changed = PEFT | {"adapter_model.safetensors": make_weights(4)}
    listed = make_manifest(files=changed).files

    second = hub.publish(ukp.token, msgspec.structs.replace(manifest, files=listed), changed)
    found = anyone.info(REPO)
    third = ukp.commit(REPO, {"notes.txt": b"x"})

    assert (second.number, found["sha"]) == (2, second.digest[7:47])
    assert third.status_code == 200
    assert anyone.file(REPO, "notes.txt").data == b"x"
    head = anyone.file(REPO, "adapter_model.safetensors")
    assert head.data == changed["adapter_model.safetensors"]
    assert len(versions(hub, None)) == 2


def test_a_commit_on_top_of_a_published_version_keeps_its_files(hub, ukp, anyone):
    files = make_files()
    hub.publish(ukp.token, make_manifest("nli/pushed@ukp", files), files)

    found = ukp.commit(REPO, {"notes.txt": b"more"})

    assert found.status_code == 200, found.text
    names = {each["rfilename"] for each in anyone.info(REPO)["siblings"]}
    assert names == {*files, "notes.txt"}
    assert len(versions(hub, None)) == 1


def test_a_commit_to_another_branch_is_no_version(hub, ukp, anyone, repository):
    assert ukp.post(f"/api/models/{REPO}/branch/dev").status_code == 201

    assert ukp.commit(REPO, PEFT, revision="dev").status_code == 200

    assert versions(hub, None) == []
    assert anyone.file(REPO, "README.md", "dev").status_code == 200
    assert anyone.file(REPO, "README.md").status_code == 404


def test_tags_are_made_once_and_deleted(ukp, anyone, repository):
    tagged = ukp.post(f"/api/models/{REPO}/tag/main", {"tag": "first"})
    ukp.commit(REPO, {"a.txt": b"a"})

    assert tagged.status_code == 201
    assert ukp.post(f"/api/models/{REPO}/tag/main", {"tag": "first"}).status_code == 409
    assert anyone.file(REPO, "a.txt", "first").status_code == 404
    assert ukp.call("DELETE", f"/api/models/{REPO}/tag/first").status_code == 200
    assert anyone.get(f"/api/models/{REPO}/revision/first").status_code == 404


def test_refs_of_versions_are_fixed(hub, ukp, repository):
    ukp.commit(REPO, PEFT)

    assert ukp.post(f"/api/models/{REPO}/tag/main", {"tag": "v1"}).status_code == 409
    assert ukp.post(f"/api/models/{REPO}/tag/main", {"tag": "v7"}).status_code == 400
    assert ukp.call("DELETE", f"/api/models/{REPO}/tag/v1").status_code == 409
    assert ukp.call("DELETE", f"/api/models/{REPO}/branch/main").status_code == 409
    assert ukp.post(f"/api/models/{REPO}/branch/a%2Fb").status_code == 400


def test_a_repository_of_drafts_can_be_moved_and_the_old_id_leads_there(ukp, anyone, repository):
    moved = ukp.post("/api/repos/move", {"fromRepo": REPO, "toRepo": "ukp/nli.moved"})

    found = anyone.get(f"/{REPO}/resolve/main/.gitattributes?x=1")
    assert moved.status_code == 200
    assert found.status_code == 307
    assert found.headers["Location"] == "/ukp/nli.moved/resolve/main/.gitattributes?x=1"


def test_a_repository_of_drafts_can_be_deleted(ukp, anyone, repository):
    body = {"name": "nli.pushed", "organization": "ukp"}

    assert anyone.call("DELETE", "/api/repos/delete", json=body).status_code == 401
    assert ukp.call("DELETE", "/api/repos/delete", json=body).status_code == 200
    assert anyone.get(f"/api/models/{REPO}").status_code == 404
    assert ukp.create(REPO).status_code == 200


def test_what_was_published_leaves_a_tombstone(hub, ukp, anyone, repository):
    ukp.commit(REPO, PEFT)
    body = {"name": "nli.pushed", "organization": "ukp"}

    assert ukp.call("DELETE", "/api/repos/delete", json=body).status_code == 200

    assert anyone.get(f"/api/models/{REPO}").headers["X-Error-Code"] == "RepoNotFound"
    again = ukp.create(REPO)
    assert again.status_code == 400
    assert "deleted" in again.headers["X-Error-Message"]


def test_what_was_published_may_go_to_another_organization(hub, ukp, anyone, repository):
    ukp.commit(REPO, PEFT)
    hub.call("POST", "/orgs", ukp.token, body={"name": "lab"})

    renamed = ukp.post("/api/repos/move", {"fromRepo": REPO, "toRepo": "ukp/nli.renamed"})
    moved = ukp.post("/api/repos/move", {"fromRepo": REPO, "toRepo": "lab/nli.pushed"})

    assert (renamed.status_code, moved.status_code) == (409, 200)
    assert anyone.info("lab/nli.pushed")["id"] == "lab/nli.pushed"
    assert anyone.get(f"/api/models/{REPO}").headers["Location"].endswith("lab/nli.pushed")
    tags = anyone.get("/api/models/lab/nli.pushed/refs").get_json()["tags"]
    assert [each["name"] for each in tags] == ["v1"]


def test_an_adapter_can_be_made_private_and_public_again(hub, ukp, anyone, repository):
    ukp.commit(REPO, PEFT)
    path = f"/api/models/{REPO}/settings"

    assert ukp.call("PUT", path, json={"private": True}).status_code == 200
    assert anyone.get(f"/api/models/{REPO}").status_code == 404
    assert hub.get("/adapters/nli/pushed@ukp").status_code == 404
    assert ukp.call("PUT", path, json={"private": False}).status_code == 200
    assert anyone.get(f"/api/models/{REPO}").status_code == 200


def test_gated_files_are_for_members(hub, ukp, anyone, repository):
    path = f"/api/models/{REPO}/settings"

    assert ukp.call("PUT", path, json={"gated": "manual"}).get_json()["gated"] == "manual"
    assert ukp.call("PUT", path, json={"gated": "perhaps"}).status_code == 422

    refused = anyone.file(REPO, ".gitattributes")
    assert (refused.status_code, refused.headers["X-Error-Code"]) == (403, "GatedRepo")
    assert "ukp" in refused.headers["X-Error-Message"]
    assert ukp.file(REPO, ".gitattributes").status_code == 200
    assert anyone.info(REPO)["gated"] == "manual"


def test_what_is_gated_is_gated_at_every_door(hub, ukp, anyone, repository):
    ukp.commit(REPO, PEFT)
    [version] = versions(hub, None)
    manifest = msgspec.json.decode(
        hub.get(f"/manifests/{version['digest']}").data, type=wire.Manifest
    )
    blob = manifest.files[0].sha256
    stolen = msgspec.structs.replace(
        manifest, reference=wire.Name(task="nli", name="stolen", org="other")
    )

    ukp.call("PUT", f"/api/models/{REPO}/settings", json={"gated": "auto"})

    assert hub.get(f"/blobs/{blob}").status_code == 404
    assert hub.get(f"/blobs/{blob}", hub.token("ukp")).status_code == 200
    assert len(hub.begin(hub.token("other"), stolen).missing) == len(PEFT)


def test_commits_side_by_side_all_land(hub, ukp, anyone, repository):
    def push(number):
        return ukp.commit(REPO, {f"{number}.txt": b"x"}).status_code

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(push, range(8)))

    names = {each["rfilename"] for each in anyone.info(REPO)["siblings"]}
    assert found == [200] * 8
    assert names == {".gitattributes", *(f"{number}.txt" for number in range(8))}
    assert len(anyone.get(f"/api/models/{REPO}/commits/main").get_json()) == 9


def test_visibility_can_be_changed(ukp, anyone, repository):
    path = f"/api/models/{REPO}/settings"

    assert ukp.call("PUT", path, json={"visibility": "private"}).get_json()["private"] is True
    assert anyone.get(f"/api/models/{REPO}").status_code == 404
    assert ukp.call("PUT", path, json={"private": False}).status_code == 200
    assert anyone.get(f"/api/models/{REPO}").status_code == 200


def test_whoami_names_account_and_organizations(hub, ukp, anyone):
    hub.call("POST", "/orgs", ukp.token, body={"name": "lab"})

    found = ukp.get("/api/whoami-v2").get_json()

    assert (found["name"], [each["name"] for each in found["orgs"]]) == ("ukp", ["lab"])
    assert found["auth"]["accessToken"]["role"] == "write"
    assert anyone.get("/api/whoami-v2").status_code == 401


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param("---\nlicense: mit\nbase_model: b\n---\n", 200, id="good"),
        pytest.param("no front matter", 200, id="none"),
        pytest.param("---\nlicense: [\n---\n", 400, id="no YAML"),
        pytest.param("---\na: &x [1]\nb: *x\n---\n", 400, id="alias"),
        pytest.param("---\n- a\n---\n", 400, id="no mapping"),
    ],
)
def test_a_card_is_checked_before_it_is_sent(anyone, content, status):
    found = anyone.post("/api/validate-yaml", {"content": content, "repoType": "model"})

    assert found.status_code == status
    assert {"errors", "warnings"} <= found.get_json().keys()
    assert bool(found.get_json()["errors"]) == (status == 400)


def preupload(client, path, size, agent="unknown/None; hf_hub/2.4.0; python/3.11", sample=b""):
    sent = {"path": path, "size": size, "sample": base64.b64encode(sample).decode()}
    return client.post(
        f"/api/models/{REPO}/preupload/main", {"files": [sent]}, headers={"User-Agent": agent}
    )


@pytest.mark.parametrize(
    ("agent", "size", "mode"),
    [
        pytest.param("hf_hub/2.4.0", 100 << 20, "regular", id="new"),
        pytest.param("hf_hub/2.4.0", 300 << 20, "lfs", id="new, huge"),
        pytest.param("hf_hub/0.36.2", 5 << 20, "regular", id="old, small"),
        pytest.param("hf_hub/0.36.2", 100 << 20, "lfs", id="old, large"),
        pytest.param("curl/8", 100 << 20, "regular", id="another"),
    ],
)
def test_how_a_file_travels(ukp, repository, agent, size, mode):
    found = preupload(ukp, "a.safetensors", size, agent)

    [file] = found.get_json()["files"]
    assert (file["uploadMode"], file["shouldIgnore"]) == (mode, False)
    assert ("X-HF-Warning" in found.headers) == (mode == "lfs" and "2.4" in agent)


def test_a_file_that_is_there_is_named_so_it_need_not_be_sent(ukp, repository):
    ukp.commit(REPO, {"a.txt": b"abc"})

    [file] = preupload(ukp, "a.txt", 3).get_json()["files"]

    assert file["oid"] == "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f"


def test_what_cannot_be_taken_is_refused_before_any_byte(ukp, repository):
    assert preupload(ukp, "a.safetensors", 1 << 40).status_code == 413
    assert preupload(ukp, "a.safetensors", 10, sample=b"\x80\x02abc").status_code == 400


def test_a_version_never_changes_whatever_its_branch_does(hub, ukp, anyone, repository):
    ukp.commit(REPO, PEFT)
    ukp.commit(REPO, {}, {"key": "deletedFile", "value": {"path": "README.md"}})
    ukp.commit(REPO, PEFT | {"adapter_model.safetensors": make_weights(9)})

    assert anyone.file(REPO, "README.md", "v1").data == PEFT["README.md"]
    assert sha256(anyone.file(REPO, "adapter_model.safetensors", "v1").data) == sha256(
        PEFT["adapter_model.safetensors"]
    )
    assert [each["number"] for each in versions(hub, None)] == [3, 2, 1]


def test_every_change_is_in_the_audit_log(hub, ukp, repository):
    ukp.commit(REPO, PEFT)
    ukp.post(f"/api/models/{REPO}/tag/main", {"tag": "first"})

    with hub.runtime.database.reading() as session:
        actions = set(session.scalars(select(AuditEvent.action)))

    assert {
        "repository.create",
        "repository.commit",
        "version.publish",
        "repository.tag.create",
    } <= actions
