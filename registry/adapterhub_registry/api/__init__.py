"""The JSON API: blueprints that parse, call one service and return a struct."""

from flask import Flask

from adapterhub_registry.api import (
    accounts,
    adapters,
    audit,
    blobs,
    catalogue,
    document,
    invitations,
    lineage,
    organizations,
    ownership,
    tokens,
    uploads,
    versions,
)

PREFIX = "/api/v1"


def register(app: Flask) -> None:
    """Add every endpoint to the app."""
    for module in (
        accounts,
        adapters,
        audit,
        blobs,
        catalogue,
        invitations,
        lineage,
        organizations,
        ownership,
        tokens,
        uploads,
        versions,
    ):
        app.register_blueprint(module.blueprint, url_prefix=PREFIX)
    document.register(app)
