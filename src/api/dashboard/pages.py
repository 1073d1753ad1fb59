"""`/vastproxy/`: the page for people. It is the same for everybody and holds no data, so it needs no key.

What it shows it asks of `/vastproxy/v1/…`, with the admin key that its reader types; see docs/DASHBOARD.md. Its texts
come from engines and rented machines, so the browser is told to run nothing and to load nothing but these files, and
to refuse text as markup (`require-trusted-types-for`, w3.org/TR/trusted-types).
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

ROOT = "/vastproxy/"
_INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


@dataclass(frozen=True, slots=True)
class Page:
    """One file as it is sent."""

    body: bytes
    media_type: str
    etag: str

    @property
    def headers(self) -> dict[str, str]:
        """Kept by browsers, which ask each time whether it is still the same: a new version shows at once."""
        return {
            "cache-control": "no-cache",
            "content-security-policy": POLICY,
            "cross-origin-opener-policy": "same-origin",
            "etag": self.etag,
            "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        }


def _read() -> Mapping[str, Page]:
    found: dict[str, Page] = {}
    for file in (files(__package__) / "static").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            body = file.read_bytes()
            page = Page(body, _TYPES[suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
            found[ROOT + (file.name if file.name != _INDEX else "")] = page
    return MappingProxyType(found)


#: Every file by its path, read once: there are few, and they are small.
PAGES = _read()
#: What is answered without a key.
OPEN_PATHS = frozenset({*PAGES, ROOT.rstrip("/")})


def _serving(page: Page) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of one file; it answers 304 where the browser has it already."""

    async def answer(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if page.etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
            return Response(status_code=304, headers=page.headers)
        return Response(page.body, headers=page.headers, media_type=page.media_type)

    return answer


def dashboard_routes() -> list[Route]:
    """The page, its files, and `/vastproxy` without a slash."""
    return [Route(ROOT.rstrip("/"), _to_page), *(Route(path, _serving(page)) for path, page in PAGES.items())]


async def _to_page(request: Request) -> Response:
    # Relative, so that it is right behind a web server that adds a prefix.
    return RedirectResponse("vastproxy/", 308)
