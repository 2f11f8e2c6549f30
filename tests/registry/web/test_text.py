"""Values as people read them."""

import re

import pytest

from adapterhub_client.charts import text


@pytest.mark.parametrize(
    ("value", "read"),
    [
        pytest.param(text.size(999), "999\N{NO-BREAK SPACE}B", id="bytes"),
        pytest.param(text.size(3_630_000), "3.6\N{NO-BREAK SPACE}MB", id="megabytes"),
        pytest.param(
            text.size(5_000_000_000_000), "5000.0\N{NO-BREAK SPACE}GB", id="no unit above"
        ),
        pytest.param(text.counted(1, "adapter"), "1 adapter", id="one"),
        pytest.param(text.counted(12_345, "adapter"), "12,345 adapters", id="many"),
        pytest.param(text.counted(2, "entry", "entries"), "2 entries", id="other plural"),
        pytest.param(text.number(0.8464), "0.846", id="share"),
        pytest.param(text.number(93.1), "93.10", id="percent"),
        pytest.param(text.number(0.00012), "0.00012", id="small"),
        pytest.param(text.number(1e300), "1e+300", id="huge"),
        pytest.param(
            text.number(0.0004, 0.8464), "0.000", id="a deviation has its value's decimals"
        ),
        pytest.param(text.day("2026-11-20T15:00:00.000Z"), "20 Nov 2026", id="day"),
        pytest.param(text.duration(4.25), "4.2 s", id="seconds"),
        pytest.param(text.duration(1432.6), "23 min 53 s", id="minutes"),
        pytest.param(text.duration(7530), "2 h 5 min", id="hours"),
        pytest.param(text.short("sha256:0123456789abcdef"), "0123456789ab", id="digest"),
        pytest.param(text.told("sha256:0123456789abcdef"), "0123456789ab", id="detail: a digest"),
        pytest.param(text.told(["read", "write"]), "read write", id="detail: a list"),
        pytest.param(text.told(None), "null", id="detail: nothing"),
        pytest.param(
            text.breaking("layer.0.up_<b>"),
            "layer.<wbr>0.<wbr>up_<wbr>&lt;b&gt;",
            id="a name breaks after its parts",
        ),
        pytest.param(
            text.ticked("the `a` of `<b>`"),
            "the <code>a</code> of <code>&lt;b&gt;</code>",
            id="what is in backticks is code",
        ),
        pytest.param(
            text.ticked("the `a` of `b…"), "the <code>a</code> of `b…", id="an open backtick stays"
        ),
        pytest.param(text.compact({"a": [1, None, "é&<"]}), '{"a":[1,null,"é&<"]}', id="json"),
        pytest.param(text.parts("nli/a.b@ukp"), ("nli", "a.b", "ukp"), id="reference"),
    ],
)
def test_values_are_written_for_people(value: object, read: object):
    assert value == read


def test_a_command_breaks_only_between_words_and_copies_unchanged():
    command = 'curl -fL "a b"\n  <next> --base x'

    marked = text.unbroken(command)

    plain = re.sub(r"</?span>", "", marked)
    assert plain == "curl -fL &#34;a b&#34;\n  &lt;next&gt; --base x"
