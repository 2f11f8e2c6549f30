"""The pages of the catalogue."""

from flask import Flask


def register(app: Flask) -> None:
    """Add the pages to the app."""
