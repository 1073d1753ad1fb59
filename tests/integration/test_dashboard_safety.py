"""The dashboard in a browser: what comes from machines is text, keys stay where they belong, connections come back."""

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.helpers import dashboard_scene as scene
from tests.helpers.browser import WatchedPage, running_browser, tab, watched
from tests.helpers.dashboard_scene import HOSTILE
from tests.helpers.dashboard_server import DashboardServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN = "vp_admin_0123456789"
PAGES = ("#/", "#/requests", "#/events", "#/cost")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[DashboardServer]:
    async with DashboardServer() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def seen(browser: Browser) -> AsyncIterator[WatchedPage]:
    async with watched(browser) as found:
        yield found


async def live(page: Page) -> None:
    await expect(page.locator("#connection")).to_have_text("live")


def poisoned(value: Any) -> Any:
    """The same with every text, but ids and those that the page itself chooses from, turned into markup."""
    if isinstance(value, dict):
        kept = {"id", "at_unix", "seq", "instance", "url"}
        return {name: each if name in kept else poisoned(each) for name, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each) for each in value]
    return HOSTILE if isinstance(value, str) else value


async def test_names_of_machines_and_engines_are_text(seen: WatchedPage, server: DashboardServer) -> None:
    """Markup in any text of any endpoint is shown as it is written: no element, script or request comes of it."""
    server.fleet, server.events = poisoned(server.fleet), poisoned(server.events)
    server.requests, server.instance = poisoned(server.requests), poisoned(server.instance)
    server.cost = poisoned(scene.cost(now=server.now, by="model"))
    page = seen.page
    backend, story = server.fleet["backends"][0]["id"], server.requests[8]["id"]
    for hash in (*PAGES, f"#/backend/{backend}", f"#/requests/{story}"):
        await page.goto(server.url + hash)
        await live(page)
        await expect(page.locator("main")).to_contain_text('<img src=x onerror="document.title')
        found = await page.evaluate("[document.images.length, document.scripts.length, window.owned ?? null]")
        assert found == [1, 2, None], hash
        assert "owned" not in (await page.title()).split("–")[-1]
    await page.goto(f"{server.url}#/backend/{backend}")
    await page.get_by_role("button", name="Destroy").click()
    await expect(page.locator("dialog h2")).to_contain_text("<script>")
    assert await seen.all_that_went_wrong() == []
    assert not [url for url in seen.urls if url.endswith("/x")]


async def test_a_name_cannot_turn_the_writing_around(seen: WatchedPage, server: DashboardServer) -> None:
    server.fleet["backends"][0]["label"] = "chat\u202egro.live\u2066\x00\x1b[2J"
    await seen.page.goto(server.url)
    await expect(seen.page.locator(".name-cell small").first).to_have_text(
        "chat\ufffdgro.live\ufffd\ufffd\ufffd[2J"
    )


@pytest.mark.parametrize("nothing", [None, {}, [], "text", 7, {"id": None}], ids=repr)
async def test_what_is_missing_breaks_nothing(
    seen: WatchedPage, server: DashboardServer, nothing: Any
) -> None:
    """Documents of which any part is missing or of another kind are shown as far as they go."""
    whole = server.fleet["backends"][0]
    thin = [whole | {name: nothing} for name in whole if name != "id"]
    for number, one in enumerate(thin):
        one["id"] = number + 1
    server.fleet = dict.fromkeys(server.fleet, nothing) | {"backends": [nothing, {}, *thin]}
    story = server.requests[8]
    stories = [story | {name: nothing, "id": f"r{at}"} for at, name in enumerate(story)]
    server.requests = [cast(Any, None), {}, *stories]
    server.points = [nothing, {}, *({**server.points[0], name: nothing} for name in server.points[0])]
    server.events = [one | {"text": nothing, "kind": nothing, "level": nothing} for one in server.events]
    told = scene.cost(now=server.now)
    thin_rows = [told["rows"][0] | {name: nothing} for name in told["rows"][0]]
    server.cost = dict.fromkeys(told, nothing) | {"rows": [nothing, {}, *thin_rows]}
    page = seen.page
    await page.goto(server.url)
    await live(page)
    await expect(page.locator("tbody tr")).not_to_have_count(0)
    for hash in (*PAGES[1:], "#/backend/4", "#/requests/r9", "#/requests/r17"):
        await page.goto(server.url + hash)
        await expect(page.locator("h1")).to_be_visible()
    assert await seen.all_that_went_wrong() == []


