"""The JSON API: blueprints that parse, call one service and return a struct."""

from flask import Flask

from adapterhub_registry.api import (
    accounts,
    adapters,
    blobs,
    catalogue,
    document,
    lineage,
    organizations,
    ownership,
    uploads,
    versions,
)

PREFIX = "/api/v1"


def register(app: Flask) -> None:
    """Add every endpoint to the app."""
    for module in (
        accounts,
        adapters,
        blobs,
        catalogue,
        lineage,
        organizations,
        ownership,
        uploads,
        versions,
    ):
        app.register_blueprint(module.blueprint, url_prefix=PREFIX)
    document.register(app)
