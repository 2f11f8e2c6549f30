"""What a run says about its result when it is pushed: `push.json`, in the structs of the client."""

from pathlib import Path

import msgspec

from adapterhub_client.formats.folder import COMPOSITION_FILE, Run, read_json
from adapterhub_client.wire import Lineage, Metric, Training
from adapterhub_training import kinds
from adapterhub_training.experiment import Experiment
from adapterhub_training.results import Results

TRAINER = "adapterhub-train"


def push_file(experiment: Experiment, results: Results, folder: Path) -> Run | None:
    """The content of `push.json`; None for what nobody can publish: a head alone, a whole model."""
    if experiment.mode not in {"adapter", "fusion"}:
        return None
    better = kinds.named(results.kind, results.scale).metrics
    output, seeds = experiment.output, [result.seed for result in results.seeds]
    return Run(
        folder=experiment.mode,
        reference=output.reference,
        metrics=[
            Metric(
                dataset=results.dataset,
                split=results.split,
                name=name,
                value=results.mean[name],
                std=results.std[name],
                seeds=seeds,
                higher_is_better=better[name],
            )
            for name in results.mean
        ],
        training=Training(
            trainer=f"{TRAINER} {results.versions['adapterhub']}",
            hyperparameters=hyperparameters(experiment),
            data_digest=results.data_digest,
            seeds=seeds,
            hardware=results.hardware,
            seconds=results.seconds,
        ),
        description=output.description,
        license=output.license,
        languages=list(output.languages),
        citation=output.citation,
        lineage=lineage(folder / experiment.mode),
    )


def hyperparameters(experiment: Experiment) -> dict[str, object]:
    """All settings of the training and the method, the learning rate as it was used."""
    given: dict[str, object] = {"mode": experiment.mode}
    given |= msgspec.to_builtins(experiment.training) | msgspec.to_builtins(experiment.method)
    given |= {"learning_rate": experiment.learning_rate}
    return {name: value for name, value in given.items() if value is not None and name != "seeds"}


def lineage(folder: Path) -> list[Lineage]:
    """The published versions a composition's members were pulled from."""
    if not (folder / COMPOSITION_FILE).is_file():
        return []
    members = read_json(folder / COMPOSITION_FILE).get("members") or []
    return [
        Lineage(kind="member", digest=member["digest"])
        for member in members
        if member.get("digest")
    ]
