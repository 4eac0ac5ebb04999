"""For mkdocs: pages that lie outside of docs/, links to files that are no pages.

CHANGELOG.md and CONTRIBUTING.md become pages. A link to a source file of the
repository, which the site does not have, becomes the name of the file.
"""

import re
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
_INTO_DOCS = re.compile(r"\]\(docs/")
_OUTSIDE = re.compile(r"\[(?P<text>[^\]]+)\]\(\.\./(?P<target>[^)#]+)\)")


def on_files(files, config):
    for source, target in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(
            File.generated(config, target, content=_INTO_DOCS.sub("](", text))
        )
    return files


def on_page_markdown(markdown, page, config, files):
    return _OUTSIDE.sub(_named, markdown)


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
