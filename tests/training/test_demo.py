import pytest

from adapterhub_client.errors import Unreachable
from adapterhub_training.demo import __main__ as demo


def test_a_registry_that_never_answers_ends_the_demo(tmp_path, monkeypatch):
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\nexec sleep 60\n")
    mute.chmod(0o755)
    monkeypatch.setattr(demo, "beside_python", lambda _: str(mute))
    monkeypatch.setattr(demo, "START_SECONDS", 1)
    url = f"http://127.0.0.1:{demo.free_port(0)}"
    stage = demo.Stage(tmp_path / "home", {}, steps=1)

    with (
        pytest.raises(Unreachable, match="no healthy answer within 1 seconds"),
        demo.registry(stage, url),
    ):
        pytest.fail("the demo went on")
