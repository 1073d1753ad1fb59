"""The dashboard in a browser: what it shows, what it does."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.helpers.browser import WatchedPage, profile, running_browser, tab
from tests.helpers.dashboard_server import DashboardServer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    async with profile(browser) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[DashboardServer]:
    async with DashboardServer() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def seen(context: BrowserContext, server: DashboardServer) -> AsyncIterator[WatchedPage]:
    """A page in which nothing may go wrong."""
    async with tab(context) as found:
        yield found
        assert await found.all_that_went_wrong() == []
        assert found.hosts() == {f"127.0.0.1:{server.port}"}


@pytest_asyncio.fixture(loop_scope="module")
async def page(seen: WatchedPage, server: DashboardServer) -> Page:
    await seen.page.goto(server.url)
    await expect(seen.page.locator("#connection")).to_have_text("live")
    return seen.page


def figure(page: Page, name: str) -> str:
    """A selector: the value of a figure."""
    return f".figure:has(dt:text-is('{name}')) .figure-value"


async def test_the_fleet_is_shown_and_stays_fresh(page: Page, server: DashboardServer) -> None:
    """Figures, one row for each backend with all its columns; what changes is seen without loading anew."""
    await expect(page.locator(figure(page, "Backends"))).to_have_text("5 / 6")
    await expect(page.locator(figure(page, "Tokens out"))).to_have_text("2,731/s")
    await expect(page.locator(figure(page, "First token"))).to_have_text("184 ms")
    await expect(page.locator(figure(page, "Kept in place"))).to_have_text("94 %")
    await expect(page.locator(figure(page, "Credit"))).to_have_text("$214.37")
    await expect(page.locator(".notice").first).to_have_text("5 of 6 backends can serve")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(6)
    first = server.fleet["backends"][0]
    await expect(rows.first).to_contain_text(f"#{first['id']}")
    for words in ("healthy", "direct", "Qwen/Qwen3-8B", "sglang", "RTX 4090", "$0.31", "9 h"):
        await expect(rows.first).to_contain_text(words)
    await expect(rows.nth(3)).to_contain_text("the engine on port 18000 does not answer")
    first["in_flight"], first["state"] = 4711, "draining"
    await server.push()
    await expect(rows.first).to_contain_text("4,711")
    await expect(rows.first).to_contain_text("draining")
    server.fleet["backends"].pop(0)
    await server.push()
    await expect(rows).to_have_count(5)
    assert await page.title() == "5/6 healthy – vastproxy"


async def test_backends_are_filtered_and_sorted(page: Page, server: DashboardServer) -> None:
    """Every word of the filter must fit; a click on a heading sorts, the next turns round, the third undoes it."""
    rows = page.locator("tbody tr")
    await page.fill("#filter", "llama unhealthy")
    await expect(page.locator(".empty-title").first).to_have_text("No backend matches")
    await page.fill("#filter", "QWEN unhealthy")
    await expect(rows).to_have_count(1)
    await page.fill("#filter", "")
    by_speed = [
        f"#{one['id']}" for one in sorted(server.fleet["backends"], key=lambda one: one["tokens_per_s"])
    ]
    heading = page.get_by_role("button", name="Tok/s")
    links = page.locator("tbody .name-cell a")
    await heading.click()
    await expect(links).to_have_text(by_speed)
    await expect(page.locator("th[aria-sort=ascending]")).to_have_text("Tok/s")
    await heading.click()
    await expect(links).to_have_text(by_speed[::-1])
    await heading.click()
    await expect(links).to_have_text([f"#{one['id']}" for one in server.fleet["backends"]])


async def test_a_backend_has_a_page_of_its_own(
    page: Page, seen: WatchedPage, server: DashboardServer
) -> None:
    """GPUs, engines, paths, instance, its events and no others; the figures stay fresh."""
    seen.expected.append("404")  # when it is gone
    two = server.fleet["backends"][1]
    await page.get_by_role("link", name=f"#{two['id']}").first.click()
    await expect(page.locator("h1")).to_have_text(f"#{two['id']}")
    await expect(page.locator(".gpu-row")).to_have_count(8)
    for words in ("vllm 0.5.2", "203.0.113.2:40001", "vllm/vllm-openai:v0.10", "GPU 7", "may be outbid"):
        await expect(page.locator("main")).to_contain_text(words)
    await expect(page.locator(".events li")).to_have_count(0)
    two["in_flight"] = 1234
    new = {"seq": 99, "at_unix": server.now, "kind": "path_changed", "level": "info", "instance": two["id"]}
    server.events.append({**new, "text": "path: relay"})
    await server.push()
    await expect(page.locator(figure(page, "In flight"))).to_have_text("1,234")
    await expect(page.locator(".events li")).to_have_count(1)
    server.fleet["backends"].pop(1)
    await server.push()
    await expect(page.locator(".empty-title").first).to_contain_text("is served here")


async def test_an_unknown_backend_and_page_are_said_to_be_so(
    seen: WatchedPage, server: DashboardServer
) -> None:
    seen.expected.append("404")
    await seen.page.goto(f"{server.url}#/backend/77")
    await expect(seen.page.locator(".empty-title:visible")).to_have_text("No instance 77 is served here")
    await seen.page.goto(f"{server.url}#/nonsense/%E0%A4%A")
    await expect(seen.page.locator("h1")).to_have_text("There is no such page")


async def test_draining_asks_first_and_can_be_taken_back(page: Page, server: DashboardServer) -> None:
    id = server.fleet["backends"][0]["id"]
    await page.goto(f"{server.url}#/backend/{id}")
    await page.get_by_role("button", name="Drain", exact=True).click()
    await page.get_by_role("button", name="Cancel").click()
    assert not server.asked_for("POST")
    await page.get_by_role("button", name="Drain", exact=True).click()
    await page.locator("dialog").get_by_role("button", name="Drain").click()
    await expect(page.locator(".toast")).to_contain_text(f"#{id} gets no new requests.")
    assert server.asked_for("POST") == [("POST", f"/backends/{id}/drain", None, {})]
    await expect(page.locator(".page-head .state")).to_have_text("draining")
    await page.get_by_role("button", name="Undrain").click()
    await page.locator("dialog").get_by_role("button", name="Undrain").click()
    await expect(page.locator(".page-head .state")).to_have_text("healthy")


async def test_destroying_needs_the_id_typed(page: Page, seen: WatchedPage, server: DashboardServer) -> None:
    """Nothing is sent before the very id stands there."""
    seen.expected.append("404")  # when it is gone
    id = server.fleet["backends"][0]["id"]
    await page.goto(f"{server.url}#/backend/{id}")
    await page.get_by_role("button", name="Destroy").click()
    go = page.get_by_role("button", name="Destroy it")
    await expect(page.locator("#typed")).to_be_focused()
    await expect(go).to_be_disabled()
    await page.keyboard.type(str(id)[:-1])
    await page.keyboard.press("Enter")
    await expect(go).to_be_disabled()
    assert not server.asked_for("POST")
    await page.keyboard.type(str(id)[-1])
    await go.click()
    await expect(page.locator(".toast")).to_contain_text(f"#{id} is destroyed.")
    assert server.asked_for("POST") == [("POST", f"/backends/{id}/destroy", None, {"confirm": str(id)})]


async def test_a_new_host_key_is_shown_before_it_is_trusted(page: Page, server: DashboardServer) -> None:
    """What is trusted is what was seen here, not whatever else is shown in the meantime."""
    id = server.fleet["backends"][0]["id"]
    await page.goto(f"{server.url}#/backend/{id}")
    button = page.get_by_role("button", name="Trust host key")
    await button.click()
    await expect(page.locator(".toast")).to_contain_text("there is nothing to trust")
    server.changes = [
        {
            "path": "direct",
            "address": "203.0.113.1:40000",
            "pinned": {"key": "ssh-ed25519 OLD", "shown": "SHA256:old", "since_unix": server.now - 9000},
            "refused": {"key": "ssh-ed25519 NEW", "shown": "SHA256:new", "seen_unix": server.now},
        }
    ]
    await button.click()
    for words in ("SHA256:old", "SHA256:new", "203.0.113.1:40000"):
        await expect(page.locator("dialog")).to_contain_text(words)
    server.changes = []
    await page.get_by_role("button", name="Trust it").click()
    await expect(page.locator("dialog")).to_have_count(0)
    sent = {"keys": ["ssh-ed25519 NEW"]}
    assert server.asked_for("POST") == [("POST", f"/backends/{id}/trust", None, sent)]


async def test_the_requests_of_one_backend_are_aborted(page: Page, server: DashboardServer) -> None:
    id = server.fleet["backends"][0]["id"]
    await page.goto(f"{server.url}#/backend/{id}")
    await page.get_by_role("button", name="Abort requests").click()
    await page.get_by_role("button", name="Abort them").click()
    await expect(page.locator("dialog")).to_have_count(0)
    assert server.asked_for("POST") == [("POST", "/abort", None, {"instance": id})]


async def test_a_refusal_is_told_where_it_was_asked(seen: WatchedPage, server: DashboardServer) -> None:
    """The window stays open with the proxy's own words, and it can be tried again."""
    seen.expected.append("404")
    server.missing = frozenset({"abort"})
    await seen.page.goto(f"{server.url}#/requests")
    await seen.page.get_by_role("button", name="Abort all").click()
    go = seen.page.locator("dialog").get_by_role("button", name="Abort all")
    await go.click()
    await expect(seen.page.locator("dialog .notice")).to_have_text("Not Found.")
    await expect(go).to_be_enabled()
    server.missing = frozenset()
    await go.click()
    await expect(seen.page.locator(".toast")).to_contain_text("6 requests aborted.")