async def test_an_older_proxy_is_no_reason_to_break(seen: WatchedPage, server: DashboardServer) -> None:
    """Endpoints that are not there leave their part empty."""
    server.missing = frozenset({"history", "cost", "machines", "requests"})
    seen.expected.append("404")
    for hash in PAGES:
        await seen.page.goto(server.url + hash)
        await live(seen.page)
    await expect(seen.page.locator(".empty-title:visible")).to_have_text("This proxy keeps no ledger")
    await seen.page.goto(server.url)
    await expect(seen.page.locator(".charts .empty-title")).to_have_text("No history")
    assert await seen.all_that_went_wrong() == []


# ── keys ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_is_asked_for_and_goes_nowhere_else(
    seen: WatchedPage, browser: Browser, server: DashboardServer
) -> None:
    """No data before it; then it is sent in a header alone, kept for this tab alone, and forgotten when asked to."""
    server.keys = {ADMIN: "admin", "vp_chat": "inference"}
    seen.expected += ["401", "403"]
    page = seen.page
    await page.goto(f"{server.url}#/requests")
    await expect(page.locator("h1")).to_have_text("This proxy asks for a key")
    field = page.get_by_label("Admin key")
    await expect(field).to_be_focused()
    assert "backend" not in (await page.locator("main").inner_text()).lower()
    await field.fill("vp_wrong")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("This key is not accepted")
    await page.get_by_label("Admin key").fill("vp_chat")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("This key lacks the admin right")
    await expect(page.locator("main")).to_contain_text("vastproxy keys create NAME --admin")
    await page.get_by_label("Admin key").fill("schlüssel")
    await page.keyboard.press("Enter")
    await expect(page.locator("#key-why")).to_have_text("This has characters that no key has.")
    await page.get_by_label("Admin key").fill(ADMIN)
    await page.evaluate(
        "document.dispatchEvent(new Event('visibilitychange'))"
    )  # it was fetched in another tab
    await page.keyboard.press("Enter")
    await live(page)
    await expect(page.locator("tbody tr")).to_have_count(25)
    await page.reload()
    await live(page)
    assert {key for _, _, key, _ in server.asked[-3:]} == {ADMIN}
    assert not [url for url in seen.urls if "vp_" in url]
    assert (
        await page.evaluate("JSON.stringify([{...localStorage}, document.cookie, history.state])")
        == '[{},"",null]'
    )
    html = await page.content()
    assert ADMIN not in html
    async with tab(page.context) as other:
        await other.page.goto(server.url)
        await expect(other.page.locator("h1")).to_have_text("This proxy asks for a key")
    await page.get_by_role("button", name="Key", exact=True).click()
    await expect(page.locator("dialog")).to_contain_text("A key is in use.")
    await page.get_by_role("button", name="Forget it").click()
    await expect(page.locator("h1")).to_have_text("This proxy asks for a key")
    assert await page.evaluate("sessionStorage.length") == 0
    assert await seen.all_that_went_wrong() == []


async def test_a_key_that_is_revoked_is_noticed_at_once(seen: WatchedPage, server: DashboardServer) -> None:
    """Whichever request finds out: what is shown goes, and the stream ends."""
    server.keys = {ADMIN: "admin"}
    seen.expected.append("401")
    page = seen.page
    await page.goto(f"{server.url}#/requests")
    await page.get_by_label("Admin key").fill(ADMIN)
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(25)
    server.keys = {"vp_other": "admin"}
    await expect(page.locator("h1")).to_have_text("This key is not accepted")
    await expect(page.locator("tbody")).to_have_count(0)
    assert await seen.all_that_went_wrong() == []


