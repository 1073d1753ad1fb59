"""The files of the dashboard, as they are served: to whom, with which headers, on both ways in."""

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from vastproxy.api.dashboard import pages
from vastproxy.api.front import OPEN_PATHS, needed_right
from vastproxy.services.access.records import Right

STATIC = Path(pages.__file__).with_name("static")
FILES = sorted(STATIC.iterdir())
SCRIPTS = [file for file in FILES if file.suffix == ".js"]
MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function"
INDEX = (STATIC / "index.html").read_text()


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=pages.dashboard_routes()), base_url="http://localhost")


def test_every_file_is_served_and_nothing_else() -> None:
    assert set(pages.PAGES) == {f"/vastproxy/{file.name}".removesuffix("index.html") for file in FILES}
    assert len(FILES) > 10


def test_the_policy_lets_nothing_in_but_the_files_themselves(client: TestClient) -> None:
    """No script or style in a document, nothing from elsewhere, no frame, no form, no markup out of text."""
    answer = client.get("/vastproxy/")
    rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


@pytest.mark.parametrize("path", sorted(pages.PAGES))
def test_a_browser_asks_each_time_and_gets_what_is_new(client: TestClient, path: str) -> None:
    """An ETag of the content, 304 for whoever has it, HEAD as GET; nothing is changed here."""
    first = client.get(path)
    tag = first.headers["etag"]
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = client.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200
    assert client.head(path).headers["content-length"] == str(len(first.content))
    assert client.post(path).status_code == 405
    assert len({page.etag for page in pages.PAGES.values()}) == len(pages.PAGES)


def test_without_its_slash_it_leads_there(client: TestClient) -> None:
    answer = client.get("/vastproxy", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, "vastproxy/")


def test_the_files_need_no_key_and_all_else_does() -> None:
    assert pages.OPEN_PATHS <= OPEN_PATHS
    for path in (
        "/vastproxy/v1/fleet",
        "/vastproxy/v1/live",
        "/vastproxy/main.jsx",
        "/vastproxy/static/",
        "/metrics",
    ):
        assert path not in OPEN_PATHS
        assert needed_right(path) is Right.ADMIN


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_of_it_comes_from_elsewhere(file: Path) -> None:
    """No address of another host, but the names of XML."""
    addresses = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"'`)]*", file.read_text())
    assert {address for address in addresses if "www.w3.org/2000/svg" not in address} == set()


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_no_script_reads_markup_or_keeps_a_key_for_long(file: Path) -> None:
    """Text from machines never becomes markup or code; what is kept for good is the choice of colours alone."""
    text = file.read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function", text
    )
    assert "cookie" not in text
    assert "indexedDB" not in text
    assert ("localStorage" in text) == (file.name == "theme.js")
    assert ("sessionStorage" in text) == (file.name == "api.js")
    assert len(text.splitlines()) <= 300


def test_the_document_has_no_script_or_style_of_its_own() -> None:
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", INDEX)
    assert all('src="' in script for script in re.findall(r"<script[^>]*>", INDEX))


def test_every_module_is_asked_for_at_once() -> None:
    """Modules that are found one by one cost a round trip for each step, which is felt over an SSH tunnel."""
    named = set(re.findall(r'(?:href|src)="([\w.]+\.js)"', INDEX))
    assert named == {file.name for file in SCRIPTS}
    imported = {name for file in SCRIPTS for name in re.findall(r"from '\./([\w.]+)'", file.read_text())}
    assert imported <= named