async def test_requests_are_filtered_and_live(page: Page, server: DashboardServer) -> None:
    """By state, which the proxy does, and by words; the filter is in the address; new ones come by themselves."""
    await page.goto(f"{server.url}#/requests")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(25)
    await expect(page.locator(".pages span")).to_have_text("1–25 of 60")
    await page.get_by_role("button", name="Next").click()
    await expect(page.locator(".pages span")).to_have_text("26–50 of 60")
    await page.get_by_role("button", name="Running").click()
    await expect(rows).to_have_count(5)
    assert server.asked_for("/requests?limit=200&state=running")
    await page.get_by_role("button", name="Failed").click()
    await expect(rows).to_have_count(1)
    await expect(rows.first).to_contain_text("broke off")
    await page.get_by_role("button", name="All", exact=True).click()
    await page.get_by_label("Filter requests").fill("refused")
    await expect(rows).to_have_count(1)
    assert page.url.endswith("#/requests?text=refused")
    await page.reload()
    await expect(rows).to_have_count(1)
    await page.get_by_label("Filter requests").fill("")
    server.requests.insert(0, {**server.requests[0], "id": "brand-new"})
    await expect(rows.first).to_contain_text("brand-new")


async def test_a_request_is_explained(page: Page, server: DashboardServer) -> None:
    """Every attempt with its candidates, the chosen one marked, and where the time went."""
    story = server.requests[8]
    await page.goto(f"{server.url}#/requests")
    await page.get_by_role("link", name=story["id"]).click()
    await expect(page.locator("h1")).to_have_text(f"Request {story['id']}")
    await expect(page.locator(".attempt")).to_have_count(2)
    await expect(page.locator(".attempt .notice")).to_have_text("connection refused")
    await expect(page.locator(".attempt .chosen")).to_have_count(2)
    await expect(page.locator(".fall-row")).to_have_count(4)  # the queue, two attempts, the axis
    await expect(page.locator(".fall-words").first).to_contain_text("waiting for a place 340 ms")
    tracks = await page.locator(".fall").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect().width)"
    )
    assert len(tracks) == 7
    assert all(width >= 1 for width in tracks)
    await expect(page.get_by_role("button", name="Cancel request")).to_have_count(0)


