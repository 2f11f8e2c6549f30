"""Datasets, and who does best on them."""

from flask import Response, request

from adapterhub_client import wire
from adapterhub_registry.errors import NotFound
from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import boards
from adapterhub_registry.web.page import DESCRIBED, asked, blueprint, rendered
from adapterhub_registry.web.shown import leaders

_ROWS = 50
_HISTORY = 1000
"""values that the drawing over time has at most"""


class DatasetNotFound(NotFound):
    """No adapter that the viewer may read was measured on it."""

    code = "dataset_not_found"

    def __init__(self, dataset: str) -> None:
        super().__init__(f"No adapter here was measured on {dataset!r}.")


@blueprint.get("/leaderboards")
def leaderboard_list() -> Response:
    """Every dataset that adapters were measured on."""
    page = boards.datasets(session(), viewer(), asked(DESCRIBED))
    return rendered("leaderboards.html", datasets=page.items, following=page.next)


@blueprint.get("/leaderboards/<path:dataset>")
def leaderboard_page(dataset: str) -> Response:
    """One dataset: a metric on a split, the best version of each adapter, and how the best grew."""
    known = boards.of_dataset(session(), viewer(), dataset)
    if not known and not boards.is_known(session(), viewer(), dataset):
        raise DatasetNotFound(dataset)
    chosen = _chosen(known)
    if chosen is None:
        return rendered("leaderboard.html", dataset=dataset, boards=known)
    wanted = boards.Asked(
        dataset=dataset,
        metric=chosen.metric,
        split=chosen.split,
        limit=_ROWS,
        after=request.args.get("after") or None,
    )
    found = boards.leaderboard(session(), viewer(), wanted)
    history = boards.history(session(), viewer(), wanted, _HISTORY)
    return rendered(
        "leaderboard.html",
        dataset=dataset,
        boards=known,
        drawn=leaders.drawn(found),
        growth=leaders.growth(found.board, history),
        is_whole=len(history) < _HISTORY,
        following=found.next,
    )


def _chosen(known: list[wire.Board]) -> wire.Board | None:
    """The board that the address asks for; where there is none such, the one with the most adapters."""
    metric, split = request.args.get("metric"), request.args.get("split")
    of_metric = [each for each in known if each.metric == metric] or known
    of_split = [each for each in of_metric if each.split == split] or of_metric
    return next(iter(of_split), None)