async def test_a_page_of_another_site_cannot_show_it(seen: WatchedPage, server: DashboardServer) -> None:
    """Nor can another page of this host hold its window."""
    async with DashboardServer() as other:
        seen.expected += ["frame", "X-Frame-Options"]
        await seen.page.goto(f"{other.url}icon.svg")
        await seen.page.goto("about:blank")
        await seen.page.set_content(f'<iframe src="{server.url}"></iframe>')
        frame = seen.page.frames[-1]
        await frame.wait_for_load_state()
        assert await frame.locator("main").count() == 0


# ── connections ────────────────────────────────────────────────────────────────────────────────


async def test_it_says_since_when_it_is_not_connected_and_comes_back(
    seen: WatchedPage, server: DashboardServer
) -> None:
    """What was shown stays and is marked as old; when the proxy is there again, so is the page, by itself."""
    page = seen.page
    seen.expected += ["ERR_", "Failed to load resource"]
    await page.goto(server.url)
    await live(page)
    await server.stop()
    await expect(page.locator("#trouble")).to_contain_text("Not connected since ")
    await expect(page.locator("#connection")).to_have_text("not connected")
    await expect(page.locator("tbody tr")).to_have_count(6)
    server.fleet["backends"].pop()
    server.events.append({**server.events[-1], "seq": 10, "text": "it was away"})
    await server.start()
    await live(page)
    await expect(page.locator("#trouble")).to_be_empty()
    await expect(page.locator("tbody tr")).to_have_count(5)
    await expect(page.locator(".events li").first).to_contain_text("it was away")
    await expect(page.locator(".events li")).to_have_count(8)
    assert await seen.all_that_went_wrong() == []


async def test_events_are_neither_lost_nor_doubled_by_a_new_connection(
    seen: WatchedPage, server: DashboardServer
) -> None:
    page = seen.page
    await page.goto(f"{server.url}#/events")
    await expect(page.locator(".events li")).to_have_count(9)
    await server.drop()
    server.events.append({**server.events[-1], "seq": 10, "text": "later"})
    await live(page)
    await expect(page.locator(".events li")).to_have_count(10)
    asked = [request for request in seen.requests if "/live" in request.url]
    assert await asked[-1].header_value("last-event-id") in ("9", "10")
    assert await seen.all_that_went_wrong() == []


async def test_nobody_is_asked_while_nobody_looks(seen: WatchedPage, server: DashboardServer) -> None:
    """A hidden tab holds no stream and asks nothing; it is up to date as soon as it is looked at."""
    page = seen.page
    await page.goto(f"{server.url}#/requests")
    await live(page)
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    hide += "document.dispatchEvent(new Event('visibilitychange'));"
    await page.evaluate(hide % "true")
    await expect(page.locator("#connection")).to_have_text("paused")
    # What was asked before may still be on its way to the server, so the page's own list counts.
    before = len(seen.requests)
    await page.evaluate("new Promise((resolve) => setTimeout(resolve, 2500))")
    assert len(seen.requests) == before
    assert server.streams == 0
    server.requests = server.requests[:3]
    await page.evaluate(hide % "false")
    await live(page)
    await expect(page.locator("tbody tr")).to_have_count(3)
    assert await seen.all_that_went_wrong() == []


async def test_a_stream_in_pieces_is_put_together(seen: WatchedPage, server: DashboardServer) -> None:
    """However the bytes come: cut anywhere, with comments, with CRLF, with data over several lines."""
    await seen.page.goto(server.url)
    sent = ': hello\r\n\r\nid: 7\nevent: a\ndata: {"x":\ndata: 1}\n\n: still\n\nretry: 5\n\ndata:two\n\ndata: cut'
    script = """async ([text, size]) => {
        const { parser } = await import('./live.js');
        const found = [], feed = parser((event) => found.push(event));
        for (let at = 0; at < text.length; at += size) feed(text.slice(at, at + size));
        return found;
    }"""
    for size in (1, 2, 3, 7, 1000):
        found = await seen.page.evaluate(script, [sent, size])
        assert [one["event"] for one in found] == ["a", "message"], size
        assert json.loads(found[0]["data"]) == {"x": 1}
        assert found[0]["id"] == "7"
        assert found[1]["data"] == "two"
