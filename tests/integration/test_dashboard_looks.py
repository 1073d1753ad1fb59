"""The dashboard in a browser: by keyboard, in both colours, on a phone, unseen, with a thousand backends."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.helpers import dashboard_scene as scene
from tests.helpers.browser import WatchedPage, running_browser, watched
from tests.helpers.contrast import TEXTS, ratio
from tests.helpers.dashboard_server import DashboardServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "a-name-without-any-place-to-break-it-" * 6
NAMELESS = """() => [...document.querySelectorAll('button, a[href], input, [tabindex="0"], table')]
    .filter((one) => one.checkVisibility())
    .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length || one.caption))
    .map((one) => one.outerHTML)"""
CUT = "[...document.querySelectorAll('.table')].filter((one) => one.scrollWidth > one.clientWidth).length"
FOCUSED = """() => { const one = document.activeElement, style = getComputedStyle(one);
    const name = one.textContent.trim().slice(0, 40) || one.ariaLabel || one.id;
    return [one.tagName, name, style.outlineStyle, style.outlineWidth]; }"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[DashboardServer]:
    async with DashboardServer() as running:
        yield running


def every_page(server: DashboardServer) -> list[str]:
    """One address of each kind of page."""
    backend = server.fleet["backends"][1]["id"]
    story = server.requests[8]["id"]
    return ["#/", f"#/backend/{backend}", "#/requests", f"#/requests/{story}", "#/events", "#/cost"]


async def settled(page: Page, url: str) -> None:
    """Shown, with what the page asks for itself."""
    await page.goto(url)
    await expect(page.locator("#connection")).to_have_text("live")
    await expect(page.locator("h1")).to_be_visible()
    await page.wait_for_load_state("load")
    await expect(page.locator("main tbody tr, main .events li, main .attempt").first).to_be_visible()


async def visit(seen: WatchedPage, url: str) -> Page:
    await settled(seen.page, url)
    return seen.page


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_can_be_read(browser: Browser, server: DashboardServer, scheme: str) -> None:
    """Each text, in windows too, has the contrast of WCAG 2.2 AA: 4.5 to 1, or 3 to 1 where it is large."""
    async with watched(browser, scheme=scheme) as seen:
        told = 0
        for hash in every_page(server):
            page = await visit(seen, server.url + hash)
            for text, colour, grounds, size, weight in await page.evaluate(TEXTS):
                large = size >= 24 or (size >= 18.66 and weight >= 700)
                found = ratio(colour, grounds)
                assert found >= (3 if large else 4.5), (hash, text, colour, grounds, round(found, 2))
                told += 1
        await page.keyboard.press("?")
        assert all(ratio(colour, grounds) >= 4.5 for _, colour, grounds, _, _ in await page.evaluate(TEXTS))
        assert told > 500
        assert await seen.all_that_went_wrong() == []


async def test_light_and_dark_are_chosen_and_kept(browser: Browser, server: DashboardServer) -> None:
    """As the system has it, until the reader wants the other."""
    ground = "getComputedStyle(document.body).backgroundColor"
    async with watched(browser, scheme="dark") as seen:
        page = await visit(seen, server.url)
        dark = await page.evaluate(ground)
        await page.emulate_media(color_scheme="light")
        light = await page.evaluate(ground)
        assert dark != light
        await page.get_by_role("button", name="Use dark colours").click()
        assert await page.evaluate(ground) == dark
        await page.reload()
        assert await page.evaluate(ground) == dark
        await page.keyboard.press("t")
        assert await page.evaluate(ground) == light


async def test_a_phone_shows_all_of_it(browser: Browser, server: DashboardServer) -> None:
    """360 px wide nothing is cut off or scrolls sideways, however long the names are; each row is a card."""
    for one in server.fleet["backends"]:
        one |= {"label": LONG, "models": [LONG], "error": LONG, "gpu_name": LONG[:40], "geolocation": LONG}
    server.events[0]["text"] = LONG
    for story in server.requests:
        story |= {"model": LONG, "key": LONG}
    server.requests[8]["attempts"][0]["error"] = LONG
    server.instance["status_msg"] = LONG
    async with watched(browser, width=360, height=740, has_touch=True) as seen:
        for hash in every_page(server):
            page = await visit(seen, server.url + hash)
            wide = await page.evaluate(
                "[...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > 361"
                " && !one.closest('.unseen, thead, pre') && one.checkVisibility()).map((one) => one.className)"
            )
            assert await page.evaluate("document.documentElement.scrollWidth") == 360, (hash, wide)
            small = await page.evaluate(
                "[...document.querySelectorAll('button:not(.sort), nav a')].filter((one) => one.checkVisibility()"
                " && one.getBoundingClientRect().height < 24).map((one) => one.textContent)"
            )
            assert small == [], hash
        await page.goto(server.url)
        row = page.locator("tbody tr").first
        await expect(row).to_be_visible()
        assert await row.evaluate("(row) => getComputedStyle(row).display") == "grid"
        await expect(page.get_by_role("row")).not_to_have_count(0)
        assert await seen.all_that_went_wrong() == []


