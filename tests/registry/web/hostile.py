"""Text in every field of a manifest that wants to be more than text."""

from typing import Any

from adapterhub_client import wire

SCRIPT = '<script>document.title="owned"</script>'
LICENSE = "</p><script>"
"""refused when published; catalogues from before that rule have such"""
HOSTILE: dict[str, Any] = {
    "description": f"{SCRIPT} \" onmouseover=alert(1) ' \u202egnirts " + "long" * 400,
    "base": {"name": f'"><img src=x onerror=alert(1)>{"x" * 100}', "architecture": "<b>bert</b>"},
    "method": {
        "name": "</a><script>alert(1)</script>",
        "config_id": "javascript:alert(1)",
        "config": {"</dd><script>": [SCRIPT, {"</script>": None}], "long": "y" * 3000},
    },
    "heads": [wire.Head(name=SCRIPT, type="<i>", labels=["</li>" + SCRIPT, "a" * 500, "\u202eb"])],
    "metrics": [
        wire.Metric(
            dataset="<svg onload=alert(1)>", split=SCRIPT, name="</title>" + SCRIPT, value=1e300
        ),
        wire.Metric(dataset="d" * 200, split="s" * 300, name="n" * 200, value=-1e-12, std=1e-13),
        wire.Metric(dataset="zero", split="test", name="zero", value=0.0, std=0.0),
    ],
    "training": wire.Training(
        trainer=SCRIPT, hyperparameters={SCRIPT: SCRIPT}, hardware="</dl>" + SCRIPT, seconds=1e9
    ),
    "citation": "</code></pre>" + SCRIPT,
    "card": """# <script>alert(1)</script>

<img src=x onerror=alert(1)> <iframe src="https://example.org"></iframe>

[a](javascript:alert(1)) [b](data:text/html,<script>alert(1)</script>) [c](//example.org/x) [d](vbscript:x)
![pixel](https://example.org/pixel.png) ![run](javascript:alert(1)) <https://example.org/fine>

<style>body { display: none }</style>

`<script>` and "quotes" onclick=alert(1)

"""
    + "w" * 4000,
}
