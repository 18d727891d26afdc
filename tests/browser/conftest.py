"""A real headless Chromium that draws a report and hands back what it drew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VOID = {"meta", "link", "br", "hr", "input", "img", "path", "rect", "line", "circle", "use"}


class Node:
    """An element of the drawn page: its tag, attributes, text and children."""

    def __init__(self, tag: str = "", attributes: dict[str, str | None] | None = None) -> None:
        self.tag, self.attributes, self.children, self.words = tag, attributes or {}, [], []

    def all(self, tag: str = "", **attributes: str) -> list[Node]:
        """Every descendant with this tag and these attributes (a class matches if it is among several)."""
        found = []
        for child in self.children:
            has = all(
                value in (child.attributes.get(name.strip("_")) or "").split() for name, value in attributes.items()
            )
            if (not tag or child.tag == tag) and has:
                found.append(child)
            found += child.all(tag, **attributes)
        return found

    def one(self, id_: str) -> Node:
        """The element with this id."""
        return self.all(id=id_)[0]

    @property
    def text(self) -> str:
        """All text within, in order."""
        return "".join(part if isinstance(part, str) else part.text for part in self.words)

    @property
    def table(self) -> list[list[str]]:
        """The body cells of the first table within."""
        return [[cell.text for cell in row.all("td")] for row in self.all("tbody")[0].all("tr")]


class Tree(HTMLParser):
    """Reads the page a browser dumped, which is well-formed, into nodes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open = [Node()]
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        self.open[-1].words.append(node)
        if tag not in VOID or tag in {"path", "rect", "line", "circle", "use"}:
            self.open.append(node)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open[-1].tag == tag and tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if any(node.tag == tag for node in self.open):
            while self.open.pop().tag != tag:
                pass

    def handle_data(self, data):
        if self.open[-1].tag not in {"script", "style"}:
            self.open[-1].words.append(data)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium, or a skip that says what to install."""
    for name in CHROMIUMS:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no headless browser: none of {', '.join(CHROMIUMS)} is on the path (apt-get install chromium)")


@pytest.fixture(scope="session")
def browse(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Node]:
    """Open a file, wait until it is drawn, and return the page as it stands then."""
    profile = tmp_path_factory.mktemp("profile")

    def open_page(path: Path, address: str = "", width: int = 1400) -> Node:
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            f"--user-data-dir={profile}", f"--window-size={width},1200", "--virtual-time-budget=10000",
            "--dump-dom", path.resolve().as_uri() + address,
        ]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return Tree(run.stdout).open[0]

    return open_page
