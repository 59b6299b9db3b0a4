"""A page of the report as its reader has it: what it says and what it refers to."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

from metadist.report import write_report
from metadist.runs.run_dir import RunDir
from metadist.search.report import write_search_report
from metadist.search.search_dir import SearchDir


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its elements are closed in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(run: RunDir) -> Page:
    return Page(write_report(run).read_text())


def search_page(search: SearchDir) -> Page:
    """The page of a search; one that cannot be written fails the test."""
    lines: list[str] = []
    write_search_report(search, lines.append)
    assert lines == [f"Report: {search.report}"]
    return Page(search.report.read_text())


def seen(page: str) -> str:
    """What a reader sees, without the marks of the page; the text of figures too."""
    page = re.sub(r"<style.*?</style>", " ", page, flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))
