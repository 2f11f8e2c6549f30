"""Compose adapters on a frozen transformers model: attach, load, activate, detach (extra `compose`, needs torch)."""

from adapterhub_client.compose.attachment import Adapted, FusionWeights, attach
from adapterhub_client.compose.errors import IncompatibleAdapter, UnknownSite

__all__ = ["Adapted", "FusionWeights", "IncompatibleAdapter", "UnknownSite", "attach"]
