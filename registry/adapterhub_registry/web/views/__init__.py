"""The pages, one module for each part of the catalogue; importing this gives the blueprint all of them."""

from adapterhub_registry.web.page import blueprint
from adapterhub_registry.web.views import (
    account,
    adapters,
    browsing,
    compare,
    feed,
    leaderboards,
    managing,
    methods,
    operating,
    organizations,
    search,
    session,
    start,
    trying,
    upload,
    versions,
)

__all__ = [
    "account",
    "adapters",
    "blueprint",
    "browsing",
    "compare",
    "feed",
    "leaderboards",
    "managing",
    "methods",
    "operating",
    "organizations",
    "search",
    "session",
    "start",
    "trying",
    "upload",
    "versions",
]
