"""Options that several commands have."""

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
RUN = click.argument("folder", metavar="RUN", type=FOLDER)
FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="win over the file; repeatable",
)
JSON = click.option("--json", "as_json", is_flag=True, help="as JSON")
QUIET = click.option("--quiet", is_flag=True, help="no progress")
