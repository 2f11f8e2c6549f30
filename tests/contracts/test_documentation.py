"""What a person can type or set is written down, and what is written down is there."""

import re
from pathlib import Path

import click
import pytest

from adapterhub_client.cli import main as client
from adapterhub_registry.cli import main as registry
from adapterhub_training.cli import main as training

ROOT = Path(__file__).parents[2]
GUIDES = {
    "adapterhub-client": (client, ROOT / "client" / "README.md"),
    "adapterhub-registry": (registry, ROOT / "registry" / "README.md"),
    "adapterhub-train": (training, ROOT / "training" / "README.md"),
}


def commands(group, words=()):
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name))


@pytest.mark.parametrize(
    ("program", "command"),
    [(program, command) for program, (group, _) in GUIDES.items() for command in commands(group)],
    ids=lambda value: value,
)
def test_every_command_is_in_its_guide(program, command):
    assert f"{program} {command}" in GUIDES[program][1].read_text()


def test_every_setting_is_in_a_guide():
    sources = [
        *ROOT.glob("client/**/*.py"),
        *ROOT.glob("registry/**/*.py"),
        *ROOT.glob("training/**/*.py"),
    ]
    settings = {
        name
        for path in sources
        for name in re.findall(r"\bADAPTERHUB_[A-Z_]+[A-Z]\b", path.read_text())
    }
    guides = (
        "".join(path.read_text() for _, path in GUIDES.values()) + (ROOT / "README.md").read_text()
    )

    assert settings
    assert {name for name in settings if name not in guides} == set()


@pytest.mark.parametrize(
    "guide",
    [ROOT / "README.md", *(path for _, path in GUIDES.values())],
    ids=lambda path: path.parent.name,
)
def test_every_link_between_files_leads_somewhere(guide):
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", guide.read_text())

    assert [link for link in links if not (guide.parent / link).exists()] == []


def test_the_readmes_commands_exist():
    text = (ROOT / "README.md").read_text()
    known = {
        f"{program} {command}"
        for program, (group, _) in GUIDES.items()
        for command in commands(group)
    }

    for program, words in re.findall(
        r"^(?:\$ )?(adapterhub-(?:client|registry|train)) ([a-z][a-z -]*[a-z])", text, re.MULTILINE
    ):
        assert any(f"{program} {words}".startswith(command) for command in known), (
            f"{program} {words}"
        )
