"""The main job from end to end, as a newcomer would type it: train, push, pull, fuse, predict, browse.

It runs the three commands as processes of their own, on a registry of its own in ``.demo``, and prints every command
it runs. On a terminal it leaves the catalogue open until Ctrl-C; elsewhere it stops its server and ends.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import httpx2
import msgspec

from adapterhub_client.errors import HubError, NotFound, Unreachable, UsageError
from adapterhub_training import experiment
from adapterhub_training.demo.closing import predictions, table

RECIPES = Path(__file__).parent
SOURCES = ("source-nli", "source-paraphrase", "source-sentiment")
TARGETS = ("target-head", "target-adapter", "target-fusion")
TARGET_TITLES = ("only a head", "one adapter", "a fusion over the pulled adapters")
ACCOUNT = "demo"
ORGANIZATION = "ukp"
START_SECONDS = 60
DATA_HINT = (
    "DATA holds one folder a task: mnli, qqp, sst2 and the target, mrpc; TARGET names another"
)


class StepFailed(HubError):
    """A command of the demo did not end well; its own words stand above."""


class Stage(msgspec.Struct):
    """Where the demo works and how far it is."""

    home: Path
    environment: dict[str, str]
    steps: int
    step: int = 0
    began: float = msgspec.field(default_factory=time.monotonic)

    def say(self, title: str) -> None:
        """Announce the next step."""
        self.step += 1
        seconds = time.monotonic() - self.began
        head = click.style(f"[{self.step}/{self.steps}] {title}", bold=True)
        click.echo(f"\n{head}  ({seconds:.0f} s)", err=True)

    def run(self, *words: str, shown: str | None = None) -> str:
        """Run a command as typed; its progress goes to the terminal, what it prints comes back."""
        click.echo(click.style(f"$ {shown or ' '.join(words)}", dim=True), err=True)
        program, *arguments = words
        done = subprocess.run(  # noqa: S603 - our own commands
            [beside_python(program), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StepFailed(f"`{' '.join(words)}` ended with status {done.returncode}.")
        return done.stdout.strip()

    def train(self, recipe: Path, overrides: Mapping[str, str]) -> Path:
        """Train one recipe into a run folder, and return that."""
        folder = self.home / "runs" / recipe.stem
        settings = [
            word for key, value in overrides.items() for word in ("--set", f"{key}={value}")
        ]
        words = (
            "adapterhub-train",
            "run",
            str(recipe),
            *settings,
            "--output",
            str(folder),
            "--overwrite",
        )
        printed = self.run(
            *words, shown=f"adapterhub-train run {recipe.name} --output {nearby(folder)}"
        )
        click.echo(indented(printed), err=True)
        return folder

    def push(self, run: Path) -> None:
        """Publish a run under the reference it names."""
        shown = f"adapterhub-client push {nearby(run)}"
        click.echo(indented(self.run("adapterhub-client", "push", str(run), shown=shown)), err=True)


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="folder with mnli, qqp, sst2 and mrpc",
)
@click.option("--target", metavar="TASK", help="another target task in the data than mrpc")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=".demo",
    help="where the demo keeps everything",
)
@click.option("--port", default=8400, show_default=True, help="the registry's port, if it is free")
def main(data: Path | None, target: str | None, home: Path, port: int) -> None:
    """Show the whole mission on a registry of its own."""
    try:
        play(data, target, home.absolute(), port)
    except HubError as error:
        click.echo(f"\nerror: {error}", err=True)
        if error.hint:
            click.echo(f"\nhint: {error.hint}", err=True)
        raise SystemExit(error.exit_code) from None


def play(data: Path | None, target: str | None, home: Path, port: int) -> None:
    """Run every step; raises at the first that fails."""
    if target is not None and data is None:
        raise UsageError("A target needs data.", hint=DATA_HINT)
    recipes = RECIPES / ("data" if data else "own")
    sources = [recipes / f"{name}.toml" for name in SOURCES]
    targets = [recipes / f"{name}.toml" for name in TARGETS]
    base = base_folder(targets[0])
    url = f"http://127.0.0.1:{free_port(port)}"
    stage = Stage(home, environment(home, url), steps=4 + len(sources) + len(targets))
    stage.say("Start a registry: SQLite and a folder, nothing else to set up")
    with registry(stage, url):
        stage.environment["ADAPTERHUB_TOKEN"] = token(stage)
        for recipe in sources:
            stage.say(f"Train a source adapter and push it as {reference_of(recipe)}")
            stage.push(stage.train(recipe, overrides(recipe, data)))
        stage.say("Pull them back by reference, checked against the base model")
        for recipe in sources:
            shown = f"adapterhub-client pull {reference_of(recipe)} --base {nearby(base)}"
            stage.run(
                "adapterhub-client",
                "pull",
                str(reference_of(recipe)),
                "--base",
                str(base),
                shown=shown,
            )
        runs = []
        for recipe, what in zip(targets, TARGET_TITLES, strict=True):
            stage.say(f"The small target task: {what}")
            runs.append(stage.train(recipe, overrides(recipe, data, target)))
            if reference_of(recipe, target) is not None:
                stage.push(runs[-1])
        stage.say("Predict with the fusion, pulled by its reference onto a fresh model")
        os.environ.update(stage.environment)
        click.echo(predictions(str(reference_of(targets[-1], target)), base, runs[-1]))
        stage.say("Done")
        click.echo(table(runs))
        click.echo(f"\nThe catalogue: {url}")
        wait_on_terminal()


@contextmanager
def registry(stage: Stage, url: str) -> Iterator[None]:
    """A registry of the demo's own; it ends with the demo."""
    port = url.rpartition(":")[2]
    words = ("adapterhub-registry", "serve", "--port", port)
    click.echo(click.style(f"$ {' '.join(words)}", dim=True), err=True)
    stage.home.mkdir(parents=True, exist_ok=True)
    log = stage.home / "registry.log"
    with log.open("ab") as file:
        server = subprocess.Popen(  # noqa: S603 - our own command
            [beside_python(words[0]), *words[1:]], env=stage.environment, stdout=file, stderr=file
        )
    try:
        for _ in range(START_SECONDS * 10):
            with suppress(httpx2.TransportError):
                if httpx2.get(f"{url}/healthz").is_success:
                    break
            if server.poll() is not None:
                raise Unreachable("The registry did not start.", hint=f"its own words are in {log}")
            time.sleep(0.1)
        else:
            raise Unreachable(
                f"The registry gave no healthy answer within {START_SECONDS} seconds.",
                hint=f"its own words are in {log}",
            )
        yield
    finally:
        server.terminate()
        server.wait()


