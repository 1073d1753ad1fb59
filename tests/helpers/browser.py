"""Headless Chromium for tests of pages, and a page that remembers whatever went wrong in it."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    async_playwright,
    expect,
)

#: Debian's, and Fedora's and Google's names.
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Rules that a page has broken are heard of in the page alone.
_WATCH = """
window.violations = [];
addEventListener('securitypolicyviolation', (event) => {
    violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
});
"""


def chromium() -> str:
    """Where it is. Skips the test where it is not: `scripts/system.sh` installs it."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    pytest.skip("needs chromium, see scripts/system.sh")


@contextlib.asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """A browser, for as long as the block lasts. The machine may be busy, so pages are waited for with patience."""
    path = chromium()
    expect.set_options(timeout=25_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(_QUIET))
        try:
            yield browser
        finally:
            await browser.close()


class WatchedPage:
    """`page`: Playwright's. `wrong`: errors, warnings and refused resources so far; `expected`: parts of those that
    a test has caused."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        self.expected: list[str] = []
        self.requests: list[Request] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(f"uncaught: {error}"))
        page.on("request", lambda request: self.requests.append(request))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")

    @property
    def urls(self) -> list[str]:
        """Everything that it asked for."""
        return [request.url for request in self.requests]

    async def all_that_went_wrong(self) -> list[str]:
        """`wrong` but for what was expected, and rules of the security policy that were broken."""
        broken = await self.page.evaluate("window.violations")
        return [line for line in [*self.wrong, *broken] if not any(part in line for part in self.expected)]

    def hosts(self) -> set[str]:
        """Of everything that it asked for, the hosts."""
        return {urlsplit(url).netloc for url in self.urls if not url.startswith("data:")}


@contextlib.asynccontextmanager
async def profile(
    browser: Browser,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: Literal["light", "dark"] = "light",
    **more: Any,
) -> AsyncIterator[BrowserContext]:
    """A fresh profile: nothing is kept of others."""
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce", **more
    )
    try:
        await context.add_init_script(_WATCH)
        yield context
    finally:
        await context.close()


@contextlib.asynccontextmanager
async def tab(context: BrowserContext) -> AsyncIterator[WatchedPage]:
    """A tab of a profile."""
    page = await context.new_page()
    page.set_default_timeout(25_000)
    try:
        yield WatchedPage(page)
    finally:
        await page.close()


@contextlib.asynccontextmanager
async def watched(browser: Browser, **wanted: Any) -> AsyncIterator[WatchedPage]:
    """A tab in a profile of its own; `wanted` as for `profile`."""
    async with profile(browser, **wanted) as context, tab(context) as page:
        yield page