async def test_tables_fit_whatever_the_width(browser: Browser, server: DashboardServer) -> None:
    """Between a phone and a large screen nothing is cut off at the right."""
    async with watched(browser) as seen:
        for hash in every_page(server):
            page = await visit(seen, server.url + hash)
            for width in (1280, 1261, 1260, 1061, 1060, 721, 720, 500):
                await page.set_viewport_size({"width": width, "height": 900})
                assert await page.evaluate(CUT) == 0, (hash, width)
                assert await page.evaluate("document.documentElement.scrollWidth") <= width, (hash, width)


async def test_everything_is_reached_by_keyboard(browser: Browser, server: DashboardServer) -> None:
    """Pages, rows, windows and charts, with the focus always in sight and where one expects it."""
    first, second = (one["id"] for one in server.fleet["backends"][:2])
    async with watched(browser) as seen:
        page = await visit(seen, server.url)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.keyboard.press("/")
        await expect(page.locator("#filter")).to_be_focused()
        await page.keyboard.type("direct")
        await page.keyboard.press("Escape")
        await expect(page.locator("#filter")).to_have_value("")
        await page.get_by_role("link", name=f"#{first}").first.focus()
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("link", name=f"#{second}").first).to_be_focused()
        await server.push()  # what is fresh does not take the focus away
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_be_focused()
        await expect(page.locator("h1")).to_have_text(f"#{second}")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator("dialog h2")).to_contain_text("Drain")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Drain", exact=True)).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("dialog h2")).to_contain_text("Drain")
        await page.keyboard.press("Enter")
        await expect(page.locator(".toast")).to_be_visible()
        for key, title in (("r", "Requests"), ("e", "Events"), ("c", "Cost"), ("f", "Fleet")):
            await page.keyboard.press("g")
            await page.keyboard.press(key)
            await expect(page.locator("h1")).to_have_text(title)
            await expect(page.locator("h1")).to_be_focused()
        await page.keyboard.press("?")
        await expect(page.locator("dialog h2")).to_have_text("Keyboard")
        await page.keyboard.press("Escape")
        await expect(page.locator("dialog")).to_have_count(0)
        assert await seen.all_that_went_wrong() == []


async def test_the_focus_is_always_seen(browser: Browser, server: DashboardServer) -> None:
    """Tab goes through all of a page in order, and each stop has an outline."""
    async with watched(browser) as seen:
        page = await visit(seen, f"{server.url}#/backend/{server.fleet['backends'][1]['id']}")
        stops = []
        for _ in range(22):
            await page.keyboard.press("Tab")
            tag, name, style, width = await page.evaluate(FOCUSED)
            if tag == "BODY":
                break
            assert style == "solid", name
            assert width == "2px", name
            stops.append(name)
        wanted = ["Skip to content", "vastproxy", "Fleet", "Requests", "Events", "Cost", "Drain", "Destroy"]
        assert [name for name in stops if name in wanted][: len(wanted)] != []
        assert set(wanted) <= set(stops)


async def test_those_who_do_not_see_it_are_told(browser: Browser, server: DashboardServer) -> None:
    """One heading of the first rank, a name for everything that can be used, landmarks, and news said politely."""
    async with watched(browser) as seen:
        for hash in every_page(server):
            page = await visit(seen, server.url + hash)
            await expect(page.locator("h1")).to_have_count(1)
            assert await page.evaluate(NAMELESS) == [], hash
            ids = await page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
            assert len(ids) == len(set(ids)), hash
            tabs = await page.locator("nav [aria-current=page]").count()
            assert tabs == 1, hash
        assert await page.evaluate("document.documentElement.lang") == "en"
        await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        await expect(page.locator("#toasts[aria-live=polite], #connection[role=status]")).to_have_count(2)
        await expect(page.locator("#trouble[role=alert]")).to_have_count(1)


async def test_a_thousand_backends_stay_usable(browser: Browser, server: DashboardServer) -> None:
    """Rows in pages, a filter that answers, and an update that costs a fraction of the second that it is good for."""
    server.fleet = scene.fleet(1000, now=server.now)
    async with watched(browser) as seen:
        page = await visit(seen, server.url)
        await expect(page.locator("main .pages span").first).to_have_text("1–25 of 1,000")
        await expect(page.locator("main table").first).to_have_attribute("aria-rowcount", "1001")
        await page.fill("#filter", str(server.fleet["backends"][-1]["id"]))
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.fill("#filter", "")
        assert await page.evaluate("document.querySelectorAll('*').length") < 2500
        script = """async () => {
            const { state } = await import('./live.js');
            const { fleetPage } = await import('./fleet.js');
            const page = fleetPage(), names = new Set(['fleet']), text = JSON.stringify(state.fleet), times = [];
            document.getElementById('main').replaceChildren(page.node);
            for (let turn = 0; turn < 15; turn += 1) {
                const begun = performance.now();
                state.fleet = JSON.parse(text);
                for (const one of state.fleet.backends) one.in_flight += turn;
                page.update(names);
                document.body.getBoundingClientRect();
                times.push(performance.now() - begun);
            }
            page.close();
            return Math.min(...times);
        }"""
        assert await page.evaluate(script) < 300
        assert server.asked_for("live?every_s=3")
        assert await seen.all_that_went_wrong() == []
