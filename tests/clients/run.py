"""Run unmodified clients, each in its own environment, against a real server; print a table, client by operation.

    python tests/clients/run.py [--only NAME ...]

Environments of `huggingface_hub` are made under ADAPTERHUB_CLIENTS, default `.venv/clients`; peft and transformers are
those of the Python that runs this, the adapters library that of ADAPTERS_PEER_PYTHON. The server keeps blobs in a
folder, and once more in the real S3 store where AWS_ENDPOINT_URL_S3 and S3_BUCKET name one.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HUBS = ("0.36.2", "1.33.0", "2.4.0")
AT_ONCE = 2
LIMIT_SECONDS = 240


class Unavailable(Exception):
    """An environment that cannot be made; says why."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="the clients to run")
    names = parser.parse_args().only
    try:
        results = {store: run(store, environments(names)) for store in stores()}
    except Unavailable as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write("\n".join(table(store, found) for store, found in results.items()))
    faults = [fault for found in results.values() for fault in faults_of(found)]
    sys.stdout.write("\n".join(["", *faults, ""]))
    return 1 if faults else 0


def stores():
    """The kinds of blob store that can be had here."""
    has_s3 = os.environ.get("AWS_ENDPOINT_URL_S3") and os.environ.get("S3_BUCKET")
    return ("folder", "s3") if has_s3 else ("folder",)


def environments(names=None):
    """The Python and the script of every client.

    Raises:
        Unavailable: One cannot be made.
    """
    found = {f"hub-{version}": (_hub(version), "hub_client.py") for version in HUBS}
    found["peft"] = (Path(sys.executable), "peft_client.py")
    found["adapters"] = (peer(), "adapters_client.py")
    return {name: client for name, client in found.items() if not names or name in names}


def peer():
    """The Python that has the adapters library."""
    named = os.environ.get("ADAPTERS_PEER_PYTHON")
    if not named or not Path(named).exists():
        raise Unavailable("ADAPTERS_PEER_PYTHON names no Python with the adapters library")
    return Path(named)


def run(store, clients):
    """Start a server, run every client against it: what each operation ended with, by client."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _call([peer(), HERE / "adapters_client.py", folder, "x", "prepare"], _environment(folder))
        server = Server(folder / "registry", store)
        with server:
            server.publish("nli/multinli@ukp", folder / "adapter")
            with ThreadPoolExecutor(AT_ONCE) as pool:
                jobs = {
                    name: pool.submit(_client, server, folder, name, client)
                    for name, client in clients.items()
                }
                return {name: job.result() for name, job in jobs.items()}


class Server:
    """`adapterhub-registry serve`, with the account `ukp`."""

    def __init__(self, home, store):
        home.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        blobs = f"folder:{home / 'blobs'}"
        if store == "s3":
            blobs = f"s3://{os.environ['S3_BUCKET']}/clients-{secrets.token_hex(4)}"
        self.environment = os.environ | {"ADAPTERHUB_HOME": str(home), "ADAPTERHUB_BLOBS": blobs}
        self.log = home / "server.log"
        self._command("migrate")
        self._command("account", "create", "ukp")
        self.token = self._command("token", "create", "ukp", "--scope", "write").strip()

    def __enter__(self):
        arguments = [*_registry(), "serve", "--port", str(self.port), "--workers", "2"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                arguments, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=5):
                    return self
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        raise TimeoutError(self.log.read_text())

    def __exit__(self, *_):
        """End the server and its workers, whatever state they are in."""
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def publish(self, reference, folder):
        """Push a folder as our own client does."""
        code = "import sys; from adapterhub_client.cli import main; main()"
        known = {"ADAPTERHUB_URL": self.url, "ADAPTERHUB_TOKEN": self.token}
        arguments = [sys.executable, "-W", "ignore", "-c", code, "push", reference, folder]
        _call(arguments, os.environ | known)

    def _command(self, *words):
        return _call([*_registry(), *words], self.environment)


def table(store, results):
    """Operations down, clients across: seconds, or what failed."""
    names = list(results)
    operations = list(dict.fromkeys(each for found in results.values() for each in found))
    width = max(map(len, operations), default=0)
    lines = [f"store: {store}", " " * width + "".join(f"{name:>12}" for name in names)]
    for operation in operations:
        cells = []
        for name in names:
            found = results[name].get(operation)
            cell = (
                "-"
                if found is None
                else "FAILED"
                if found["fault"]
                else f"{found['seconds']:.1f} s"
            )
            cells.append(f"{cell:>12}")
        lines.append(f"{operation:<{width}}" + "".join(cells))
    return "\n".join([*lines, ""])


def faults_of(results):
    """Every operation that failed, and how."""
    return [
        f"{name}: {operation}\n{found['fault']}"
        for name, operations in results.items()
        for operation, found in operations.items()
        if found["fault"]
    ]


def _client(server, folder, name, client):
    python, script = client
    home = folder / name
    home.mkdir()
    repository = name.replace("hub-", "hub").replace(".", "-")
    environment = _environment(home) | {"HF_ENDPOINT": server.url, "HF_TOKEN": server.token}
    done = subprocess.run(
        [python, HERE / script, folder, repository],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
        cwd=home,
    )
    lines = [
        json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"operation"')
    ]
    results = {line["operation"]: line for line in lines}
    if not results or (done.returncode and not faults_of({name: results})):
        results["start"] = {"seconds": 0.0, "fault": done.stdout + done.stderr}
    return results


def _environment(home):
    """The environment of a client: a home of its own, no proxy, nothing of this machine's settings."""
    dropped = ("HF_", "HUGGING", "PYTHONPATH", "ADAPTERHUB_", "TRANSFORMERS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | {
        "HF_HOME": str(home / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HOME": str(home),
        "NO_PROXY": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(HERE),
        "no_proxy": "127.0.0.1,localhost",
    }


def _hub(version):
    cache = Path(os.environ.get("ADAPTERHUB_CLIENTS") or ROOT / ".venv" / "clients")
    python = cache / f"hub-{version}" / "bin" / "python"
    if (cache / f"hub-{version}" / "bin" / "hf").exists():
        return python
    try:
        _call([sys.executable, "-m", "venv", cache / f"hub-{version}"], os.environ)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _call([*pip, f"huggingface_hub=={version}"], os.environ)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"huggingface_hub {version} cannot be installed: {error}") from error
    return python


def _registry():
    return [sys.executable, "-c", "from adapterhub_registry.cli import main; main()"]


def _call(arguments, environment):
    done = subprocess.run(
        list(map(str, arguments)),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
