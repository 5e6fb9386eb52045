"""A report page taken apart: its tags, what it would fetch or run, its text."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, what they would fetch or run, and the text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.links, self.handlers, self.fetched, self.words = [], [], [], [], []
        self.alternatives, self.unclosed = [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "br", "path", "use", "image", "img", "rect", "stop", "!doctype"):
            self.unclosed.append(tag)
        for name, value in attrs:
            if name.startswith("on"):
                self.handlers.append(name)
            if name in ("src", "href", "xlink:href", "data", "action"):
                (self.links if tag == "a" else self.fetched).append(value)
        if tag == "svg":
            self.alternatives.append(dict(attrs).get("aria-label", ""))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.unclosed and self.unclosed[-1] == tag:
            self.unclosed.pop()

    def handle_endtag(self, tag):
        if self.unclosed and self.unclosed[-1] == tag:
            self.unclosed.pop()

    def handle_data(self, data):
        if not self.unclosed or self.unclosed[-1] != "style":
            self.words.append(data)


def is_harmless(page):
    assert page.tags.count("html") == 1
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(page.tags)
    assert not page.handlers
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in page.fetched)
    assert all(value.startswith("https://") for value in page.links)
    assert "url(http" not in page.source
    assert "@import" not in page.source
    assert page.unclosed == []
    return True
