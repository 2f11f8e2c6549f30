"""Run the app on gunicorn: several processes with several threads each.

Workers build the app after the fork, so no database connection is ever shared between processes.
"""

import gc
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from adapterhub_registry import telemetry
from adapterhub_registry.app import create_app
from adapterhub_registry.settings import Settings

_THREADS = 16
_IDLE_SECONDS = 75
_GRACE_SECONDS = 30


class Address(msgspec.Struct, frozen=True):
    """Where to listen, and with how many processes."""

    host: str
    port: int
    workers: int


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, load: Callable[[], Flask], options: dict[str, Any]) -> None:
        self._load, self._options = load, options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._load()


def run(settings: Settings, address: Address, announce: Callable[[str], None]) -> None:
    """Serve until the process is told to stop; `announce` gets the address once it listens."""

    def load() -> Flask:
        telemetry.configure()
        app = create_app(settings)
        gc.freeze()  # What was built stays: no collection has to look at it again.
        return app

    def listening(arbiter: Any) -> None:  # noqa: ANN401  # gunicorn has no types
        host, port = arbiter.LISTENERS[0].sock.getsockname()[:2]
        announce(settings.public_url or f"http://{host}:{port}")

    options = {
        "bind": f"{address.host}:{address.port}",
        "workers": address.workers,
        "threads": _THREADS,
        "worker_class": "gthread",
        "keepalive": _IDLE_SECONDS,
        "graceful_timeout": _GRACE_SECONDS,
        "loglevel": "warning",
        "when_ready": listening,
        "child_exit": lambda _arbiter, worker: telemetry.forget_worker(worker.pid),
        "control_socket_disable": True,
    }
    sys.stdout.flush()
    _Server(load, options).run()
