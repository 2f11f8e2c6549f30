"""What all tests share: no settings of this machine leak in, and what was left out is said."""

import os

import pytest

COMPLETE = "ADAPTERHUB_TEST_COMPLETE"
LEAKING = (
    "ADAPTERHUB_URL",
    "ADAPTERHUB_TOKEN",
    "ADAPTERHUB_CACHE",
    "ADAPTERHUB_CONFIG",
    "ADAPTERHUB_HOME",
)

# before anything imports them
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path_factory):
    """Give each test a home of its own; nobody's token or cache is read or written."""
    home = tmp_path_factory.mktemp("home")
    for variable in LEAKING:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))


def pytest_terminal_summary(terminalreporter):
    missing = os.environ.get("ADAPTERHUB_TEST_MISSING")
    if missing:
        terminalreporter.write_line(f"could not start, so not tested: {missing}", yellow=True)
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        reasons = sorted(
            {str(report.longrepr[-1]) for report in skipped if isinstance(report.longrepr, tuple)}
        )
        for reason in reasons:
            terminalreporter.write_line(reason, yellow=True)


def pytest_sessionfinish(session, exitstatus):
    """In CI nothing may be skipped: what was not tested is not known to work."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if os.environ.get(COMPLETE) and skipped and exitstatus == 0:
        reporter.write_line(f"\n{skipped} tests were skipped, and {COMPLETE} is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
