"""What a transfer costs against boto3 straight from the same store, and against huggingface_hub from the same server.

Each way runs in turn with the others, `REPEATS` times; the table has the best of each, since a machine that does other
work only ever adds time, with the processor time of this process and of the server.
"""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from tests.factories import make_folder

from adapterhub_client import Hub

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
REPEATS = int(os.environ.get("BENCHMARK_REPEATS", "3"))
LARGE_BYTES = 64 * 1024 * 1024
SMALL_BYTES = 100_000
SMALL_FILES = 500
PARALLEL = 32
CHUNK_BYTES = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """The registry in processes of its own, with what they use of processor and memory."""

    def __init__(self, home, blobs):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        command = str(Path(sys.executable).parent / "adapterhub-registry")
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ADAPTERHUB_")},
            "ADAPTERHUB_HOME": str(home),
            "ADAPTERHUB_BLOBS": blobs,
            "ADAPTERHUB_MAX_FILES": "1000",
        }
        port = self.url.rpartition(":")[2]
        self.process = subprocess.Popen(
            [command, "serve", "--port", port, "--workers", "2"],
            env=environment,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(f"{self.url}/healthz", timeout=5).close()
                break
            time.sleep(0.1)
        for arguments in (
            ["account", "create", "me"],
            ["token", "create", "me", "--scope", "write"],
        ):
            made = subprocess.run(
                [command, *arguments], env=environment, check=True, capture_output=True, text=True
            )
        self.token = re.search(r"ahub_\S+", made.stdout).group(0)

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()

    def _processes(self):
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self.process.pid:
                    yield fields

    def processor_seconds(self):
        return sum(int(fields[11]) + int(fields[12]) for fields in self._processes()) / TICKS

    def resident_bytes(self):
        return sum(int(fields[21]) for fields in self._processes()) * os.sysconf("SC_PAGE_SIZE")


def measured(server, **jobs):
    """The best (seconds, processor seconds here, processor seconds of the server) of each job."""
    found = {name: [] for name in jobs}
    for at in range(REPEATS):
        for name, job in jobs.items():
            before = (time.perf_counter(), time.process_time(), server.processor_seconds())
            timed = job(at)
            after = (time.perf_counter(), time.process_time(), server.processor_seconds())
            spent = tuple(b - a for a, b in zip(before, after, strict=True))
            found[name].append((*timed, spent[2]) if timed else spent)
    return {name: min(each) for name, each in found.items()}


def show(title, found, against, size_bytes):
    lines = [f"\n{title}, {size_bytes / 1e6:.0f} MB, best of {REPEATS}"]
    for name, (seconds, ours, theirs) in found.items():
        ratio = found[against][0] / seconds
        lines.append(
            f"  {name:34} {seconds:7.3f} s {size_bytes / seconds / 1e6:7.0f} MB/s"
            f"  {ratio:5.2f} of {against}'s throughput"
            f"  (processor: client {ours:.2f} s, registry {theirs:.2f} s)"
        )
    sys.stdout.write("\n".join(lines) + "\n")


def large_folder(folder, seed):
    return make_folder(folder / f"large{seed}", size_bytes=LARGE_BYTES, seed=seed)


def small_folder(folder, seed):
    made = make_folder(folder / f"small{seed}", seed=seed)
    for number in range(SMALL_FILES):
        (made / f"{number:03}.png").write_bytes(secrets.token_bytes(SMALL_BYTES))
    return made


SNAPSHOT = """
import sys, time
import huggingface_hub
before = time.perf_counter(), time.process_time()
huggingface_hub.snapshot_download("me/nli.a", endpoint=sys.argv[1], cache_dir=sys.argv[2], token=False)
print(time.perf_counter() - before[0], time.process_time() - before[1])
"""
FOLDERS = [
    pytest.param(large_folder, LARGE_BYTES, id="64 MiB"),
    pytest.param(small_folder, SMALL_BYTES * SMALL_FILES, id="500 files of 100 kB"),
]


@pytest.fixture
def s3(tmp_path):
    if "AWS_ENDPOINT_URL_S3" not in os.environ:
        pytest.skip("no S3: AWS_ENDPOINT_URL_S3 names none")
    prefix = f"benchmarks/{secrets.token_hex(6)}"
    bucket = os.environ.get("S3_BUCKET", "adapterhub")
    server = Server(tmp_path / "registry", f"s3://{bucket}/{prefix}")
    boto3 = pytest.importorskip("boto3")
    client_config = pytest.importorskip("botocore.client").Config
    store = boto3.client(
        "s3",
        config=client_config(
            signature_version="s3v4", s3={"addressing_style": "path"}, max_pool_connections=32
        ),
    )
    yield server, store, bucket, prefix
    server.stop()
    for page in store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        keys = [{"Key": each["Key"]} for each in page.get("Contents", [])]
        if keys:
            store.delete_objects(Bucket=bucket, Delete={"Objects": keys})


@pytest.fixture
def embedded(tmp_path):
    server = Server(tmp_path / "registry", f"folder:{tmp_path / 'blobs'}")
    yield server
    server.stop()


@pytest.mark.parametrize(("make", "size_bytes"), FOLDERS)
def test_transfers_against_boto3(s3, tmp_path, make, size_bytes):
    server, store, bucket, prefix = s3
    folders = [make(tmp_path / "sources", seed) for seed in range(REPEATS)]

    def boto3_push(at):
        def put(path):
            store.upload_file(str(path), bucket, f"{prefix}/plain/{at}/{path.name}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, folders[at].iterdir()))

    def our_push(at):
        with Hub(server.url, server.token, tmp_path / "publisher") as hub:
            hub.push(f"nli/a{at}@me", folders[at])

    def boto3_pull(at):
        target = tmp_path / "plain" / str(at)
        target.mkdir(parents=True)

        def fetch(path):
            store.download_file(bucket, f"{prefix}/plain/{at}/{path.name}", str(target / path.name))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(fetch, folders[at].iterdir()))

    def our_pull(at):
        with Hub(server.url, cache=tmp_path / "visitor" / str(at)) as hub:
            hub.pull(f"nli/a{at}@me")

    pushed = measured(server, boto3=boto3_push, push=our_push)
    pulled = measured(server, boto3=boto3_pull, pull=our_pull)

    show("Push to S3", pushed, "boto3", size_bytes)
    show("Pull from S3", pulled, "boto3", size_bytes)
    assert len(pulled) == 2


@pytest.mark.parametrize(("make", "size_bytes"), FOLDERS)
def test_transfers_against_huggingface_hub(embedded, tmp_path, make, size_bytes):
    pytest.importorskip("huggingface_hub")
    server, folder = embedded, make(tmp_path / "sources", 0)
    with Hub(server.url, server.token, tmp_path / "publisher") as hub:
        manifest = hub.manifest(hub.push("nli/a@me", folder).digest)

    def plain(at):
        target = tmp_path / "plain" / str(at)
        target.mkdir(parents=True)
        with httpx2.Client(base_url=f"{server.url}/api/v1/blobs") as client:
            for file in manifest.files:
                with (
                    client.stream("GET", f"/{file.sha256}") as answer,
                    (target / file.path).open("wb") as out,
                ):
                    for piece in answer.iter_bytes(CHUNK_BYTES):
                        out.write(piece)

    def ours(at):
        with Hub(server.url, cache=tmp_path / "visitor" / str(at)) as hub:
            hub.pull("nli/a@me")

    def theirs(at):
        """In a process of its own, timed there: it reads its settings when it is imported."""
        arguments = [server.url, str(tmp_path / "hub" / str(at))]
        ended = subprocess.run(
            [sys.executable, "-c", SNAPSHOT, *arguments],
            env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        return tuple(map(float, ended.stdout.split()))

    jobs = {"plain stream": plain, "pull": ours, "huggingface_hub": theirs}
    found = measured(server, **jobs)

    show("Pull from the embedded registry", found, "plain stream", size_bytes)
    assert found


@pytest.mark.parametrize("kind", ["embedded", "s3"])
def test_memory_stays_flat_under_parallel_transfers(request, tmp_path, kind):
    found = request.getfixturevalue(kind)
    server = found if kind == "embedded" else found[0]
    folders = [large_folder(tmp_path / "sources", seed) for seed in range(4)]

    def push(number):
        folder = folders[number % 4]
        with Hub(server.url, server.token, tmp_path / f"publisher{number}") as hub:
            return hub.push(f"nli/a{number}@me", folder)

    def pull(number):
        target = f"{server.url}/api/v1/blobs/{blob.sha256}"
        with httpx2.stream("GET", target, follow_redirects=True, timeout=300) as answer:
            return sum(len(piece) for piece in answer.iter_bytes(CHUNK_BYTES))

    push(0)
    idle, samples, done = server.resident_bytes(), [], threading.Event()

    def sample():
        while not done.wait(0.05):
            samples.append(server.resident_bytes())

    watcher = threading.Thread(target=sample)
    watcher.start()
    with ThreadPoolExecutor(PARALLEL) as pool:
        versions = list(pool.map(push, range(PARALLEL)))
        with Hub(server.url, cache=tmp_path / "visitor") as hub:
            files = hub.manifest(versions[0].digest).files
        blob = max(files, key=lambda file: file.size_bytes)
        sizes = list(pool.map(pull, range(PARALLEL)))
    done.set()
    watcher.join()

    sys.stdout.write(
        f"\n{PARALLEL} pushes and pulls of 64 MiB at once, {kind}: the registry's 2 workers take"
        f" {idle / 1e6:.0f} MB before and at most {max(samples) / 1e6:.0f} MB\n"
    )
    assert set(sizes) == {blob.size_bytes}
    assert max(samples) < idle + PARALLEL * 8e6
