"""One TOML file as frozen structs: everything a run depends on."""

from adapterhub_training.experiment.reading import PACKAGE, decode, encode, read, tables
from adapterhub_training.experiment.sections import (
    AdapterMethod,
    Base,
    Experiment,
    FullMethod,
    FusionMethod,
    Head,
    HeadMethod,
    Method,
    MultitaskMethod,
    Output,
    Task,
    TopLayersMethod,
    Tracking,
    Training,
)

__all__ = [
    "PACKAGE",
    "AdapterMethod",
    "Base",
    "Experiment",
    "FullMethod",
    "FusionMethod",
    "Head",
    "HeadMethod",
    "Method",
    "MultitaskMethod",
    "Output",
    "Task",
    "TopLayersMethod",
    "Tracking",
    "Training",
    "decode",
    "encode",
    "read",
    "tables",
]
