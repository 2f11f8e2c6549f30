"""Text in every field of a manifest and of a report that wants to be more than text, or more than there is room for."""

from typing import Any

from adapterhub_client import wire

SCRIPT = '<script>document.title="owned"</script>'
LICENSE = "</p><script>"
"""refused when published; catalogues from before that rule have such"""
WORD = "long" * 25_000
"""a word of 100 kB"""
TURNED = "\u202egnirts\u202c \u2066right\u2069 \u200f\u061c"
"""marks that turn the direction of writing round"""
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><a href="javascript:alert(1)">x</a></svg>'
LABELS = [
    "</li>" + SCRIPT,
    "a" * 500,
    "\u202eb",
    DRAWING,
    "\u05d0\u05d1\u05d2 \u0627\u0628\u062c",
    "\U0001f600" * 200,
    "'\"`",
]
_MEMBERS = ["</td><script>", "m" * 3000, TURNED]
REPORT = wire.Report(
    kind=SCRIPT,
    metric="</figcaption>" + SCRIPT,
    dataset="<svg onload=alert(1)>",
    split=SCRIPT,
    labels=LABELS,
    curves=[
        wire.Curve(
            seed=2**40,
            best_step=3,
            points=[
                wire.CurvePoint(step=at, epoch=1e12 * at, metric=-1e200 * at, train_loss=1e-300)
                for at in (1, 2, 3)
            ],
        )
    ],
    confusion=[[10**12 * (at == other) for other in range(7)] for at in range(7)],
    classes=[
        wire.LabelScore(label=label, precision=-5.0, recall=1e9, f1=7.0, support=-3)
        for label in LABELS
    ],
    calibration=wire.Calibration(
        bins=[wire.CalibrationBin(confidence=9e9, accuracy=-4.0, count=-(10**15))], error=1e250
    ),
    attention=wire.Attention(
        members=_MEMBERS,
        layers=[wire.AttentionLayer(layer=at, weights=[-1.0, 1e100, 0.5]) for at in range(3)],
    ),
    pruning=[wire.Pruning(kept=_MEMBERS[:1], value=1e299, relative_time=-1e9)],
    baselines=[wire.Baseline(name="</tr>" + SCRIPT + WORD, value=-1e299, parameters=-1)],
    cost=wire.Cost(
        parameters=-1, parameters_base=0, latency_overhead=1e9, latency_note=SCRIPT + WORD
    ),
    examples=[
        wire.Example(
            text="</p>" + SCRIPT + "t" * 3000,
            pair=DRAWING + TURNED,
            label=LABELS[0],
            probabilities=dict.fromkeys(LABELS, 1000000000.0),
        )
    ],
)
HOSTILE: dict[str, Any] = {
    "description": f"{SCRIPT} \" onmouseover=alert(1) ' {TURNED} {DRAWING} {WORD}",
    "base": {"name": f'"><img src=x onerror=alert(1)>{"x" * 100}', "architecture": "<b>bert</b>"},
    "method": {
        "name": "</a><script>alert(1)</script>",
        "config_id": "javascript:alert(1)",
        "config": {"</dd><script>": [SCRIPT, {"</script>": None}], "long": WORD, TURNED: TURNED}
        | {f"key {at}": at for at in range(200)},
    },
    "heads": [wire.Head(name=SCRIPT, type="<i>", labels=LABELS)],
    "metrics": [
        wire.Metric(
            dataset="<svg onload=alert(1)>", split=SCRIPT, name="</title>" + SCRIPT, value=1e300
        ),
        wire.Metric(dataset="d" * 200, split="s" * 300, name="n" * 200, value=-1e-12, std=1e-13),
        wire.Metric(dataset="zero", split="test", name="zero", value=0.0, std=0.0),
        wire.Metric(dataset=TURNED, split=TURNED, name=TURNED, value=0.5),
    ],
    "training": wire.Training(
        trainer=SCRIPT + WORD,
        hyperparameters={SCRIPT: SCRIPT, "k" * 5000: WORD},
        hardware="</dl>" + SCRIPT,
        seconds=1e9,
    ),
    "citation": "</code></pre>" + SCRIPT + WORD,
    "requires": [SCRIPT, WORD],
    "report": REPORT,
    "card": """# <script>alert(1)</script>

<img src=x onerror=alert(1)> <iframe src="https://example.org"></iframe>

[a](javascript:alert(1)) [b](data:text/html,<script>alert(1)</script>) [c](//example.org/x) [d](vbscript:x)
![pixel](https://example.org/pixel.png) ![run](javascript:alert(1)) <https://example.org/fine>
[e](java\nscript:alert(1)) [f](\u0001javascript:alert(1)) [g](file:///etc/passwd) [h](blob:x) [i](ftp://example.org)

<style>body { display: none }</style>

"""
    + DRAWING
    + "\n\n"
    + TURNED
    + """

`<script>` and "quotes" onclick=alert(1)

| a | b |
|---|---|
| """
    + "wide" * 500
    + """ | </table> |

"""
    + "w" * 100_000,
}
