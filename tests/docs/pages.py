"""A page of documentation, as a test sees it: fenced blocks with their language and place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<language>[^\n]*)\n(?P<body>.*?)^(?P=fence)\s*$", re.M | re.S
)
_NEW = "<!-- new program -->"
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(?P<title>.+?)\s*$", re.M)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is the file's line of its first line of code."""

    language: str
    body: str
    line: int


def blocks(page: Path, language: str) -> list[Block]:
    """Return the blocks of one language, in their order."""
    text = page.read_text("utf-8")
    return [
        Block(language, found["body"], text.count("\n", 0, found.start("body")) + 1)
        for found in _FENCE.finditer(text)
        if _language(found) == language
    ]


def languages(page: Path) -> set[str]:
    """Return the languages of all blocks of a page."""
    return {_language(found) for found in _FENCE.finditer(page.read_text("utf-8"))}


def _language(found: re.Match[str]) -> str:
    """Return the first word after the fence; what follows is for the site (`hl_lines`)."""
    return found["language"].strip().partition(" ")[0]


def scripts(page: Path) -> list[str]:
    """Return the Python of a page as scripts whose line numbers are the page's.

    One, unless the page says `<!-- new program -->` before a block.
    """
    text = page.read_text("utf-8").splitlines()
    programs: list[list[str]] = [[]]
    for block in blocks(page, "python"):
        if block.line > 2 and text[block.line - 3].strip() == _NEW and programs[-1]:
            programs.append([])
        lines = programs[-1]
        lines += [""] * (block.line - 1 - len(lines))
        lines += block.body.splitlines()
    return ["\n".join(lines) + "\n" for lines in programs]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def links(page: Path) -> list[str]:
    """Return the targets of a page's links."""
    return [found["target"] for found in _LINK.finditer(prose(page))]


def anchors(page: Path) -> set[str]:
    """Return what `#...` can point at in a page: its headings, as GitHub slugs them."""
    titles = (found["title"].lower() for found in _HEADING.finditer(prose(page)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
