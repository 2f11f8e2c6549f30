"""Expressions, plots and fingerprints, drawn."""

import pytest

from adapterhub_client.charts import dots, svg
from adapterhub_registry.web.charts import strip
from adapterhub_registry.web.expression import Node, tree


@pytest.mark.parametrize(
    ("expression", "node"),
    [
        pytest.param("a", Node("a"), id="leaf"),
        pytest.param("fuse(a, b)", Node("fuse", (Node("a"), Node("b"))), id="operator"),
        pytest.param(
            "average(a, b; weights=[0.3, 0.7])",
            Node("average", (Node("a"), Node("b")), "weights=[0.3, 0.7]"),
            id="options",
        ),
        pytest.param(
            "stack(fuse('a b', nli/x@y:3), c)",
            Node("stack", (Node("fuse", (Node("a b"), Node("nli/x@y:3"))), Node("c"))),
            id="nested, quoted, references",
        ),
        pytest.param("fuse(a, b", None, id="open"),
        pytest.param("fuse(a, b) c", None, id="more"),
        pytest.param("", None, id="empty"),
        pytest.param("fuse()", None, id="nothing in it"),
        pytest.param("fuse(a; weights=[1", None, id="options without end"),
        pytest.param("(" * 3000, None, id="brackets"),
        pytest.param("stack(" * 20 + "a" + ")" * 20, None, id="too deep"),
        pytest.param("a" * 5000, None, id="too long"),
    ],
)
def test_an_expression_is_a_tree_or_is_not_drawn(expression: str, node: Node | None):
    assert tree(expression) == node


@pytest.mark.parametrize(
    ("rows", "ticks"),
    [
        pytest.param([(0.846, 0.002, [0.712])], (0.7, 0.75, 0.8, 0.85, 0.9), id="shares"),
        pytest.param([(93.1, None, [])], (80.0, 100.0), id="one value"),
        pytest.param([(0.0, None, [])], (0.0, 0.2), id="zero"),
        pytest.param([(-2.0, None, [3.0])], (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0), id="both signs"),
        pytest.param([(1e300, None, [])], (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), id="too large to draw"),
    ],
)
def test_a_scale_has_round_ends_around_every_value(rows, ticks):
    scale = dots.scale([dots.Dot(*dot) for dot in rows])

    assert scale.ticks == pytest.approx(ticks)


@pytest.mark.parametrize("value", [0.0, 1e-300, -1e-12, 5e-324, 1e149, -1.7e308, 1e16 + 2])
@pytest.mark.parametrize("std", [None, 0.0, 1e-9, 1e308])
def test_any_number_can_be_drawn(value: float, std: float | None):
    dot = dots.Dot(value, std, [value / 2, 1.0])
    scale = dots.scale([dot])

    drawn = dots.dot_plot(dot, scale) + dots.axis(scale)

    assert "nan" not in drawn
    assert "inf%" not in drawn
    assert len(drawn) < 5000


def test_places_grow_with_values_and_stay_inside():
    scale = dots.scale([dots.Dot(0.5, None, [0.9])])

    places = [float(scale.place(value).rstrip("%")) for value in (-1, 0.5, 0.7, 0.9, 7)]

    assert places == sorted(places)
    assert places[0] == 0.0
    assert places[-1] == 100.0


def test_text_in_a_drawing_is_escaped():
    assert svg.element("text", "<b>", class_='"x') == '<text class="&#34;x">&lt;b&gt;</text>'


def test_two_fingerprints_look_different_and_one_always_the_same():
    first, second = "sha256:" + "0123456789abcdef" * 4, "sha256:" + "fedcba9876543210" * 4

    drawn, other, none, odd = map(strip.strip, (first, second, None, "no digest <at all>"))

    assert drawn == strip.strip(fingerprint=first)
    assert drawn != other
    assert drawn.count("M") == odd.count("M") == 16
    assert "<line" in none
