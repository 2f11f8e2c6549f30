"""Plans, probes, ONNX files, pruned fusions, recommendations, tracking, clusters."""

import json
import sys

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import BertModel

from adapterhub_client import compose
from adapterhub_client.wire import Report
from adapterhub_training import (
    cli,
    experiment,
    onnxfile,
    plan,
    probe,
    pruned,
    runfolder,
    saved,
)
from adapterhub_training.errors import BadExperiment, NotTheSame, TrainingError
from adapterhub_training.kinds import Row
from adapterhub_training.progress import Quiet
from adapterhub_training.recommending import recommend
from adapterhub_training.recommending.likeness import likeness
from adapterhub_training.recommending.logme import logme
from adapterhub_training.run import Around
from adapterhub_training.workshop import Workshop


@pytest.fixture
def invoke():
    def invoke(*words):
        return CliRunner().invoke(cli.main, [str(word) for word in words])

    return invoke


# ------------------------------------------------------------ plan and probe


def test_a_plan_says_what_a_run_then_does(experiment_file, train, tmp_path):
    wanted = experiment.read(experiment_file, ["training.seeds=[1, 2]"])

    planned = plan.plan(wanted)
    results = train("training.seeds=[1, 2]")

    assert not (tmp_path / "cache").exists() or results.choices == planned.choices
    assert planned.parameters_trained == results.parameters_trained
    assert planned.padding.here == results.padding_share
    assert planned.steps == results.seeds[0].steps
    assert planned.choices.gang
    assert {split.name: split.examples for split in planned.splits} == results.examples
    assert planned.seconds > 0


def test_a_plan_trains_and_writes_nothing(experiment_file, tmp_path):
    wanted, shop = experiment.read(experiment_file), Workshop()
    before = {n: t.clone() for n, t in shop.base(wanted).model.state_dict().items()}

    plan.plan(wanted, shop)

    after = shop.base(wanted).model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not (tmp_path / "run").exists()


def test_a_plan_tells_how_many_texts_are_cut(experiment_file, invoke):
    result = invoke("plan", experiment_file, "--set", "training.max_length=6")

    assert "moods train: 24 examples, 144 tokens, 6 at most; 24 cut" in result.stdout
    assert "at most; " in result.stdout


@pytest.mark.parametrize("seed", [1, 7])
def test_a_learning_rate_is_found_by_trying_whatever_the_batches(experiment_file, seed):
    wanted = experiment.read(experiment_file, [f"training.seeds=[{seed}]"])

    found = probe.probe(wanted, Quiet(), steps=60)

    rates = [tried.learning_rate for tried in found.tried]
    assert rates == sorted(rates)
    assert 1e-3 < found.suggested < 0.1


def test_the_suggested_rate_is_before_the_loss_breaks_away():
    tried = [
        probe.Tried(learning_rate=10.0 ** (at / 10 - 6), loss=loss, smooth=loss)
        for at, loss in enumerate([1.0] * 30 + [1 - 0.05 * k for k in range(12)] + [0.5, 0.9, 2.0])
    ]

    assert probe.suggestion(tried) == pytest.approx(10 ** (41 / 10 - 6) / 10, rel=0.3)


# ------------------------------------------------------------ what a run has measured


def test_a_run_measures_what_a_push_takes_along(train, tmp_path):
    results = train("training.seeds=[1, 2]", "training.target=0.4")

    report = msgspec.json.decode(
        (tmp_path / "run" / "adapter" / "report.json").read_bytes(), type=Report
    )
    assert [curve.seed for curve in report.curves] == [1, 2]
    assert report.confusion == [list(row) for row in results.best.reported.confusion]
    assert report.cost.parameters == results.parameters_trained
    assert report.cost.latency_overhead > 0
    assert report.cost.seconds_to_target == pytest.approx(results.seconds_to_target)
    assert len(report.embedding) == 32
    assert report.examples[0].text == "a dog sleeps well ."
    assert sum(report.examples[0].probabilities.values()) == pytest.approx(1, abs=1e-5)


# ------------------------------------------------------------ ONNX and pruning


@pytest.fixture
def fused(experiment_file, train, tmp_path):
    """A run that fuses three adapters."""
    for seed, name in enumerate(("first", "second", "third")):
        train(f"task.name={name}", f"training.seeds=[{seed}]", f"output.folder={tmp_path / name}")
    members = [str(tmp_path / name / "adapter") for name in ("first", "second", "third")]
    train(f"method={{mode='fusion', members={json.dumps(members)}}}", "training.epochs=6")
    return tmp_path / "run"