async def test_a_running_request_can_be_cancelled(
    page: Page, seen: WatchedPage, server: DashboardServer
) -> None:
    seen.expected.append("404")  # of the one that is not remembered
    story = server.requests[0]
    await page.goto(f"{server.url}#/requests/{story['id']}")
    await page.get_by_role("button", name="Cancel request").click()
    await page.get_by_role("button", name="Cancel it").click()
    await expect(page.locator(".page-head .state")).to_have_text("503")
    assert server.asked_for("POST") == [("POST", f"/requests/{story['id']}/cancel", None, {})]
    await page.goto(f"{server.url}#/requests/unknown")
    await expect(page.locator(".empty-title")).to_have_text("Not remembered")


async def test_events_are_filtered_and_live(page: Page, server: DashboardServer) -> None:
    await page.goto(f"{server.url}#/events")
    rows = page.locator(".events li")
    await expect(rows).to_have_count(9)
    await expect(rows.first).to_contain_text("request failed")
    await expect(rows.first.get_by_role("link", name="Explain")).to_have_attribute("href", "#/requests/5f2c")
    await page.get_by_role("button", name="Warnings").click()
    await expect(rows).to_have_count(3)
    await page.get_by_role("button", name="Errors").click()
    await expect(rows).to_have_count(1)
    await page.get_by_role("button", name="All", exact=True).click()
    await page.get_by_label("Filter events").fill("label")
    await expect(rows).to_have_count(1)
    await expect(rows.first).to_contain_text("label set to 'chat'")
    server.events.append({**server.events[5], "seq": 100, "text": "label cleared"})
    await server.push()
    await expect(rows).to_have_count(2)


