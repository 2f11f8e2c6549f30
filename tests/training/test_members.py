"""A fusion's members are the same versions in all seeds, and again when its run is loaded."""

import json
import shutil

import pytest

from adapterhub_client import wire
from adapterhub_client.formats import method as formats
from adapterhub_training import experiment, run, saved
from adapterhub_training.errors import MemberChanged
from adapterhub_training.progress import Quiet

QUIET = Quiet()
REFERENCES = ("moods/first@demo", "moods/second@demo")


class Library:
    """Stands in for the hub: each reference has versions, the last is the newest; each can change on the way."""

    def __init__(self, root):
        self.root, self.versions, self.pulled = root, {}, []
        self.on_pull = lambda: None

    def publish(self, reference, folder):
        task, _, rest = reference.partition("/")
        name, _, org = rest.partition("@")
        versions = self.versions.setdefault(reference, {})
        manifest = wire.Manifest(
            reference=wire.Name(task=task, name=name, org=org),
            base=wire.Base(name="tiny", architecture="bert"),
            method=wire.Method(
                name="seq_bn", config_id=formats.config_id(formats.SEQ_BN.to_dict())
            ),
            description=f"number {len(versions) + 1}",
        )
        kept = self.root / f"{task}-{name}-{len(versions)}"
        shutil.copytree(folder, kept)
        (kept / "manifest.json").write_bytes(wire.canonical(manifest))
        versions[wire.digest(manifest)] = kept

    def pull(self, reference, **_):
        self.pulled.append(reference)
        adapter, _, digest = reference.partition(":")
        versions = self.versions[adapter]
        found = versions[digest] if digest else list(versions.values())[-1]
        self.on_pull()
        return found


@pytest.fixture
def adapters(experiment_file, tmp_path):
    """Three trained adapters in folders; the third could be a newer version of the first."""
    for seed, name in enumerate(("first", "second", "newer")):
        wanted = [
            f"task.name={'first' if name == 'newer' else name}",
            f"training.seeds=[{seed}]",
            f"output.folder={tmp_path / name}",
        ]
        run.run(experiment.read(experiment_file, wanted), QUIET)
    return {name: tmp_path / name / "adapter" for name in ("first", "second", "newer")}


@pytest.fixture
def library(adapters, tmp_path, monkeypatch):
    """The hub, with the first two adapters."""
    library = Library(tmp_path / "library")
    for reference, name in zip(REFERENCES, ("first", "second"), strict=True):
        library.publish(reference, adapters[name])
    monkeypatch.setattr("adapterhub_client.Hub", lambda: library)
    return library


@pytest.fixture
def fuse(experiment_file):
    def fuse(*members, own="", seeds="[1]"):
        method = f"method={{mode='fusion', members={json.dumps(members)}, own='{own}'}}"
        overrides = [method, "training.epochs=2", f"training.seeds={seeds}"]
        (results,) = run.run(experiment.read(experiment_file, overrides), QUIET)
        return results

    return fuse


def test_a_run_can_be_evaluated_after_a_member_has_a_newer_version(
    fuse, library, adapters, tmp_path
):
    results = fuse(*REFERENCES)
    library.publish(REFERENCES[0], adapters["newer"])

    reached, _ = saved.load(tmp_path / "run").evaluate()

    assert reached.loss == pytest.approx(results.best.reported.loss, abs=1e-6)


def test_all_seeds_train_on_the_versions_of_the_first(fuse, library, adapters, tmp_path):
    def publish_a_newer_one():
        if len(library.pulled) == len(REFERENCES):
            library.publish(REFERENCES[0], adapters["newer"])

    library.on_pull = publish_a_newer_one
    first = next(iter(library.versions[REFERENCES[0]]))

    fuse(*REFERENCES, seeds="[1, 2]")

    assert len(library.versions[REFERENCES[0]]) == 2
    composition = json.loads((tmp_path / "run" / "fusion" / "composition.json").read_text())
    assert composition["members"][0]["digest"] == first
    assert {text for text in library.pulled if text.startswith(REFERENCES[0])} == {
        REFERENCES[0],
        f"{REFERENCES[0]}:{first}",
    }
    assert library.pulled[2:] == 3 * [  # each seed, and what is measured in the end
        f"{reference}:{next(iter(library.versions[reference]))}" for reference in REFERENCES
    ]


def test_the_experiment_of_a_run_names_the_versions_it_trained_on(fuse, library, tmp_path):
    fuse(*REFERENCES)

    assert experiment.read(tmp_path / "run" / "run.toml").method.members == tuple(
        f"{reference}:{next(iter(library.versions[reference]))}" for reference in REFERENCES
    )


def test_an_own_adapter_that_was_never_published_comes_from_its_folder(
    fuse, library, adapters, tmp_path
):
    results = fuse(REFERENCES[0], own=adapters["second"])

    reached, _ = saved.load(tmp_path / "run").evaluate()

    assert reached.loss == pytest.approx(results.best.reported.loss, abs=1e-6)


def test_an_own_adapter_that_was_trained_again_is_not_taken_for_the_one_before(
    fuse, library, adapters, tmp_path
):
    fuse(REFERENCES[1], own=adapters["first"])
    shutil.copy(adapters["newer"] / "adapter.safetensors", adapters["first"])

    with pytest.raises(MemberChanged, match="other weights of 'first'"):
        saved.load(tmp_path / "run")


def test_a_run_without_digests_of_its_members_can_be_loaded(fuse, library, adapters, tmp_path):
    fuse(REFERENCES[0], own=adapters["second"])
    path = tmp_path / "run" / "results.json"
    document = json.loads(path.read_text())
    assert list(document.pop("members")) == ["second"]
    path.write_text(json.dumps(document))

    assert saved.load(tmp_path / "run").results.members == {}
