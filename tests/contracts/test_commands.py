"""The three commands: quick to answer, and every one of their errors is a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
HEAVY = {
    "torch",
    "transformers",
    "httpx2",
    "rich",
    "sqlalchemy",
    "flask",
    "boto3",
    "numpy",
    "stamina",
}


@pytest.mark.parametrize(
    "module",
    ["adapterhub_client.cli", "adapterhub_registry.cli", "adapterhub_training.cli"],
    ids=lambda name: name,
)
def test_help_imports_nothing_heavy(module):
    program = f"import sys, {module}; print(*sorted(set(sys.modules) & {HEAVY!r}))"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert not done.stdout.strip()


@pytest.mark.parametrize(
    "command", ["adapterhub-client", "adapterhub-registry", "adapterhub-train"]
)
def test_every_subcommand_explains_itself(command):
    listed = subprocess.run(
        [BIN / command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    subcommands = [
        line.split()[0] for line in listed.partition("Commands:")[2].splitlines() if line.strip()
    ]

    assert subcommands
    for subcommand in subcommands:
        shown = subprocess.run(
            [BIN / command, subcommand, "--help"], capture_output=True, text=True, check=True
        )
        assert f"Usage: {command} {subcommand}" in shown.stdout


@pytest.mark.parametrize(
    "command", ["adapterhub-client", "adapterhub-registry", "adapterhub-train"]
)
def test_an_unknown_subcommand_is_refused(command):
    done = subprocess.run(
        [BIN / command, "frobnicate"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "frobnicate" in done.stderr
    assert "Traceback" not in done.stderr
