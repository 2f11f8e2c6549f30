"""Run a command with a real PostgreSQL and a real S3 server beside it, as far as they can be started.

    python tests/services.py -- python -m pytest

A server that the environment already names (``DATABASE_URL``, ``AWS_ENDPOINT_URL_S3``) is used as it is. Otherwise
scripts outside the project start one, where they are there. What could not be started is handed to the
command in ``ADAPTERHUB_TEST_MISSING``: the suite says it in its last lines. With ``ADAPTERHUB_TEST_COMPLETE=1``,
as in CI, it is an error.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "shared" / "services"
SERVICES = {
    "PostgreSQL": ("postgres", "DATABASE_URL", int(os.environ.get("PG_PORT", "5544"))),
    "S3": ("s3", "AWS_ENDPOINT_URL_S3", int(os.environ.get("S3_PORT", "9100"))),
}


def main() -> int:
    command = sys.argv[sys.argv.index("--") + 1 :]
    environment = dict(os.environ)
    missing, started = [], []
    for name, (script, variable, port) in SERVICES.items():
        if environment.get(variable):
            say(f"{name}: the one named by {variable}")
            continue
        runs_already = is_open(port)
        exports, reason = start(script, environment)
        if reason:
            missing.append(f"{name} ({reason})")
            say(f"{name}: not started: {reason}")
            continue
        environment |= exports
        say(f"{name}: {'found running' if runs_already else 'started'} on port {port}")
        if not runs_already:
            started.append(script)
    environment["ADAPTERHUB_TEST_MISSING"] = ", ".join(missing)
    try:
        if missing and environment.get("ADAPTERHUB_TEST_COMPLETE"):
            say(f"error: could not start {', '.join(missing)}")
            return 1
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        for script in started:
            subprocess.run(
                [SCRIPTS / f"{script}-down"],
                check=False,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


def start(script: str, environment: dict[str, str]) -> tuple[dict[str, str], str]:
    """Start a server; returns the variables that lead to it, or why there is none."""
    up = SCRIPTS / f"{script}-up"
    if not up.is_file():
        return {}, f"no {SERVICES_HINT[script]} set, and no script to start one"
    done = subprocess.run([up], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {}, (done.stderr.strip().splitlines() or ["it failed"])[-1]
    exports = {}
    for line in done.stdout.splitlines():
        for assignment in shlex.split(re.sub(r"^export ", "", line)):
            key, equals, value = assignment.partition("=")
            if equals:
                exports[key] = value
    return exports, ""


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


SERVICES_HINT = {script: variable for script, variable, _ in SERVICES.values()}

if __name__ == "__main__":
    sys.exit(main())
