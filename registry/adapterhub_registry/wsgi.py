"""The application object for a WSGI server: `gunicorn adapterhub_registry.wsgi:app`."""

from adapterhub_registry import telemetry
from adapterhub_registry.app import create_app
from adapterhub_registry.settings import from_environment

telemetry.configure()
app = create_app(from_environment())
