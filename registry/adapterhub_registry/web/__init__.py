"""The pages of the catalogue."""

from flask import Flask

from adapterhub_client import names
from adapterhub_registry.web import assets, pages, problem, svg, text


def register(app: Flask) -> None:
    """Add the pages to the app."""
    app.register_blueprint(assets.blueprint)
    app.register_blueprint(pages.blueprint)
    problem.register(app)
    app.jinja_env.filters.update(text.FILTERS)
    app.jinja_env.globals.update(
        asset=assets.address,
        adapter_path=pages.reference_path,
        strip=svg.strip,
        frozen_stack=svg.frozen_stack,
    )
    app.jinja_env.tests["reference_of_ours"] = names.is_reference
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
