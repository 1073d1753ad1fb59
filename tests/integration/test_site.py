"""The documentation as a site: it is built without a warning, and reading it tells nobody elsewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(180)

#: What a browser loads by itself: not links that somebody clicks.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|object|embed|link)\b[^>]*?\b(?:src|href|data)=\"([^\"]*)\""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built strictly: a page that is missing in the navigation, or a link or heading that is not there, is an error."""
    directory = tmp_path_factory.mktemp("site")
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def pages(site: Path) -> Iterator[tuple[str, str]]:
    for page in sorted(site.rglob("*.html")):
        yield page.relative_to(site).as_posix(), page.read_text()


def test_every_page_of_the_repository_is_on_it(site: Path) -> None:
    sources = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    there = {name.replace(".html", ".md") for name, _ in pages(site)}
    assert sources <= there
    assert {"index.md", "deploy/index.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= there
    home = re.sub(r"<[^>]+>", "", (site / "index.html").read_text())
    assert "make demo" in home
    assert (site / "images/demo.svg").exists()


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """No font, script, picture or style of another host: who reads these pages is nobody's business."""
    for name, html in pages(site):
        for address in _LOADED.findall(html):
            assert not re.match(r"(?:https?:)?//", address), f"{name} loads {address}"
        # The theme fetches a library from elsewhere for these alone.
        assert 'class="mermaid"' not in html, name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", style.read_text()), style.name


def test_the_reference_is_made_of_the_docstrings(site: Path) -> None:
    client = re.sub(r"<[^>]+>", "", (site / "api/client.html").read_text())
    assert "Calls vast.ai. Safe to use from several threads" in client
    assert "End the contract and delete all data, for ever." in client
    proxy = re.sub(r"<[^>]+>", "", (site / "api/proxy.html").read_text())
    assert "The life of what create_app has made" in proxy
    inventory = (site / "objects.inv").read_bytes()
    assert b"Sphinx inventory" in inventory[:100]


def test_what_the_pages_show_is_there(site: Path) -> None:
    """Every picture and every page that a page leads to is a file of the site."""
    for name, html in pages(site):
        if name == "404.html":
            continue
        for address in re.findall(r"<(?:img|a)\b[^>]*?\b(?:src|href)=\"([^\"#?:]+)(?:#[^\"]*)?\"", html):
            target = (site / name).parent / address
            assert target.exists() or target.with_suffix(".html").exists(), f"{name} leads to {address}"
