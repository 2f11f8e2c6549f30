"""A page as a test reads it: its text, its links, its elements; malformed markup is an error."""

import re
from html.parser import HTMLParser

INLINE = {
    "a",
    "b",
    "code",
    "em",
    "span",
    "strong",
    "time",
    "wbr",
    "input",
    "button",
    "label",
    "svg",
    "text",
}
VOID = {"meta", "link", "input", "br", "hr", "wbr", "img"}


class Element:
    def __init__(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.tag, self.attributes = tag, attributes
        self.text = ""
        self.html = ""
        """the start tags inside it, as they are"""

    def __getitem__(self, name: str) -> str:
        return self.attributes[name] or ""


class Page(HTMLParser):
    """Every element in order of its start tag, with all text inside it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {[each.tag for each in self._open]}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute twice in <{tag}>: {names}"
        element = Element(tag, dict(attrs))
        for outer in self._open:
            outer.html += self.get_starttag_text() or ""
        if tag not in INLINE:
            self.handle_data(" ")
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        del attrs
        raise AssertionError(f"<{tag}/> is not HTML")

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()
        if tag not in INLINE:
            self.handle_data(" ")

    def handle_data(self, data):
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Elements of a tag; `class_` asks for one of the classes."""
        wanted = attributes.pop("class_", None)
        return [
            each
            for each in self.elements
            if each.tag == tag
            and (wanted is None or wanted in (each.attributes.get("class") or "").split())
            and all(each.attributes.get(name) == value for name, value in attributes.items())
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} of <{tag}> {attributes}"
        return found[0]

    @property
    def text(self) -> str:
        """What is to be read, with single spaces."""
        return words(self.one("body").text)

    @property
    def links(self) -> list[str]:
        return [each["href"] for each in self.all("a") if "href" in each.attributes]


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def read(client, path: str, status: int = 200, **headers: str) -> Page:
    """Fetch a page as a browser does."""
    response = client.get(path, headers={"Accept": "text/html,*/*;q=0.8"} | headers)
    assert response.status_code == status, (path, response.status_code)
    assert response.mimetype == "text/html", (path, response.mimetype)
    return Page(response.text)
