"""Is an answer a page for people, or an engine's? Pure: what it says of itself decides, never its status.

A gateway, a portal and a notebook answer 200 to any path, also to `/health` and `/v1/models`. To a probe, an engine
answers with JSON, with nothing at all (SGLang 0.5, vLLM 0.11, text-generation-inference 3.3: `/health`) or with a
word such as `OK`.

Facts: vast.ai base image, 2026-08 (`502.html` is titled `Loading...`, the portal `Vast.ai Instance Portal`); the
pages that Caddy 2 and nginx 1.x are installed with (`Caddy works!`, `Welcome to nginx!`); JupyterLab 4.
"""

import re
from enum import StrEnum

from vastproxy.services.backends.fetch import ProbeResponse

#: Bytes at the beginning of a page that are looked at: its title is there.
LOOKED_AT_BYTES = 4096

#: What engines without JSON say when they are well.
_WORDS = frozenset({b"ok", b"healthy", b"alive", b"pong", b"ready", b"true", b"success"})
_HTML_STARTS = (b"<!doctype", b"<html", b"<head", b"<body", b"<title", b"<!--", b"<?xml", b"<svg")
_TITLE = re.compile(rb"<title[^<>]{0,200}>([^<]{0,200})", re.IGNORECASE)
_LOADING = re.compile(
    rb"\b(?:loading|starting|warming up|initiali[sz]ing|please wait|not ready)\b", re.IGNORECASE
)


class Page(StrEnum):
    """What answers instead of an engine, as a phrase for people."""

    GATEWAY = "the web gateway's page for a service that is down"
    LOADING = "a page that says something is loading"
    PORTAL = "vast.ai's instance portal"
    CADDY = "Caddy's default page"
    NGINX = "nginx's default page"
    JUPYTER = "Jupyter"
    OTHER = "a web page"
    TEXT = "plain text"


#: Part of a title, in lower case, and whose title it is; the first that fits.
_TITLES: tuple[tuple[bytes, Page], ...] = (
    (b"instance portal", Page.PORTAL),
    (b"caddy", Page.CADDY),
    (b"nginx", Page.NGINX),
    (b"jupyter", Page.JUPYTER),
    (b"loading", Page.LOADING),
    (b"starting", Page.LOADING),
)


def page_of(answer: ProbeResponse) -> Page | None:
    """Which page `answer` is; None for what an engine may say to a probe. Never raises.

    None does not make it an engine: an empty 200 is also what a catch-all handler sends.
    """
    if answer.is_placeholder:
        return Page.GATEWAY
    start = answer.body[:LOOKED_AT_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n")
    if "html" in answer.headers.get("content-type", "").lower() or start.lower().startswith(_HTML_STARTS):
        return _html_page(start)
    if not start or start.rstrip().strip(b'".!').lower() in _WORDS:
        return None
    if start[:1] in b'{["' and answer.json() is not None:
        return None
    return Page.LOADING if _LOADING.search(start) else Page.TEXT


def _html_page(start: bytes) -> Page:
    if (found := _TITLE.search(start)) is not None:
        title = found[1].lower()
        for part, page in _TITLES:
            if part in title:
                return page
    return Page.LOADING if _LOADING.search(start) and len(start) < LOOKED_AT_BYTES else Page.OTHER
