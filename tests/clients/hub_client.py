"""`huggingface_hub` and `hf`, of any version: every operation both ways.

    python hub_client.py FOLDER NAME

`HF_ENDPOINT` and `HF_TOKEN` name the registry and the account `ukp`; `nli/multinli@ukp` is there, with one version.
"""

import filecmp
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.utils import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from steps import Steps, same

step = Steps()
folder, name = Path(sys.argv[1]), sys.argv[2]
api = HfApi()
published = "ukp/nli.multinli"
mine = f"ukp/nli.{name}"
adapter = folder / "adapter"
# where the client lets the server choose, the first goes whole and the second in parts, else both inline
large_bytes = (12 * 1024 * 1024, 40 * 1024 * 1024)
commands = Path(sys.executable).parent


def hf(*words):
    """The command line of the same version."""
    done = subprocess.run([commands / "hf", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"hf {' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def refuses(error, call, *arguments, **more):
    try:
        call(*arguments, **more)
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


def same_files(one, other):
    names = sorted(path.name for path in one.iterdir() if path.is_file())
    match, differ, absent = filecmp.cmpfiles(one, other, names, shallow=False)
    same((sorted(match), differ, absent), (names, [], []))


@step("whoami")
def _():
    same(api.whoami()["name"], "ukp")
    assert "ukp" in hf("auth", "whoami")


@step("model_info")
def _():
    info = api.model_info(published, files_metadata=True)
    same((info.id, info.author, info.private), (published, "ukp", False))
    assert "adapters" in info.tags
    weights = next(each for each in info.siblings if each.rfilename == "adapter.safetensors")
    same(weights.lfs.size, weights.size)
    same(api.model_info(published, revision="v1").sha, info.sha)
    assert api.repo_exists(published)
    assert not api.repo_exists("ukp/nli.absent")


@step("list_models")
def _():
    found = [each.id for each in api.list_models(author="ukp", search="multinli")]
    same(found, [published])
    assert published in [each.id for each in api.list_models(filter="adapters", full=True)]
    every = [each.id for each in api.list_models(author="ukp", sort="last_modified")]
    assert published in every


@step("refs, tree, paths, commits")
def _():
    refs = api.list_repo_refs(published)
    same([each.name for each in refs.branches], ["main"])
    same([each.name for each in refs.tags], ["v1"])
    paths = {each.path for each in api.list_repo_tree(published, recursive=True)}
    same(paths, set(api.list_repo_files(published)))
    [one] = api.get_paths_info(published, ["adapter.safetensors", "absent"], expand=True)
    same(one.lfs.size, one.size)
    [commit] = api.list_repo_commits(published)
    same(commit.commit_id, refs.branches[0].target_commit)


@step("hf_hub_download")
def _():
    path = Path(hf_hub_download(published, "adapter.safetensors", revision="v1"))
    same(path.read_bytes(), (adapter / "adapter.safetensors").read_bytes())
    again = hf_hub_download(
        published, "adapter.safetensors", revision=api.model_info(published).sha
    )
    same(Path(again).name, path.name)
    small = Path(hf_hub_download(published, "adapter_config.json"))
    same(small.read_bytes(), (adapter / "adapter_config.json").read_bytes())


@step("snapshot_download")
def _():
    same_files(adapter, Path(snapshot_download(published)))
    same_files(adapter, Path(snapshot_download(published, local_dir=folder / name / "local")))


@step("hf download")
def _():
    target = folder / name / "downloaded"
    hf("download", published, "--local-dir", target)
    same_files(adapter, target)


@step("errors")
def _():
    refuses(RepositoryNotFoundError, hf_hub_download, "ukp/nli.absent", "a.json")
    refuses(RepositoryNotFoundError, api.model_info, "bert-base-uncased")
    refuses(RevisionNotFoundError, hf_hub_download, published, "a.json", revision="v99")
    refuses(EntryNotFoundError, hf_hub_download, published, "absent.json")
    assert not api.file_exists(published, "absent.json")
    refuses(HfHubHTTPError, api.create_repo, "ukp/two__lines.x")
    refuses(HfHubHTTPError, api.create_repo, "ukp/data", repo_type="dataset")


@step("create_repo")
def _():
    url = api.create_repo(mine)
    same(url.repo_id, mine)
    same(api.create_repo(mine, exist_ok=True).repo_id, mine)
    same(api.create_repo(f"ukp/nli.{name}-private", private=True).repo_id, f"{mine}-private")
    anonymous = HfApi(token=False)
    assert not anonymous.repo_exists(f"{mine}-private")
    assert api.model_info(f"{mine}-private").private


@step("upload_folder")
def _():
    done = api.upload_folder(repo_id=mine, folder_path=adapter, commit_message="An adapter")
    same(done.repo_url.repo_id, mine)
    same(api.model_info(mine).sha, done.oid)
    same([each.name for each in api.list_repo_refs(mine).tags], ["v1"])
    again = api.upload_folder(repo_id=mine, folder_path=adapter)
    same(again.oid, done.oid)
    same_files(adapter, Path(snapshot_download(mine, revision="v1")))


@step("upload_file")
def _():
    done = api.upload_file(repo_id=mine, path_or_fileobj=b"{}", path_in_repo="runs/notes.json")
    same(api.list_repo_commits(mine)[0].commit_id, done.oid)
    assert api.file_exists(mine, "runs/notes.json")
    card = b"---\nlicense: mit\n---\n# An adapter\n\nIt is good.\n"
    api.upload_file(repo_id=mine, path_or_fileobj=card, path_in_repo="README.md")
    same(api.model_info(mine).card_data.license, "mit")


@step("upload of large files")
def _():
    for size in large_bytes:
        content = os.urandom(size)
        api.upload_file(repo_id=mine, path_or_fileobj=content, path_in_repo="runs/state.bin")
        path = hf_hub_download(mine, "runs/state.bin")
        assert Path(path).read_bytes() == content
        [info] = api.get_paths_info(mine, ["runs/state.bin"])
        same(info.lfs.size, size)


@step("hf upload")
def _():
    target = f"{mine}-cli"
    hf("upload", target, adapter, ".", "--commit-message", "By command")
    same_files(adapter, Path(snapshot_download(target)))


@step("create_tag, create_branch")
def _():
    api.create_tag(mine, tag="first", revision="v1")
    refuses(HfHubHTTPError, api.create_tag, mine, tag="first")
    api.create_tag(mine, tag="first", exist_ok=True)
    api.create_branch(mine, branch="dev")
    api.upload_file(repo_id=mine, path_or_fileobj=b"x", path_in_repo="dev.txt", revision="dev")
    assert api.file_exists(mine, "dev.txt", revision="dev")
    assert not api.file_exists(mine, "dev.txt")
    api.delete_branch(mine, branch="dev")
    api.delete_tag(mine, tag="first")
    same([each.name for each in api.list_repo_refs(mine).branches], ["main"])


@step("delete_file, create_commit")
def _():
    api.delete_file("runs/notes.json", repo_id=mine)
    api.create_commit(
        mine,
        operations=[CommitOperationDelete("runs/", is_folder=True)],
        commit_message="No runs",
        parent_commit=api.model_info(mine).sha,
    )
    assert not any(path.startswith("runs/") for path in api.list_repo_files(mine))
    refuses(
        HfHubHTTPError,
        api.create_commit,
        mine,
        operations=[CommitOperationDelete("README.md")],
        commit_message="Late",
        parent_commit="0" * 40,
    )


@step("settings, move_repo, delete_repo")
def _():
    hidden, moved = f"{mine}-private", f"{mine}-moved"
    update = getattr(api, "update_repo_settings", None)
    update(hidden, gated="manual", private=False)
    refuses(GatedRepoError, HfApi(token=False).hf_hub_download, hidden, ".gitattributes")
    update(hidden, gated=False)
    api.move_repo(hidden, moved)
    same(api.model_info(moved).id, moved)
    same(api.model_info(hidden).id, moved)
    api.delete_repo(moved)
    assert not api.repo_exists(moved)
    api.delete_repo(moved, missing_ok=True)


sys.stderr.write(f"huggingface_hub {huggingface_hub.__version__}: {step.failed} failed\n")
sys.exit(1 if step.failed else 0)
