"""Reading a report as a browser does, for tests of what is on it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import BytesIO

from PIL import Image

_VOID = {"br", "hr", "img", "meta"}


@dataclass
class Page(HTMLParser):
    """Parses strictly: every element that is opened is closed, in order."""

    source: str
    text: str = ""
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self._open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data + ("" if self._open[-1] == "bdi" else " ")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of the elements of this name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def pictures(self) -> list[Image.Image]:
        """The pictures, decoded."""
        prefix = "data:image/jpeg;base64,"
        sources = [attributes["src"] or "" for attributes in self.all("img")]
        assert all(source.startswith(prefix) for source in sources)
        data = (base64.b64decode(source.removeprefix(prefix), validate=True) for source in sources)
        return [Image.open(BytesIO(jpeg), formats=["JPEG"]) for jpeg in data]


def read_page(source: str) -> Page:
    """A page that loads nothing, runs nothing and can be read aloud; fails if it is none."""
    source.encode()
    assert source.startswith("<!DOCTYPE html>")
    found = Page(source)
    assert not {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object", "base"}
    for _, attributes in found.tags:
        assert not {"onload", "onerror", "onclick"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|javascript:|https?:", source)
    assert all(attributes["alt"] for attributes in found.all("img"))
    assert len(found.all("caption")) == len(found.all("table"))
    targets = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(targets) == len(set(targets))
    assert {(a["href"] or "")[1:] for a in found.all("a")} <= set(targets)
    (policy,) = [m for m in found.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert (policy["content"] or "").startswith("default-src 'none'")
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("h1")) == 1
    return found
