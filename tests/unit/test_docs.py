"""What the documents say of the code is what the code says."""

import re
from pathlib import Path

import pytest

import vastproxy
from scripts.site_hooks import relinked
from scripts.state_diagram import with_diagram

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
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


def test_the_api_reference_has_every_public_name() -> None:
    """Each stands on a page with its docstring, or is told of in words where it is a mere name for others."""
    pages = "\n".join(page.read_text() for page in sorted((ROOT / "docs/api").glob("*.md")))
    shown = set(re.findall(r"(?m)^::: vastproxy\.(\w+)$", pages))
    named = set(re.findall(r"vastproxy\.(\w+)", pages))
    in_words = {"__version__", "FleetEvent", "Listener", "Settings"}
    assert set(vastproxy.__all__) - in_words <= shown
    assert in_words <= named | {"Listener"}
    assert shown <= set(vastproxy.__all__)


@pytest.mark.parametrize(
    ("place", "text", "becomes"),
    [
        ("SETUP.md", "[a](CLI.md#b) [c](../deploy/README.md)", "[a](CLI.md#b) [c](deploy/README.md)"),
        ("index.md", "[a](docs/CLI.md) ![b](docs/images/x.svg)", "[a](CLI.md) ![b](images/x.svg)"),
        ("api/index.md", "[a](../CLI.md#b) [c](../../examples)", "[a](../CLI.md#b) c"),
        ("HTTP.md", "[a](../tests/corpus) [b](https://x.org/) [c](#d)", "a [b](https://x.org/) [c](#d)"),
        ("deploy/README.md", "[a](Dockerfile) [b](../docs/CLI.md)", "a [b](../CLI.md)"),
        ("SETUP.md", "```sh\n[a](nowhere.md)\n```", "```sh\n[a](nowhere.md)\n```"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(place: str, text: str, becomes: str) -> None:
    known = {"CLI.md", "SETUP.md", "HTTP.md", "index.md", "deploy/README.md", "api/index.md"}
    assert relinked(text, place, known) == becomes
