"""What the documents say of the code is what the code says."""

import re
from pathlib import Path

import pytest

from scripts.state_diagram import with_diagram

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "deploy").glob("*.md")),
]


def test_the_state_diagram_is_that_of_the_table() -> None:
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    assert with_diagram(text) == text, "run `make docs`"


def test_a_page_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        with_diagram("# nothing here")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_and_headings_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in {_slug(h) for h in re.findall(r"(?m)^#+ (.+)$", file.read_text())}, target


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_the_readme_shows_both_commands_in_one_screen() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    assert len(text.splitlines()) <= 70
