"""A card becomes HTML that can do no harm."""

import pytest

from adapterhub_registry.web.markdown import render

NO_TRUST = 'rel="nofollow ugc noopener noreferrer"'


@pytest.mark.parametrize(
    ("text", "html"),
    [
        pytest.param("# One\n## Two", "<h3>One</h3>\n<h4>Two</h4>", id="headings go down"),
        pytest.param("###### Six", "<h6>Six</h6>", id="but never below the last"),
        pytest.param("---\nlicense: mit\n---\nText", "<p>Text</p>", id="front matter is no text"),
        pytest.param("a <b>c</b>", "<p>a &lt;b&gt;c&lt;/b&gt;</p>", id="html is text"),
        pytest.param("[x](javascript:a(1))", "<p>[x](javascript:a(1))</p>", id="script"),
        pytest.param("[x](JavaScript&colon;a(1))", "<p>[x](JavaScript:a(1))</p>", id="spelt oddly"),
        pytest.param("[x](//evil.example/)", "<p>x</p>", id="no scheme"),
        pytest.param("[x](/login)", "<p>x</p>", id="nothing on this site"),
        pytest.param("~~gone~~ `<i>`", "<p><s>gone</s> <code>&lt;i&gt;</code></p>", id="inline"),
    ],
)
def test_what_is_written_is_what_is_shown(text: str, html: str):
    assert render(text).strip() == html


def test_an_image_is_a_link_so_that_nothing_is_loaded_from_elsewhere():
    html = render('![a "plot"](https://example.org/plot.png)')

    assert "<img" not in html
    assert '<a href="https://example.org/plot.png" rel=' in html
    assert '>a "plot"</a>' in html


def test_relative_links_lead_to_files_of_the_version():
    files = {"plots/loss.svg": "/api/v1/blobs/00"}

    html = render("[loss](./plots/loss.svg#top) [gone](other.md)", files.get)

    assert '<a href="/api/v1/blobs/00" rel=' in html
    assert "other.md" not in html


def test_a_wide_table_scrolls_in_a_box_that_the_keyboard_reaches():
    html = render("| a |\n|--:|\n| 1 |")

    assert html.startswith('<div class="scroll"')
    assert 'tabindex="0"' in html
    assert "style=" not in html


def test_deep_nesting_ends():
    html = render("> " * 5000 + "deep")

    assert html.count("<blockquote>") < 200
