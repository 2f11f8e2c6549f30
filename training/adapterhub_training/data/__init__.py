"""Examples: read from files of any of the formats people have, checked, and split."""

from adapterhub_training.data.dataset import SPLITS, Dataset, load, load_split, reported_split, row

__all__ = ["SPLITS", "Dataset", "load", "load_split", "reported_split", "row"]
