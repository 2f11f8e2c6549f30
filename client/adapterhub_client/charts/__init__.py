"""Drawings of what was measured, the same on the catalogue's pages and on the trainer's: SVG from pure functions.

Jinja templates for a report are in `TEMPLATES`, what they look like is in `LOOK`.
"""

from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates")
LOOK = Path(__file__).with_name("look.css")