def token(stage: Stage) -> str:
    """An account for the demo and a token for it; the account of an earlier demo is kept."""
    marker = stage.home / "registry" / "demo-account"
    if not marker.exists():
        stage.run("adapterhub-registry", "account", "create", ACCOUNT)
        stage.run("adapterhub-registry", "org", "create", ORGANIZATION, "--admin", ACCOUNT)
        marker.touch()
    return stage.run("adapterhub-registry", "token", "create", ACCOUNT, "--scope", "write").split()[
        -1
    ]


def environment(home: Path, url: str) -> dict[str, str]:
    """The environment of every command: the demo's own registry, cache and settings."""
    return {
        **os.environ,
        "ADAPTERHUB_HOME": str(home / "registry"),
        "ADAPTERHUB_PUBLIC_URL": url,
        "ADAPTERHUB_URL": url,
        "ADAPTERHUB_CACHE": str(home / "cache"),
        "ADAPTERHUB_CONFIG": str(home / "client.json"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def overrides(recipe: Path, data: Path | None, target: str | None = None) -> dict[str, str]:
    """Point a recipe at the user's data: the sub-folder it names there, or that of another target task."""
    if data is None:
        return {}
    wanted = experiment.read(recipe)
    folder = data / (target or Path(wanted.task.data).name)
    if not folder.is_dir():
        raise NotFound(f"There is no '{folder}'.", hint=DATA_HINT)
    moved = {"task.data": str(folder.absolute())}
    if target is None:
        return moved
    moved |= {"task.name": target, "task.dataset": target}
    reference = reference_of(recipe, target)
    return moved | ({"output.reference": reference} if reference else {})


def reference_of(recipe: Path, target: str | None = None) -> str | None:
    """What a recipe publishes its result as, if it does; another target task has names of its own."""
    reference = experiment.read(recipe).output.reference
    if reference is None or target is None:
        return reference
    return f"{target}/{'fusion' if 'fusion' in recipe.stem else 'adapter'}@{ORGANIZATION}"


def base_folder(recipe: Path) -> Path:
    """The folder of the base model that a recipe names."""
    from adapterhub_training.backbone import locate  # noqa: PLC0415 - torch

    return Path(locate(experiment.read(recipe).base.path))


def free_port(wanted: int) -> int:
    """The wanted port, or any other that nobody listens on."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Unreachable("No port is free on 127.0.0.1.")


def wait_on_terminal() -> None:
    """Leave the catalogue open for a person; a program goes on at once."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    click.echo("Open it in a browser. Ctrl-C ends the demo; `make demo` starts it again.")
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def beside_python(program: str) -> str:
    """The command that was installed with this Python."""
    return str(Path(sys.executable).parent / program)


def nearby(path: Path) -> str:
    """A path as short as it can be typed from here."""
    return os.path.relpath(path)


def indented(text: str) -> str:
    """The same, set off from the demo's own words."""
    return "\n".join(f"    {line}" for line in text.splitlines())


if __name__ == "__main__":
    main()
