"""A small synthetic data set for the demo, and the program that writes it (see README.md beside this)."""

from pathlib import Path

FOLDER = Path(__file__).parent