async def test_cost_by_and_since(page: Page, server: DashboardServer) -> None:
    await page.goto(f"{server.url}#/cost")
    await expect(page.locator(figure(page, "Rent"))).to_have_text("$57.62")
    await expect(page.locator("tbody").first.locator("tr")).to_have_count(6)
    await page.get_by_role("button", name="Model").click()
    await page.get_by_role("button", name="7 days").click()
    await expect(page.locator("tbody").first.locator("tr")).to_have_count(3)
    assert server.asked_for("/cost?by=model&since=7d")
    await expect(page.locator("section table tbody tr")).to_have_count(5)
    await expect(page.locator("section")).to_contain_text("too little known")


async def test_charts_answer_to_pointer_and_keys(page: Page, server: DashboardServer) -> None:
    """The readout tells the point under the pointer, or the one that the arrows have gone to, and then now again."""
    chart = page.get_by_role("slider", name="Requests")
    await chart.scroll_into_view_if_needed()
    readout = page.locator(".chart-card").first.locator(".chart-now")
    last = server.points[-1]["requests"] / 10
    await expect(readout).to_contain_text(f"requests {last:.1f}/s")
    await chart.focus()
    await page.keyboard.press("Home")
    first = server.points[0]["requests"] / 10
    await expect(readout).to_contain_text(f"requests {first:.1f}/s")
    await expect(chart).to_have_attribute("aria-valuenow", "0")
    await page.keyboard.press("ArrowRight")
    await expect(chart).to_have_attribute("aria-valuenow", "1")
    assert f"requests {server.points[1]['requests'] / 10:.1f}/s" in str(
        await chart.get_attribute("aria-valuetext")
    )
    await page.keyboard.press("Escape")
    await expect(chart).to_have_attribute("aria-valuenow", "359")
    box = await chart.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + 60, box["y"] + 40)
    await expect(chart).to_have_attribute("aria-valuenow", re.compile(r"^[0-3]?\d$"))
    await expect(page.locator(".chart-pointer circle")).to_have_count(2)
    await page.mouse.move(0, 0)
    await expect(page.locator(".chart-pointer circle")).to_have_count(0)


async def test_an_empty_account_is_explained(page: Page, server: DashboardServer) -> None:
    server.fleet["backends"], server.events, server.requests, server.points = [], [], [], []
    await server.push()
    await expect(page.locator(".empty-title").first).to_have_text("No backends")
    await page.goto(f"{server.url}#/requests")
    await expect(page.locator(".empty-title").first).to_have_text("No requests yet")