@pytest.mark.filterwarnings("ignore")  # of the exporter's own libraries
def test_an_adapter_is_exported_and_predicts_the_same(train, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    train("training.epochs=20")
    model = saved.load(tmp_path / "run")

    written = onnxfile.export(model, tmp_path / "moods.onnx")

    assert written.largest_difference < 1e-4
    assert len(written.tried) == 4
    session = onnxruntime.InferenceSession(tmp_path / "moods.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["labels"]) == ["badly", "well"]
    tokens = model.base.tokenizer(["a bird sings well ."], return_tensors="np")
    (logits,) = session.run(None, {n.name: tokens[n.name] for n in session.get_inputs()})
    (told,) = model.predict([Row(text="a bird sings well .")])
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert dict(zip(("badly", "well"), shares, strict=True)) == pytest.approx(
        told.probabilities, abs=1e-4
    )


@pytest.mark.filterwarnings("ignore")  # of the exporter's own libraries
def test_a_fusion_is_exported_with_its_members_in_it(fused, invoke, tmp_path):
    pytest.importorskip("onnxruntime")

    result = invoke("export-onnx", fused, tmp_path / "fused.onnx", "--json")

    found = json.loads(result.stdout)
    assert found["largest_difference"] < 1e-4
    assert found["bytes"] == (tmp_path / "fused.onnx").stat().st_size


@pytest.mark.filterwarnings("ignore")  # of the exporter's own libraries
def test_a_file_that_computes_something_else_is_not_kept(train, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    train("training.epochs=1")
    monkeypatch.setattr(onnxfile, "_difference", lambda *_: 0.5)

    with pytest.raises(NotTheSame, match=r"differ by 0\.5"):
        onnxfile.export(saved.load(tmp_path / "run"), tmp_path / "moods.onnx")

    assert list(tmp_path.glob("moods.onnx*")) == []


def test_a_fusion_is_pruned_to_a_run_of_its_own(fused, tmp_path):
    around = Around(Quiet(), Workshop())
    shown = pruned.table(saved.load(fused), around).extra.pruning
    assert [len(each.kept) for each in shown] == [3, 2, 1]

    found = pruned.prune(saved.load(fused), 2, tmp_path / "less", around)

    model = saved.load(tmp_path / "less")
    assert next(iter(model.subject.adapted.fusions.values())).members == shown[1].kept
    assert found.mean["accuracy"] == shown[1].value
    reached, _ = model.evaluate()
    assert reached.value("accuracy") == found.mean["accuracy"]
    assert (tmp_path / "less" / "push.json").is_file()


def test_a_fusion_cannot_be_pruned_to_more_than_it_has(fused, tmp_path):
    with pytest.raises(BadExperiment, match="`--keep` is between 1 and 2"):
        pruned.prune(saved.load(fused), 3, tmp_path / "less", Around(Quiet(), Workshop()))


def test_only_a_fusion_can_be_pruned(train, tmp_path, invoke):
    train("training.epochs=1")

    result = invoke("prune", tmp_path / "run")

    assert result.exit_code == 2
    assert "only a fusion has members" in result.stderr


# ------------------------------------------------------------ recommending


def test_evidence_is_higher_where_features_explain_the_labels():
    chance = np.random.default_rng(0)
    features = chance.normal(size=(200, 12))
    labels = (features @ chance.normal(size=12) > 0).astype(float)
    targets = np.stack([1 - labels, labels], axis=1)
    noise = chance.normal(size=(200, 12))

    assert logme(features, targets) > logme(noise, targets) + 0.1


def test_evidence_is_the_log_of_the_marginal_likelihood_where_that_is_largest():
    chance = np.random.default_rng(3)
    features = chance.normal(size=(40, 5))
    target = features @ chance.normal(size=5) + 0.5 * chance.normal(size=40)

    def marginal(alpha, beta):
        covariance = features @ features.T / alpha + np.eye(40) / beta
        _, size = np.linalg.slogdet(2 * np.pi * covariance)
        return -(size + target @ np.linalg.solve(covariance, target)) / 2 / 40

    grid = np.logspace(-2, 2, 60)
    best = max(marginal(alpha, beta) for alpha in grid for beta in grid)

    assert logme(features, target[:, None]) == pytest.approx(best, abs=1e-3)


def test_an_adapter_is_like_itself_whatever_its_basis(tiny_base):
    adapted = compose.attach(BertModel.from_pretrained(tiny_base))
    for name in ("one", "other"):
        adapted.add(name, "seq_bn[reduction_factor=4]")
    torch.manual_seed(1)
    for name in ("one", "other"):
        for parameter in adapted.adapters[name].parameters():
            torch.nn.init.normal_(parameter)
    one, other = adapted.adapters["one"], adapted.adapters["other"]
    assert likeness(one, one) == pytest.approx(1)
    assert abs(likeness(one, other)) < 0.5

    with torch.no_grad():
        for place in one.places:
            turn, _ = torch.linalg.qr(torch.randn(8, 8))
            other.places[place].down.weight.copy_(turn @ one.places[place].down.weight)
            other.places[place].up.weight.copy_(one.places[place].up.weight @ turn.T)

    assert likeness(one, other) == pytest.approx(1, abs=1e-5)


def test_what_was_trained_on_like_texts_is_nearer(train, moods, tiny_base, tmp_path):
    train(f"output.folder={tmp_path / 'same'}", "training.epochs=2")
    other = tmp_path / "other-data"
    other.mkdir()
    for path in moods.iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [{"text": r["text"].split()[1], "label": r["text"].split()[1]} for r in rows]
        (other / path.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(f"output.folder={tmp_path / 'other'}", f"task.data={other}", "training.epochs=2")
    wanted = recommend.asked(str(moods), str(tiny_base), 32)
    places = [str(tmp_path / name) for name in ("other", "same")]
    found = recommend.candidates(Workshop().base(wanted), places, None, 10, Quiet())

    rows = {row.name: row for row in recommend.recommend(wanted, found, Quiet())}

    assert rows[places[1]].text > 0.9 > rows[places[0]].text
    assert all(None not in (row.weights, row.logme) for row in rows.values())


def test_what_does_not_fit_the_base_is_passed_over(train, moods, tmp_path, tiny_base):
    train("training.epochs=1")
    fingerprint = tmp_path / "run" / "adapter" / "base_fingerprint.json"
    document = json.loads(fingerprint.read_text())
    next(iter(document["tensors"].values()))["leaf"] = "0" * 64
    fingerprint.write_text(json.dumps(document))
    wanted = recommend.asked(str(moods), str(tiny_base), 32)
    found = recommend.candidates(
        Workshop().base(wanted), [str(tmp_path / "run")], None, 10, Quiet()
    )

    assert recommend.recommend(wanted, found, Quiet()) == []


# ------------------------------------------------------------ tracking and clusters


@pytest.mark.filterwarnings("ignore")  # of mlflow's own dependencies
def test_a_run_is_followed_in_mlflow(train, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    address = (tmp_path / "tracking").as_uri()

    train(f"tracking.mlflow={address}", "training.seeds=[1, 2]", "training.gang=no")

    mlflow.set_tracking_uri(address)
    (followed,) = mlflow.search_runs(experiment_names=["adapterhub"], output_format="list")
    assert followed.info.status == "FINISHED"
    assert followed.data.params["learning_rate"] == "0.01"
    assert "mean.accuracy" in followed.data.metrics
    history = mlflow.MlflowClient().get_metric_history(
        followed.info.run_id, "seed2.evaluation.metric"
    )
    assert [point.step for point in history] == [3, 6, 9]


def test_a_missing_library_is_named_with_how_to_get_it(train, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)

    with pytest.raises(TrainingError) as refusal:
        train("tracking.mlflow=somewhere")

    assert refusal.value.hint == 'pip install "adapterhub[mlflow]"'


@pytest.mark.filterwarnings("ignore")  # of Ray's own dependencies
@pytest.mark.timeout(300)
def test_a_study_is_done_on_a_cluster(experiment_file, tmp_path, invoke):
    pytest.importorskip("ray")
    experiment_file.write_text(
        experiment_file.read_text() + '\n[sweep]\n"training.learning_rate" = [1e-3, 1e-2]\n'
    )

    result = invoke("run", experiment_file, "--ray", "local", "--quiet", "--json")

    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)) == 2
    assert len(runfolder.read_results(tmp_path / "run" / "training.learning_rate=0.01")) == 1
