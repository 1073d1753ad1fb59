"""What MkDocs is told beyond `mkdocs.yml`: pages from outside docs/, and links that would leave the site.

GitHub shows the pages where they are, so they link to files of the repository as well. On the site README.md is the
home page, some pages of the repository have a place of their own, and a link to any other file is left as its text.
A page that the navigation does not name stands at the end of the reference.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs"

#: File of the repository -> its place on the site.
BORROWED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "deploy/README.md": "deploy/README.md",
}
#: The part of the navigation that takes pages without a place.
UNPLACED = "Reference"
_HOME_OF = {place: file for file, place in BORROWED.items()}
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(?ms)^(```|~~~).*?^\1\s*?$")
_ELSEWHERE = ("http://", "https://", "mailto:", "#")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Find a place for new pages."""
    docs = Path(config.docs_dir)
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    section = next(part[UNPLACED] for part in config.nav or () if UNPLACED in part)
    section.extend(sorted(pages - set(placed(config.nav))))
    return config


def placed(nav: Any) -> Iterator[str]:
    """The pages that a navigation names."""
    for part in nav.values() if isinstance(nav, dict) else nav:
        if isinstance(part, str):
            yield part
        else:
            yield from placed(part)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere in the repository."""
    for file, place in BORROWED.items():
        files.append(File.generated(config, place, content=(ROOT / file).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: Any, files: Files) -> str:
    """Let links lead to where their targets are on the site."""
    place = page.file.src_uri
    known = {file.src_uri for file in files}
    return relinked(markdown, place, known)


def relinked(markdown: str, place: str, known: set[str]) -> str:
    """The text of the page at `place`, with links for the site, whose files are `known`."""

    def link(found: re.Match[str]) -> str:
        target = target_of(found[2], place)
        if target is None:
            return found[0]
        path, _, anchor = target.partition("#")
        if path not in known:
            return found[1]
        return f"[{found[1]}]({_relative(path, place)}{'#' + anchor if anchor else ''})"

    def image(found: re.Match[str]) -> str:
        target = target_of(found[2], place)
        return found[0] if target is None else f"![{found[1]}]({_relative(target, place)})"

    pieces, at = [], 0
    for fence in _FENCE.finditer(markdown):
        pieces += [_IMAGE.sub(image, _LINK.sub(link, markdown[at : fence.start()])), fence[0]]
        at = fence.end()
    return "".join([*pieces, _IMAGE.sub(image, _LINK.sub(link, markdown[at:]))])


def target_of(link: str, place: str) -> str | None:
    """Where a link of the page at `place` leads on the site; a path outside of it for a file of the repository.

    None for one that needs no change: to elsewhere, or within its page.
    """
    if link.startswith(_ELSEWHERE):
        return None
    path, hash_, anchor = link.partition("#")
    home = _HOME_OF.get(place, f"{DOCS}/{place}")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(home), path))
    if file in BORROWED:
        return BORROWED[file] + hash_ + anchor
    inside = PurePosixPath(file)
    if inside.parts[0] == DOCS:
        return str(PurePosixPath(*inside.parts[1:])) + hash_ + anchor
    return f"../{file}{hash_}{anchor}"


def _relative(path: str, place: str) -> str:
    return os.path.relpath(path, posixpath.dirname(place) or ".")
