"""Resolve, pull and push adapters; `adapterhub_client.compose` puts them on a model."""

from typing import TYPE_CHECKING, Any

from adapterhub_client.errors import HubError
from adapterhub_client.names import Reference, parse

if TYPE_CHECKING:
    from adapterhub_client.hub import Hub
    from adapterhub_client.publication import Details
    from adapterhub_client.wire import Manifest, Metric

__all__ = ["Details", "Hub", "HubError", "Manifest", "Metric", "Reference", "parse"]

_LAZY = {"Details": "publication", "Hub": "hub", "Manifest": "wire", "Metric": "wire"}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the HTTP client only for those who use it: the command's `--help` must be quick."""
    if name in _LAZY:
        from importlib import import_module  # noqa: PLC0415

        return getattr(import_module(f"adapterhub_client.{_LAZY[name]}"), name)
    raise AttributeError(name)
