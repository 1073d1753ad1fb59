"""A page for people is told from an engine's answer, whatever its status."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.fetch import ProbeResponse
from vastproxy.services.backends.pages import LOOKED_AT_BYTES, Page, page_of

FIXTURES = Path(__file__).parents[3] / "fixtures" / "engines"
HTML = {"content-type": "text/html; charset=utf-8"}
TEXT = {"content-type": "text/plain; charset=utf-8"}
JSON = {"content-type": "application/json"}

#: Beginnings of the real pages.
GATEWAY_502 = b"""<!DOCTYPE html>
<html lang="en">
<head>
    <meta charset="UTF-8">
    <title>Loading...</title>
</head>
<body>
    <div class="spinner"></div>
    <div class="text">Loading: Check instance logs for progress</div>
</body>
</html>"""
PORTAL = b"""<!DOCTYPE html>
<html lang="en">
<head>
    <meta charset="UTF-8">
    <title>Vast.ai Instance Portal</title>
    <link rel="icon" type="image/png" href="/static/assets/favicon.png" sizes="48x48" />
</head>
<body>
    <div id="loader-text" class="loader-text">Loading Instance Portal...</div>"""
NGINX = b"""<!DOCTYPE html>
<html>
<head>
<title>Welcome to nginx!</title>
</head>
<body>
<h1>Welcome to nginx!</h1>
<p>If you see this page, the nginx web server is successfully installed and working.</p>"""
CADDY = b"""<!DOCTYPE html>
<html>
<head>
\t<title>Caddy works!</title>
\t<meta charset="utf-8">"""
JUPYTER = b"""<!DOCTYPE HTML>
<html>

<head>

    <meta charset="utf-8">

    <title>Jupyter Server</title>"""
MODEL_LOADING = b"<html><body><h1>The model is loading</h1><p>Please wait.</p></body></html>"


@pytest.mark.parametrize("status", [200, 404, 502])
@pytest.mark.parametrize("headers", [HTML, TEXT, {}])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (GATEWAY_502, Page.LOADING),
        (PORTAL, Page.PORTAL),
        (NGINX, Page.NGINX),
        (CADDY, Page.CADDY),
        (JUPYTER, Page.JUPYTER),
        (MODEL_LOADING, Page.LOADING),
        (b"\xef\xbb\xbf\r\n <html lang='en'><p>x", Page.OTHER),
        (b"<html><head><title>Open WebUI</title></head>", Page.OTHER),
    ],
)
def test_a_page_is_named_by_its_title(
    status: int, headers: dict[str, str], body: bytes, expected: Page
) -> None:
    assert page_of(ProbeResponse(status, headers, body)) is expected


def test_the_gateways_own_mark_counts_before_all_else() -> None:
    answer = ProbeResponse(200, {"x-portal-placeholder": "true", **JSON}, b'{"status":"ok"}')
    assert page_of(answer) is Page.GATEWAY


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"Loading model, please come back", Page.LOADING),
        (b"Starting up", Page.LOADING),
        (b"Welcome to my server", Page.TEXT),
        (b"{broken", Page.TEXT),
        (b"# HELP x\nx 1\n", Page.TEXT),
        (b'{"status":"ok"}', None),
        (b"[]", None),
        (b'"ok"', None),
        (b"OK", None),
        (b" healthy\n", None),
        (b"true", None),
        (b"", None),
        (b"  \n", None),
    ],
)
def test_plain_text_is_an_engines_only_when_it_is_json_or_a_word_of_health(
    body: bytes, expected: Page | None
) -> None:
    assert page_of(ProbeResponse(200, TEXT, body)) is expected


def test_a_web_page_says_so_in_its_content_type_even_when_it_is_empty() -> None:
    assert page_of(ProbeResponse(200, HTML, b"")) is Page.OTHER


def test_a_loading_screen_inside_a_large_application_is_no_loading_engine() -> None:
    """Every single-page application says somewhere that it is loading."""
    body = b"<html><title>App</title>loading" + b" " * LOOKED_AT_BYTES
    assert page_of(ProbeResponse(200, HTML, body)) is Page.OTHER


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json")), ids=lambda path: path.name)
def test_no_answer_of_a_real_engine_is_a_page(path: Path) -> None:
    assert page_of(ProbeResponse(200, JSON, path.read_bytes())) is None


@given(body=st.binary(max_size=300), kind=st.sampled_from(["", "text/html", "application/json"]))
def test_nothing_that_is_sent_breaks_it(body: bytes, kind: str) -> None:
    page_of(ProbeResponse(200, {"content-type": kind}, body))


@given(value=st.recursive(st.none() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=3)))
def test_json_in_brackets_is_never_a_page(value: object) -> None:
    assert page_of(ProbeResponse(200, JSON, json.dumps({"x": value}).encode())) is None
