"""Bases, tasks, datasets and leaderboards, and how much there is."""

from typing import Annotated

import msgspec
from flask import Blueprint

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import PUBLIC, answers, api
from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import boards, browsing, places

blueprint = Blueprint("catalogue", __name__)

Limit = Annotated[int, msgspec.Meta(ge=1, le=200)]


class PageQuery(places.Page, frozen=True, kw_only=True):
    """A page of a list."""

    limit: Limit = 50


class CompatibleQuery(places.Page, frozen=True, kw_only=True):
    """A base model: its fingerprint, or its name."""

    base: str
    limit: Limit = 50


class LeaderboardQuery(boards.Asked, frozen=True, kw_only=True):
    """What to compare."""

    limit: Limit = 50


class BoardQuery(places.Page, frozen=True, kw_only=True):
    """A page of the leaderboard that the path names."""

    split: str | None = None
    """without it, the split that most adapters report"""
    limit: Limit = 50


@blueprint.get("/bases")
@api.validate(
    resp=answers(wire.BasePage), tags=["catalogue"], security=PUBLIC, operation_id="list_bases"
)
def bases(query: PageQuery) -> wire.BasePage:
    """A page of base models, each with how many adapters there are for it, most first."""
    return browsing.bases(session(), viewer(), query)


@blueprint.get("/bases/<fingerprint>")
@api.validate(
    resp=answers(wire.BaseModel, errors.BaseNotFound),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="show_base",
)
def base(fingerprint: str) -> wire.BaseModel:
    """One base model."""
    return browsing.base(session(), viewer(), fingerprint)


@blueprint.get("/compatible")
@api.validate(
    resp=answers(wire.VersionPage, errors.BaseNotFound),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="list_compatible",
)
def compatible(query: CompatibleQuery) -> wire.VersionPage:
    """A page of all active versions that fit a base model."""
    return browsing.compatible(session(), viewer(), query.base, query)


@blueprint.get("/tasks")
@api.validate(
    resp=answers(wire.TaskPage), tags=["catalogue"], security=PUBLIC, operation_id="list_tasks"
)
def tasks(query: PageQuery) -> wire.TaskPage:
    """A page of tasks, each with how many adapters there are for it, most first."""
    return browsing.tasks(session(), viewer(), query)


@blueprint.get("/datasets")
@api.validate(
    resp=answers(wire.DatasetPage),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="list_datasets",
)
def datasets(query: PageQuery) -> wire.DatasetPage:
    """A page of datasets, each with its leaderboards, those with the most adapters first."""
    return boards.datasets(session(), viewer(), query)


@blueprint.get("/leaderboards")
@api.validate(
    resp=answers(wire.Leaderboard, boards.LeaderboardNotFound),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="show_leaderboard",
)
def leaderboard(query: LeaderboardQuery) -> wire.Leaderboard:
    """The best version of each adapter for one metric of one dataset, the best first."""
    return boards.leaderboard(session(), viewer(), query)


@blueprint.get("/leaderboards/<path:dataset>/<metric>")
@api.validate(
    resp=answers(wire.Leaderboard, boards.LeaderboardNotFound),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="show_leaderboard_of",
)
def leaderboard_of(dataset: str, metric: str, query: BoardQuery) -> wire.Leaderboard:
    """The same, at an address of its own."""
    asked = boards.Asked(
        dataset=dataset, metric=metric, split=query.split, limit=query.limit, after=query.after
    )
    return boards.leaderboard(session(), viewer(), asked)


@blueprint.get("/stats")
@api.validate(
    resp=answers(wire.Stats), tags=["catalogue"], security=PUBLIC, operation_id="show_stats"
)
def stats() -> wire.Stats:
    """What the catalogue holds, as far as you may read it."""
    return browsing.stats(session(), viewer())
