"""Draws the dashboard into a directory: the real page in a real browser, fed with the example of its tests.

Usage: python -m scripts.screenshots_web DIRECTORY

An hour of a busy fleet cannot be waited for, so what it shows is made up; the time is fixed, so that pictures change
only where the page does.
"""

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, expect

from tests.helpers.browser import profile, running_browser, tab
from tests.helpers.dashboard_server import DashboardServer

NOW = datetime(2026, 8, 1, 14, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Picture:
    """One of them: its name, the page behind #, and how it is looked at. `height`: of the cut; None is all of it."""

    name: str
    page: str
    scheme: Literal["light", "dark"] = "light"
    width: int = 1280
    height: int | None = None
    scale: float = 1


def pictures(server: DashboardServer) -> list[Picture]:
    """What is drawn."""
    backend, request = server.fleet["backends"][1]["id"], server.requests[8]["id"]
    return [
        Picture("dashboard-light", "#/", height=1120),
        Picture("dashboard-dark", "#/", "dark", height=1120),
        Picture("dashboard-phone", "#/", width=360, height=800, scale=2),
        Picture("dashboard-phone-dark", f"#/backend/{backend}", "dark", width=360, height=800, scale=2),
        Picture("dashboard-backend", f"#/backend/{backend}", height=1120),
        Picture("dashboard-requests", "#/requests", "dark", height=760),
        Picture("dashboard-explain", f"#/requests/{request}", height=880),
        Picture("dashboard-cost", "#/cost", height=760),
    ]


async def draw(browser: Browser, server: DashboardServer, picture: Picture, folder: Path) -> None:
    """Draw one. Raises AssertionError when the page does not show what it should."""
    height = picture.height or 900
    async with (
        profile(
            browser,
            width=picture.width,
            height=height,
            scheme=picture.scheme,
            device_scale_factor=picture.scale,
            timezone_id="UTC",
        ) as context,
        tab(context) as seen,
    ):
        page = seen.page
        await page.clock.set_fixed_time(NOW)
        await page.goto(server.url + picture.page)
        await expect(page.locator("#connection")).to_have_text("live")
        await expect(page.locator("main tbody tr, main .attempt").first).to_be_visible()
        for chart in await page.locator(".chart-field").all():
            await expect(chart).to_have_attribute("aria-valuemax", "359")
        if wrong := await seen.all_that_went_wrong():
            raise SystemExit(f"{picture.name}: {wrong}")
        await page.screenshot(path=folder / f"{picture.name}.png", full_page=picture.height is None)


async def main(folder: Path) -> None:
    async with DashboardServer(now=NOW.timestamp()) as server, running_browser() as browser:
        for picture in pictures(server):
            await draw(browser, server, picture, folder)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(target))
