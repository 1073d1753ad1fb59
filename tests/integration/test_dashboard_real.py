"""The dashboard in a browser in front of the real proxy: its own endpoints, keys and gate."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.helpers.browser import running_browser, watched
from tests.helpers.engines import FakeEngine
from tests.helpers.http_fetch import fetch
from tests.helpers.proxying import Proxying
from vastproxy.jobs.live import LiveJob
from vastproxy.services.errors import BackendProtocolError
from vastproxy.services.tasks import Tasks
from vastproxy.settings.model import ServerSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "an-admin-key-of-the-settings"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": True}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@contextlib.asynccontextmanager
async def proxying(*engines: FakeEngine, **options: Any) -> AsyncIterator[Proxying]:
    """A proxy with its figures kept up."""
    tasks = Tasks("figures")
    async with Proxying(engines, **options) as proxy:
        tasks.spawn(LiveJob(proxy.fleet.live, interval_s=0.05).run(), name="live")
        yield proxy
        await tasks.aclose()


async def chat(proxy: Proxying, **headers: str) -> int:
    """The status of one request."""
    sent = {"content-type": "application/json", **headers}
    body = json.dumps(CHAT).encode()
    answer = await fetch(
        proxy.port, "/v1/chat/completions", method="POST", headers=sent, body=body, timeout_s=10
    )
    return answer.status


async def test_it_shows_and_does_what_the_proxy_tells_and_can(browser: Browser) -> None:
    """Without keys on loopback it just works: live figures, requests explained, a backend drained and undrained."""
    async with proxying(FakeEngine("vllm"), FakeEngine("sglang")) as proxy, watched(browser) as seen:
        page, url = seen.page, f"{proxy.url}/vastproxy"
        await page.goto(url)
        assert page.url == f"{url}/"
        await expect(page.locator("#connection")).to_have_text("live")
        await expect(page.locator("tbody tr")).to_have_count(2)
        await expect(page.locator(".figure-value").first).to_have_text("2 / 2")
        assert [await chat(proxy) for _ in range(4)] == [200] * 4
        await expect(page.locator(".figure:has(dt:text-is('Errors')) .figure-below")).to_have_text(
            "0 of 4 so far"
        )
        await page.goto(f"{url}/#/requests")
        await expect(page.locator("tbody tr")).to_have_count(4)
        await page.locator("tbody a").first.click()
        await expect(page.locator(".attempt")).to_have_count(1)
        await expect(page.locator(".fall-words").first).to_contain_text("until the first byte")
        await page.goto(f"{url}/#/backend/2")
        await expect(page.locator("main")).to_contain_text("sglang")
        await page.get_by_role("button", name="Drain", exact=True).click()
        await page.keyboard.press("Enter")
        await expect(page.locator(".page-head .state")).to_have_text("draining")
        assert proxy.fleet.snapshot().counts()["draining"] == 1
        await expect(page.locator(".events li").first).to_contain_text("draining")
        await page.get_by_role("button", name="Undrain").click()
        await page.keyboard.press("Enter")
        await expect(page.locator(".page-head .state")).to_have_text("healthy")
        await proxy.engines[0].stop()
        await proxy.wait_for_healthy(1)
        await page.goto(f"{url}/#/")
        await expect(page.locator(".figure-value").first).to_have_text("1 / 2")
        await expect(page.locator(".notice").first).to_have_text("1 of 2 backends can serve")
        assert await seen.all_that_went_wrong() == []
        assert seen.hosts() == {f"127.0.0.1:{proxy.port}"}


async def test_with_keys_it_loads_and_asks(browser: Browser) -> None:
    """The files are for everybody, what they show for holders of an admin key only."""
    server = ServerSettings(api_keys=(KEY,))
    async with proxying(FakeEngine("vllm"), server=server) as proxy, watched(browser) as seen:
        seen.expected.append("401")
        page = seen.page
        await page.goto(f"{proxy.url}/vastproxy/")
        await expect(page.locator("h1")).to_have_text("This proxy asks for a key")
        await page.get_by_label("Admin key").fill(KEY)
        await page.keyboard.press("Enter")
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.locator("tbody a").first.click()
        await page.get_by_role("button", name="Drain", exact=True).click()
        await page.keyboard.press("Enter")
        await expect(page.locator(".page-head .state")).to_have_text("draining")
        assert await seen.all_that_went_wrong() == []


async def test_a_request_is_cancelled_from_its_page(browser: Browser) -> None:
    """The engine stops, the client is told, and the page says so."""
    body = json.dumps({**CHAT, "max_tokens": 5000}).encode()
    sent = {"content-type": "application/json"}
    slow = FakeEngine("vllm", tokens_per_s=20.0)
    async with proxying(slow) as proxy, watched(browser) as seen:
        asking = asyncio.get_running_loop().create_task(
            fetch(proxy.port, "/v1/chat/completions", method="POST", headers=sent, body=body, timeout_s=50)
        )
        page = seen.page
        await page.goto(f"{proxy.url}/vastproxy/#/requests?state=running")
        await page.locator("tbody a").first.click()
        await page.get_by_role("button", name="Cancel request").click()
        await page.get_by_role("button", name="Cancel it").click()
        await expect(page.locator(".toast")).to_contain_text("is cancelled")
        await expect(page.get_by_role("button", name="Cancel request")).to_have_count(0)
        (outcome,) = await asyncio.gather(asking, return_exceptions=True)
        if not isinstance(outcome, BackendProtocolError):  # which it is where the answer had begun
            assert not isinstance(outcome, BaseException)
            assert b"cancelled" in outcome.body
        assert await seen.all_that_went_wrong() == []
