"""Compose adapters on a frozen transformers model: attach, load, activate, detach (extra `compose`, needs torch)."""

from adapterhub_client.compose.activation import FusionWeights
from adapterhub_client.compose.attachment import Adapted, attach
from adapterhub_client.compose.errors import IncompatibleAdapter, UnknownSite
from adapterhub_client.compose.files.setups import Setup
from adapterhub_client.compose.sites.backbone import declare

__all__ = [
    "Adapted",
    "FusionWeights",
    "IncompatibleAdapter",
    "Setup",
    "UnknownSite",
    "attach",
    "declare",
]
