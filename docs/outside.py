"""For mkdocs: pages that lie outside of docs/, links to no pages, narrow tables.

CHANGELOG.md and CONTRIBUTING.md become pages. A link to a source file of the
repository, which the site does not have, becomes the name of the file. Cells of
tables with three columns carry their heading, so that site.css can stack them on
a telephone.
"""

import re
from itertools import cycle
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
_INTO_DOCS = re.compile(r"\]\(docs/")
_OUTSIDE = re.compile(r"\[(?P<text>[^\]]+)\]\(\.\./(?P<target>[^)#]+)\)")
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_HEADING = re.compile(r"<th[^>]*>(.*?)</th>")
_TAG = re.compile(r"<[^>]+>")


def on_files(files, config):
    for source, target in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(
            File.generated(config, target, content=_INTO_DOCS.sub("](", text))
        )
    return files


def on_page_markdown(markdown, page, config, files):
    return _OUTSIDE.sub(_named, markdown)


def on_page_content(html, page, config, files):
    return _TABLE.sub(_labelled, html)


def _labelled(table):
    headings = [_TAG.sub("", heading) for heading in _HEADING.findall(table[0])]
    if len(headings) != 3:
        return table[0]
    labels = cycle(headings)
    return re.sub("<td", lambda _: f'<td data-label="{next(labels)}"', table[0])


def _named(link):
    target = PurePosixPath(link["target"])
    if str(target) in PAGES:
        return f"[{link['text']}]({PAGES[str(target)]})"
    assert (ROOT / target).exists(), f"{target} is linked to and does not exist"
    return (
        link["text"]
        if str(target) in link["text"]
        else f"{link['text']} (`{target}`)"
    )
