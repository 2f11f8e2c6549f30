"""A registry to look at: the sample catalogue and the whole reference hub, served on the loopback."""

import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.registry.conftest import Clock, Hub
from tests.registry.web import sample
from werkzeug.serving import make_server

from adapterhub_registry import migration
from adapterhub_registry.app import create_app
from adapterhub_registry.database import Database
from adapterhub_registry.importing import importer
from adapterhub_registry.service import account as accounts
from adapterhub_registry.settings import from_environment

ACCOUNT, PASSWORD = "lab", "a long walk by the sea"
"""who signs in to take pictures: an admin of the organization `lab`, and an operator"""
SNAPSHOT = Path(__file__).parents[3] / "shared" / "hub-snapshot" / "hub.tar.gz"


def build(home: Path, snapshot: Path | None) -> Hub:
    """Fill a registry in an empty folder."""
    settings = from_environment(
        {
            "ADAPTERHUB_HOME": str(home),
            "ADAPTERHUB_SECRET_KEY": "for pictures",
            "ADAPTERHUB_RATE_READ": "0",
            "ADAPTERHUB_RATE_SEARCH": "0",
            "ADAPTERHUB_RATE_WRITE": "0",
        }
    )
    database = Database(settings.database_url)
    migration.migrate(database)
    database.close()
    clock = Clock()
    hub = Hub(create_app(settings, clock=clock), clock)
    sample.fill(hub)
    _people(hub)
    if snapshot is not None:
        _reference_hub(hub, home / "reference", snapshot)
    return hub


def _people(hub: Hub) -> None:
    """Somebody who signs in, with tokens, members and an invitation."""
    token = hub.token(ACCOUNT)
    for name, role in (("grace", "writer"), ("katherine", "reader")):
        hub.token(name)
        hub.call("PUT", f"/orgs/lab/members/{name}", token, body={"role": role})
    hub.call("POST", "/orgs/lab/invitations", token, body={"label": "Dorothy", "role": "writer"})
    for label, scopes, days in (("ci", ["write"], 90), ("notebook", ["read"], 7)):
        body = {"label": label, "scopes": scopes, "expires_days": days, "organizations": ["lab"]}
        hub.call("POST", "/tokens", token, body=body)
    with hub.runtime.database.writing() as session:
        accounts.give_password(session, ACCOUNT, PASSWORD, hub.clock())
        accounts.find_account(session, ACCOUNT).is_admin = True


@contextmanager
def served(hub: Hub) -> Iterator[str]:
    """Serve it; gives its address."""
    server = make_server("127.0.0.1", 0, hub.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _reference_hub(hub: Hub, folder: Path, snapshot: Path) -> None:
    folder.mkdir()
    with tarfile.open(snapshot) as archive:
        archive.extractall(folder, filter="data")
    hub.clock.move(days=-200)
    importer.run(hub.runtime, folder, lambda _: None, metadata_only=True)
    hub.clock.move(days=200)
