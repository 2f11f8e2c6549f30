"""The Hugging Face Hub protocol, as its clients really use it: `HF_ENDPOINT` may name this registry.

Thin over the same services as the API. Models only: a repository is an adapter, or on its way to be one.
"""

from flask import Flask

from adapterhub_registry.huggingface import (
    administration,
    download,
    largefile,
    listing,
    metadata,
    unsupported,
    upload,
)


def register(app: Flask) -> None:
    """Add the protocol to the app, at its root."""
    for module in (administration, download, largefile, listing, metadata, upload, unsupported):
        app.register_blueprint(module.blueprint)
