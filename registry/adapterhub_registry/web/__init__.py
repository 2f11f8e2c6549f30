"""The pages of the catalogue."""

from flask import Flask
from jinja2 import ChoiceLoader, FileSystemLoader

from adapterhub_client import names
from adapterhub_client.charts import TEMPLATES, bars, heat, text
from adapterhub_registry.web import assets, browser, page, problem, views
from adapterhub_registry.web.charts import strip
from adapterhub_registry.web.shown import listing


def register(app: Flask) -> None:
    """Add the pages to the app."""
    browser.register(app)
    app.register_blueprint(assets.blueprint)
    app.register_blueprint(views.blueprint)
    problem.register(app)
    app.jinja_env.loader = ChoiceLoader(
        [app.create_global_jinja_loader(), FileSystemLoader(TEMPLATES)]
    )
    app.jinja_env.filters.update(text.FILTERS, measured_as=listing.metric_of)
    app.jinja_env.globals.update(
        asset=assets.address,
        font=assets.font,
        adapter_path=page.adapter_path,
        method_path=page.method_path,
        board_path=page.board_path,
        dataset_path=page.dataset_path,
        strip=strip.strip,
        frozen_stack=strip.frozen_stack,
        share=bars.share,
        tone=heat.tone,
    )
    app.jinja_env.tests["reference_of_ours"] = names.is_reference
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
