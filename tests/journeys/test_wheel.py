"""The wheel in clean environments, with no checkout near: it serves, migrates, pushes and pulls."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def environment_with(folder, requirement):
    """A fresh virtual environment with one thing installed; returns its folder of commands."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run(
        [
            folder / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            requirement,
        ],
        check=True,
    )
    return folder / "bin"


@pytest.mark.timeout(600)
def test_a_clean_machine_can_serve_push_and_pull(wheel, trained_folder, tmp_path):
    base_install = environment_with(tmp_path / "base", str(wheel))
    server_install = environment_with(tmp_path / "server", f"{wheel}[registry]")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ADAPTERHUB", "PYTHON"))
    }
    clean |= {
        "ADAPTERHUB_HOME": str(tmp_path / "home"),
        "ADAPTERHUB_URL": f"http://127.0.0.1:{port}",
        "ADAPTERHUB_CACHE": str(tmp_path / "cache"),
    }

    def run(program, *words, **more):
        done = subprocess.run(
            [program, *words],
            env=clean | more,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    installed = run(base_install / "python", "-m", "pip", "list", "--format", "freeze").lower()
    assert "torch" not in installed
    assert "flask" not in installed
    run(server_install / "adapterhub-registry", "migrate")
    server = subprocess.Popen(
        [server_install / "adapterhub-registry", "serve", "--port", str(port), "--workers", "1"],
        env=clean,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", server)
        run(server_install / "adapterhub-registry", "account", "create", "ukp")
        printed = run(
            server_install / "adapterhub-registry", "token", "create", "ukp", "--scope", "write"
        )
        token = re.search(r"ahub_\S+", printed).group(0)
        client = base_install / "adapterhub-client"
        run(client, "push", "nli/multinli@ukp", str(trained_folder), ADAPTERHUB_TOKEN=token)
        folder = Path(run(client, "pull", "nli/multinli@ukp"))
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/adapters/nli/multinli@ukp", timeout=10
        ) as page:
            shown = page.read().decode()
    finally:
        server.terminate()
        server.wait()

    assert (folder / "adapter.safetensors").read_bytes() == (
        trained_folder / "adapter.safetensors"
    ).read_bytes()
    assert "nli/multinli@ukp" in shown
    assert "stylesheet" in shown


def wait_for(url, server):
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            assert server.poll() is None
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(url)
