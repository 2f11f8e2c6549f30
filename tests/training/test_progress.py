import io

from rich.console import Console

from adapterhub_training import progress


def test_lines_are_written_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0)
    written = io.StringIO()
    lines = progress.Lines(written)

    lines.begin("nli, seed 1", 2)
    lines.step("loss 0.700")
    lines.say("half done")

    assert written.getvalue() == "nli, seed 1  step 1/2  loss 0.700  0 s left\nhalf done\n"


def test_lines_are_silent_between(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 1000)
    written = io.StringIO()
    lines = progress.Lines(written)

    lines.begin("nli, seed 1", 2)
    lines.step("loss 0.700")
    lines.end()

    assert written.getvalue() == ""


def test_a_bar_shows_title_steps_and_loss_and_leaves_only_what_was_said():
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100, color_system=None)
    bar = progress.Bar(console)

    bar.begin("nli, seed 1", 2)
    bar.step("loss 0.700")
    bar.say("[half] done")
    bar.end()

    shown = written.getvalue()
    assert "nli, seed 1" in shown
    assert "[half] done" in shown
    assert "\x1b[?25h" in shown  # the cursor is visible again


def test_quiet_is_quiet(capsys):
    quiet = progress.display(quiet=True)

    quiet.begin("nli, seed 1", 2)
    quiet.step("loss 0.700")
    quiet.say("half done")
    quiet.end()

    assert capsys.readouterr() == ("", "")
