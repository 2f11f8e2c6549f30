"""A version's README as HTML that can do no harm: CommonMark without raw HTML, then an allow-list."""

import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

LIMIT_BYTES = 8 * 1024
"""longer cards are cut off here: a page has other things too, and the whole card is a file"""

Link = Callable[[str], str | None]
"""where a relative link of the card leads, None where nowhere"""

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n.*?\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_DEEPER = 2
"""levels that headings go down, since the page has its own"""
_SCHEMES = {"http", "https", "mailto"}
_TAGS = {
    "p",
    "br",
    "hr",
    "h3",
    "h4",
    "h5",
    "h6",
    "strong",
    "em",
    "s",
    "code",
    "pre",
    "blockquote",
    "ul",
    "ol",
    "li",
    "a",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "div",
}
_ATTRIBUTES = {
    "a": {"href", "title"},
    "ol": {"start"},
    "div": {"class", "role", "aria-label", "tabindex"},
}


def render(text: str, link: Link = lambda _: None) -> Markup:
    """A card as safe HTML. Images become links: a page loads nothing from elsewhere."""
    parser = _parser()
    tokens = parser.parse(_FRONT_MATTER.sub("", text, count=1).replace("\0", ""))
    for token in _flat(tokens):
        _tame(token, link)
    for token in tokens:
        _unlink(token.children or [])
    written = parser.renderer.render(tokens, parser.options, {})
    return Markup(  # noqa: S704  # nh3 has taken out all that is not on the lists
        nh3.clean(
            written,
            tags=_TAGS,
            attributes=_ATTRIBUTES,
            url_schemes=_SCHEMES,
            link_rel="nofollow ugc noopener noreferrer",
        )
    )


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.add_render_rule("image", _image)
    parser.add_render_rule(
        "table_open",
        lambda *_: '<div class="scroll" role="group" aria-label="Table" tabindex="0"><table>\n',
    )
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


def _image(self: object, tokens: list[Token], at: int, *_: object) -> str:
    del self
    token = tokens[at]
    label = nh3.clean_text(token.content or "image")
    source = str(token.attrs.get("src") or "")
    return f'<a href="{nh3.clean_text(source)}">{label}</a>' if source else label


def _flat(tokens: list[Token]) -> list[Token]:
    return [each for token in tokens for each in (token, *_flat(token.children or []))]


def _tame(token: Token, link: Link) -> None:
    if token.type in {"heading_open", "heading_close"}:
        token.tag = f"h{min(int(token.tag[1]) + _DEEPER, 6)}"
    elif token.type in {"link_open", "image"}:
        name = "href" if token.type == "link_open" else "src"
        target = _target(str(token.attrs.get(name) or ""), link)
        if target is None:
            token.attrs.pop(name, None)
        else:
            token.attrs[name] = target
    elif token.type in {"th_open", "td_open", "code_inline", "fence"}:
        token.attrs = {}
        token.info = ""


def _unlink(children: list[Token]) -> None:
    """Let the text of links that lead nowhere be mere text."""
    open_links: list[bool] = []
    for token in children:
        if token.type == "link_open":
            open_links.append("href" in token.attrs)
        if token.type in {"link_open", "link_close"}:
            leads = open_links[-1] if open_links else True
            if token.type == "link_close" and open_links:
                open_links.pop()
            if not leads:
                token.type, token.content = "text", ""


def _target(url: str, link: Link) -> str | None:
    """Another site, or a file of this version; anything else leads nowhere."""
    try:
        scheme = urlsplit(url).scheme.lower()
    except ValueError:
        return None
    if scheme:
        return url if scheme in _SCHEMES else None
    if url.startswith(("/", "#", "?")):
        return None
    return link(url.removeprefix("./").partition("#")[0])
