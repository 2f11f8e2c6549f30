"""A run's fusion with only its most attended members, as a run of its own that can be pushed."""

from pathlib import Path

import msgspec

from adapterhub_training import building, closing, run, runfolder, writing
from adapterhub_training import experiment as experiments
from adapterhub_training.errors import BadExperiment
from adapterhub_training.experiment import FusionMethod
from adapterhub_training.results import Results
from adapterhub_training.run import Around, Ready
from adapterhub_training.saved import Model
from adapterhub_training.subject import Member


def table(model: Model, around: Around) -> Results:
    """The run's results, with what keeping fewer members reaches and takes, measured now.

    Raises:
        BadExperiment: The run is no fusion.
    """
    _fusion(model)
    lesson = run.prepare(model.experiment, around.shop).lessons[0]
    found = closing.pruning(model.subject, lesson, model.results.best.selected)
    extra = msgspec.structs.replace(model.results.extra, pruning=tuple(found))
    return msgspec.structs.replace(model.results, extra=extra)


def prune(model: Model, keep: int, folder: Path, around: Around) -> Results:
    """Keep the members that the fusion attends to most on validation, and write a run folder with the rest gone.

    Raises:
        BadExperiment: The run is no fusion, or has not so many members.
        RunExists: The folder is not empty.
    """
    method = _fusion(model)
    sources = building.sources(method)
    if not 1 <= keep < len(sources):
        raise BadExperiment(
            f"The fusion has {len(sources)} members; `--keep` is between 1 and {len(sources) - 1}."
        )
    runfolder.require_free(folder, overwrite=False)
    ready: Ready = run.prepare(model.experiment, around.shop)
    lesson, subject = ready.lessons[0], model.subject
    adapted, name = subject.adapted, next(iter(subject.adapted.fusions))
    members = list(adapted.fusions[name].members)
    looked = closing.looked_at(subject, lesson)
    adapted.deactivate()
    made = adapted.prune_fusion(name, keep, looked, closing.pruned_name(keep))
    subject.forget_composition()
    kept = [sources[members.index(member)] for member in made.kept]
    own = method.own if method.own in kept else ""
    fewer = msgspec.structs.replace(
        method, members=tuple(source for source in kept if source != own), own=own
    )
    output = msgspec.structs.replace(model.experiment.output, folder=str(folder), reference=None)
    asked = msgspec.structs.replace(
        model.experiment,
        method=fewer,
        output=output,
        training=msgspec.structs.replace(
            model.experiment.training, seeds=(model.results.best_seed,)
        ),
    )
    member = Member(model.results.best_seed, {lesson.name: made.name}, subject.members[0].heads, [])
    return _write(model, asked, member, ready, folder)


def _fusion(model: Model) -> FusionMethod:
    method = model.experiment.method
    if not isinstance(method, FusionMethod):
        raise BadExperiment(
            f"The run is of mode `{model.experiment.mode}`: only a fusion has members to leave out."
        )
    return method


def _write(
    model: Model, asked: experiments.Experiment, member: Member, ready: Ready, folder: Path
) -> Results:
    """Score what is left, and write its folder; `results.json` last."""
    lesson, subject = ready.lessons[0], model.subject
    reached, scores = run.score(subject, lesson, member, model.results.best.selected)
    folder.mkdir(parents=True, exist_ok=True)
    fused = str(member.compositions[lesson.name])
    subject.adapted.save_fusion(fused, folder / "fusion", head=member.heads[lesson.name])
    result = msgspec.structs.replace(model.results.best, reported=reached)
    kept = subject.adapted.fusions[fused].members
    extra = msgspec.structs.replace(
        model.results.extra,
        attention=None,  # it was that of all members
        pruning=tuple(each for each in model.results.extra.pruning if set(each.kept) <= set(kept)),
        latency_overhead=None,
        latency_note="",
        file_bytes=closing.weights_size(folder),
    )
    found = msgspec.structs.replace(
        model.results,
        method=building.method_name(asked),
        seeds=(result,),
        best_seed=result.seed,
        mean=dict(reached.values),
        std=dict.fromkeys(reached.values),
        members={n: d for n, d in model.results.members.items() if n in kept},
        extra=extra,
    )
    runfolder.write_scores(folder, scores[None])
    (folder / runfolder.EXPERIMENT_FILE).write_text(experiments.encode(asked), encoding="utf-8")
    writing.write(folder, asked, found)
    runfolder.write_results(folder, found)
    return found
