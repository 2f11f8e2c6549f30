"""Prediction heads, one row per kind, on top of a backbone's output."""

from adapterhub_client.compose.heads.context import PredictionContext
from adapterhub_client.compose.heads.conversion import from_static
from adapterhub_client.compose.heads.head import Head
from adapterhub_client.compose.heads.inputs import prepare
from adapterhub_client.compose.heads.kinds import KINDS, build, config_of
from adapterhub_client.compose.heads.several import MultiHeadOutput, answer, predict_rows

__all__ = [
    "KINDS",
    "Head",
    "MultiHeadOutput",
    "PredictionContext",
    "answer",
    "build",
    "config_of",
    "from_static",
    "predict_rows",
    "prepare",
]
