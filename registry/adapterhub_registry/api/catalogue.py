"""Bases, tasks, numbers, and whether the registry is well."""

from flask import Blueprint

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import PUBLIC, answers, api
from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import catalogue

blueprint = Blueprint("catalogue", __name__)


@blueprint.get("/bases")
@api.validate(
    resp=answers(list[wire.BaseModel]),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="list_bases",
)
def bases() -> list[wire.BaseModel]:
    """Every base model, with how many adapters there are for it."""
    return catalogue.bases(session(), viewer())


@blueprint.get("/bases/<fingerprint>")
@api.validate(
    resp=answers(wire.BaseModel, errors.BaseNotFound),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="show_base",
)
def base(fingerprint: str) -> wire.BaseModel:
    """One base model."""
    return catalogue.base(session(), viewer(), fingerprint)


@blueprint.get("/tasks")
@api.validate(
    resp=answers(list[wire.Task]), tags=["catalogue"], security=PUBLIC, operation_id="list_tasks"
)
def tasks() -> list[wire.Task]:
    """Every task, with how many adapters there are for it."""
    return catalogue.tasks(session(), viewer())


@blueprint.get("/stats")
@api.validate(
    resp=answers(wire.Stats), tags=["catalogue"], security=PUBLIC, operation_id="show_stats"
)
def stats() -> wire.Stats:
    """What the catalogue holds, as far as you may read it."""
    return catalogue.stats(session(), viewer())
