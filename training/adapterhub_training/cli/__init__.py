"""The command `adapterhub-train`.

torch is imported inside the commands only, so that `--help` and a refused experiment answer at once.
"""

import click

from adapterhub_client.cli import Group
from adapterhub_training.cli import telling, training, using


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="adapterhub", prog_name="adapterhub-train")
def main() -> None:
    """Train adapters, fusions and heads on a base model, compare them, and hand them on.

    An experiment is one TOML file; a run is a folder with its results, its weights and a report.
    """


for command in (
    training.run,
    training.plan,
    training.probe,
    using.evaluate,
    using.predict,
    using.prune,
    using.export_onnx,
    telling.compare,
    telling.report,
    telling.recommend,
):
    main.add_command(command)
