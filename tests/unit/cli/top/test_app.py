"""The dashboard in the hands of somebody: keys, filter, questions, sizes. What it shows is compared as text."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.helpers.fake_proxy import FIRST_ID, backend, event, overview, request, rows
from vastproxy.cli.top.app import TopApp
from vastproxy.cli.top.board import Board
from vastproxy.cli.top.dialogs import Choice, Typed
from vastproxy.cli.top.feed import News, Source
from vastproxy.cli.top.look import LETTERS, SIGNS, Look
from vastproxy.cli.top.orders import Orders, Refused
from vastproxy.cli.top.screens import PageScreen
from vastproxy.cli.top.sheet import Sheet
from vastproxy.cli.top.values import Row

#: More than any key needs until all that it causes has been done.
_ROUNDS = 12


class Told(Orders):
    """Writes down what it is told to do."""

    def __init__(self) -> None:
        super().__init__(Source("http://127.0.0.1:1"))
        self.done: list[tuple[str, object]] = []
        self.refuses = ""

    def _post(self, path: str, body: Mapping[str, Any]) -> Row:
        if self.refuses:
            raise Refused(self.refuses)
        self.done.append((path, dict(body)))
        return {"cancelled": 2}

    def _get(self, path: str) -> Row:
        if self.refuses:
            raise Refused(self.refuses)
        return {
            "id": path,
            "state": "running",
            "method": "POST",
            "path": "/v1/x",
            "instance": {"image": "sglang:1"},
        }


class Hand:
    """Somebody at the keys of a dashboard."""

    def __init__(self, app: TopApp, pilot: Pilot[None], orders: Told) -> None:
        self.app = app
        self.orders = orders
        self._pilot = pilot

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self._pilot.press(key)
            await self.settled()

    async def types(self, text: str) -> None:
        await self.press(*(" " if c == " " else c for c in text))

    async def settled(self) -> None:
        """Until everything asked for is done and drawn. In each round all parts do what lies before them, which may
        be something new for others; no time has to pass for that."""
        for _ in range(_ROUNDS):
            await self._pilot.pause(0)

    async def hears(self, kind: Any, content: Any = None) -> None:
        self.app.hear(News(kind, content))
        await self.settled()

    async def resize(self, width: int, height: int) -> None:
        await self._pilot.resize_terminal(width, height)
        await self.settled()

    async def until(self, condition: Callable[[], object]) -> None:
        """A worker or a thread does it."""
        for _ in range(3000):
            if condition():
                return
            await self._pilot.pause(0.01)
        raise AssertionError(self.shown())

    def lines(self, id: str) -> list[str]:
        """What a part of the dashboard shows."""
        return self.app.screen_stack[0].query_one(f"#{id}", Sheet).lines

    def shown(self) -> str:
        """All of the page or the parts that are on the terminal."""
        if isinstance(self.app.screen, PageScreen):
            return "\n".join(self.app.screen.page.lines)
        parts = [p for p in self.app.screen_stack[0].query(Sheet) if p.display and p.region]
        return "\n".join(line for part in parts for line in part.lines[: part.size.height])

    def chosen(self) -> str:
        """The line of the chosen instance."""
        return next(line for line in self.lines("backends") if line.startswith(("▸", ">")))


@asynccontextmanager
async def dashboard(
    backends: Sequence[Mapping[str, Any]] = (),
    *,
    size: tuple[int, int] = (80, 24),
    look: Look = SIGNS,
    interrupt: Callable[[], object] | None = None,
) -> AsyncIterator[Hand]:
    orders = Told()
    app = TopApp(Board("http://127.0.0.1:8080"), orders, look, interrupt=interrupt)
    async with app.run_test(size=size) as pilot:
        hand = Hand(app, pilot, orders)
        await hand.hears("connected")
        await hand.hears("fleet", overview(backends))
        yield hand


async def test_80_by_24() -> None:
    async with dashboard(rows(3)) as hand:
        await hand.hears("happened", event(1))
        await hand.until(lambda: "connecting → healthy" in hand.shown())
        lines = hand.shown().splitlines()
        assert len(lines) <= 24
        assert "vastproxy  http://127.0.0.1:8080/v1" in lines[0]
        assert "3/3 healthy" in lines[0]
        assert lines[4].startswith("─ Instances 3  by id ─")
        assert " ".join(lines[6].split()) == "▸ #48001001 RTX 4090 ● healthy 3m 🐇 67% 61°C 3 340 $0.36"
        assert "q quit" in lines[-1]


async def test_200_by_60_has_cards_events_and_requests_side_by_side() -> None:
    async with dashboard(rows(6), size=(200, 60)) as hand:
        await hand.hears("requests", [request(1), request(2, state="waiting")])
        shown = hand.shown()
        assert shown.count("╭─") + shown.count("┏━") == 6
        assert "─ Events ─" in shown
        assert "─ Requests 2 ─" in shown
        await hand.press("v")
        assert "╭─" not in hand.shown()
        await hand.press("v")
        assert "╭─" in hand.shown()


async def test_40_by_15() -> None:
    async with dashboard(rows(30), size=(40, 15)) as hand:
        assert "30/30 healthy" in hand.shown()
        assert "#48001001" in hand.chosen()
        assert hand.app.query_one("#below").region.height == 4
        await hand.resize(40, 8)
        assert hand.app.query_one("#below").display is False
        assert "#48001001" in hand.shown()
        await hand.press("tab")
        assert hand.app.focused is hand.app.query_one("#backends")


async def test_it_follows_the_size_of_the_terminal() -> None:
    async with dashboard(rows(4), size=(80, 24)) as hand:
        for width, height in ((200, 60), (40, 15), (120, 30), (80, 24)):
            await hand.resize(width, height)
            assert hand.app.query_one("#backends").size.width == width
            assert "#48001001" in hand.shown()
            assert "4/4 healthy" in hand.shown()
            assert all(len(line) <= width for line in hand.shown().splitlines())


async def test_200_backends_scroll() -> None:
    async with dashboard(rows(200)) as hand:
        assert "1-11 of 200" in hand.lines("backends")[0]
        await hand.press("end")
        assert "#48001200" in hand.chosen()
        assert "190-200 of 200" in hand.lines("backends")[0]
        await hand.press("pageup")
        assert "#48001190" in hand.chosen()
        await hand.press("home", "down", "j", "k")
        assert "#48001002" in hand.chosen()
        await hand.press("G", "v")
        assert "┏━ #48001200" in hand.shown()
        await hand.press("up", "left", "right", "g")
        assert "┏━ #48001001" in hand.shown()


async def test_the_chosen_one_stays_chosen() -> None:
    """Wherever it is sorted to, and for as long as it is there."""
    async with dashboard(rows(3)) as hand:
        await hand.press("down")
        assert "#48001002" in hand.chosen()
        busy = [backend(FIRST_ID + at, state="unhealthy" if at else "healthy") for at in range(3)]
        await hand.hears("fleet", overview(busy))
        await hand.press("s")
        assert "by state" in hand.lines("backends")[0]
        assert "#48001002" in hand.chosen()
        assert "#48001001" in hand.lines("backends")[-1]
        await hand.press("S")
        assert "by id" in hand.lines("backends")[0]
        await hand.hears("fleet", overview([busy[0], busy[2]]))
        assert "#48001003" in hand.chosen()
        await hand.hears("fleet", overview())
        assert "no instances" in hand.shown()
        await hand.press("p", "t", "d", "enter")
        assert hand.orders.done == []


async def test_a_filter_for_each_list() -> None:
    async with dashboard(rows(6)) as hand:
        await hand.press("slash")
        await hand.types("h100")
        assert "Instances 1" in hand.lines("backends")[0]
        assert "#48001002" in hand.chosen()
        await hand.press("enter")
        assert "/h100" in hand.lines("backends")[0]
        await hand.press("slash", "x", "enter")
        assert "none of 6 instances matches /h100x" in hand.shown()
        await hand.press("escape")
        assert "Instances 6" in hand.lines("backends")[0]
        await hand.hears("happened", event(1, "one"))
        await hand.hears("happened", event(2, "two"))
        await hand.press("tab", "slash")
        await hand.types("two")
        await hand.until(lambda: "/two" in hand.lines("events")[0])
        assert len(hand.lines("events")) == 2
        await hand.press("escape")
        assert len(hand.lines("events")) == 3


async def test_tab_leads_through_the_lists_also_where_one_is_hidden() -> None:
    async with dashboard(rows(1)) as hand:
        await hand.hears("requests", [request(1)])
        assert "tab: 1 requests" in hand.lines("events")[0]
        await hand.press("tab", "tab")
        assert "Requests 1  tab: instances" in hand.shown()
        await hand.press("tab")
        assert hand.app.focused is hand.app.query_one("#backends")
        await hand.press("shift+tab")
        assert hand.app.focused is hand.app.query_one("#requests")


async def test_events_follow_until_somebody_scrolls_up() -> None:
    async with dashboard(rows(1)) as hand:
        for number in range(60):
            await hand.hears("happened", event(number, f"number {number}"))
        await hand.until(lambda: "number 59" in hand.shown())
        await hand.press("tab", "pageup")
        assert "number 59" not in hand.shown()
        await hand.hears("happened", event(99, "number 99"))
        await hand.press("k")
        assert "number 99" not in hand.shown()
        await hand.press("end")
        await hand.until(lambda: "number 99" in hand.shown())
        await hand.hears("left_out", 3)
        await hand.until(lambda: "3 missed" in hand.shown())


async def test_details_of_an_instance_stay_live() -> None:
    async with dashboard(rows(2)) as hand:
        await hand.press("enter")
        await hand.until(lambda: "sglang:1" in hand.shown())
        assert "#48001001  RTX 4090" in hand.shown()
        await hand.hears("fleet", overview([backend(state="draining")]))
        assert "● draining" in hand.shown()
        await hand.press("p")
        await hand.until(lambda: hand.orders.done)
        assert hand.orders.done == [("backends/48001001/undrain", {})]
        await hand.press("end", "up", "escape")
        assert not isinstance(hand.app.screen, PageScreen)


async def test_details_of_a_request_and_of_an_event() -> None:
    async with dashboard(rows(2), size=(130, 30)) as hand:
        await hand.hears("requests", [request(1)])
        await hand.hears("happened", event(1, instance=FIRST_ID + 1))
        await hand.press("tab", "tab", "enter")
        await hand.until(lambda: isinstance(hand.app.screen, PageScreen))
        assert "POST /v1/x" in hand.shown()
        await hand.press("q", "shift+tab", "enter")
        await hand.until(lambda: "#48001002" in hand.shown().splitlines()[0])
        await hand.press("q")
        await hand.hears("happened", event(2, instance=None))
        await hand.press("end", "enter")
        await hand.until(lambda: "there is no instance to tell about" in hand.shown())


async def test_drain_and_back() -> None:
    async with dashboard(rows(2)) as hand:
        await hand.press("p")
        await hand.until(lambda: "#48001001 gets no new requests" in hand.shown())
        await hand.hears("fleet", overview([backend(draining=True)]))
        await hand.press("p")
        await hand.until(lambda: "#48001001 may serve again" in hand.shown())
        assert [path for path, _ in hand.orders.done] == [
            "backends/48001001/drain",
            "backends/48001001/undrain",
        ]


async def test_abort_asks_first() -> None:
    async with dashboard(rows(2)) as hand:
        await hand.press("a")
        assert isinstance(hand.app.screen, Choice)
        await hand.press("x")
        assert hand.orders.done == []
        await hand.press("a", "y")
        await hand.until(lambda: hand.orders.done)
        await hand.press("a", "o")
        await hand.until(lambda: len(hand.orders.done) == 2)
        assert hand.orders.done == [("abort", {"instance": None}), ("abort", {"instance": FIRST_ID})]
        await hand.until(lambda: "2 requests on #48001001 ended" in hand.shown())


@pytest.mark.parametrize(
    ("typed", "done"),
    [
        ("48001002", ["backends/48001002/destroy"]),
        ("all 3", [f"backends/{FIRST_ID + at}/destroy" for at in range(3)]),
        ("all", []),
        ("48001001", []),
        ("", []),
    ],
)
async def test_destroy_is_typed(typed: str, done: list[str]) -> None:
    """The id of the one, or "all" with how many that are; nothing else destroys anything."""
    async with dashboard(rows(3)) as hand:
        await hand.press("down", "d")
        assert isinstance(hand.app.screen, Typed)
        await hand.types(typed)
        await hand.press("enter")
        if done:
            await hand.until(lambda: len(hand.orders.done) == len(done))
        await hand.press("escape")
        await hand.until(lambda: not isinstance(hand.app.screen, Typed))
        assert [path for path, _ in hand.orders.done] == done


async def test_trust_asks_first_and_a_refusal_is_told() -> None:
    async with dashboard([backend(state="unhealthy", error="its host key has changed")]) as hand:
        await hand.press("t", "n")
        assert hand.orders.done == []
        hand.orders.refuses = "there is no such instance"
        await hand.press("t", "y")
        await hand.until(lambda: "there is no such instance" in hand.lines("footer")[0])


async def test_a_request_is_cancelled() -> None:
    async with dashboard(rows(1)) as hand:
        await hand.press("c")
        assert "c cancels the chosen one" in hand.shown()
        await hand.hears("requests", [request(1), request(2)])
        await hand.press("tab", "tab", "down", "c", "y")
        await hand.until(lambda: hand.orders.done)
        assert hand.orders.done == [("requests/5f1c0e9a2b3d00000002/cancel", {})]
        hand.orders.refuses = "it is over"
        await hand.press("enter")
        await hand.until(lambda: "it is over" in hand.shown())


async def test_it_says_that_the_proxy_has_gone_and_is_back() -> None:
    async with dashboard(rows(2)) as hand:
        await hand.hears("lost", "nothing answers at http://127.0.0.1:8080")
        assert "nothing answers at http://127.0.0.1:8080; trying again" in hand.shown()
        assert "#48001001" in hand.shown()
        await hand.hears("connected")
        assert "trying again" not in hand.shown()


async def test_help_shows_every_key() -> None:
    async with dashboard(rows(1), look=LETTERS, size=(100, 30)) as hand:
        await hand.press("question_mark")
        shown = hand.shown()
        for key in ("a ", "d ", "p ", "t ", "/ ", "enter", "q ", "s ", "v ", "l ", "c ", "tab"):
            assert f"  {key}" in shown
        await hand.press("s", "slash", "question_mark")
        assert "Instances 1  by id" in hand.shown()


async def test_letters_only() -> None:
    """Whatever the proxy tells."""
    async with dashboard([backend(path="relay", label="日本", models=["modèle"])], look=LETTERS) as hand:
        await hand.hears("happened", event(1))
        await hand.until(lambda: "connecting > healthy" in hand.shown())
        for keys in ((), ("enter",), ("escape", "v"), ("question_mark",)):
            await hand.press(*keys)
            assert hand.shown().isascii()


async def test_the_log_of_the_proxy_beside_us() -> None:
    async with dashboard(rows(1), interrupt=lambda: None, size=(130, 30)) as hand:
        await hand.hears("logged", ["2026-01-31 12:00:00 warning it is late", "second"])
        await hand.press("l")
        assert "─ Log  tab: 0 requests ─" in hand.shown()
        assert "warning it is late" in hand.shown()
        assert "─ Requests" not in hand.shown()
        await hand.press("slash", "s", "e", "c", "enter", "l")
        assert "─ Events" in hand.shown()
    async with dashboard(rows(1)) as hand:
        await hand.press("l")
        assert "the log is where the proxy runs" in hand.shown()


async def test_leaving_a_proxy_beside_us_asks_about_it() -> None:
    stopped: list[str] = []
    async with dashboard(rows(1), interrupt=lambda: stopped.append("stopped")) as hand:
        await hand.press("q")
        assert isinstance(hand.app.screen, Choice)
        await hand.press("escape")
        await hand.until(lambda: hand.app.is_running and not isinstance(hand.app.screen, Choice))
        await hand.press("q", "n")
        await hand.until(lambda: not hand.app.is_running)
    assert stopped == []
    async with dashboard(rows(1), interrupt=lambda: stopped.append("stopped")) as hand:
        await hand.press("q", "y")
        await hand.until(lambda: not hand.app.is_running)
    assert stopped == ["stopped"]


@pytest.mark.parametrize(
    "keys", [("ctrl+c",), ("a", "ctrl+c"), ("d", "ctrl+c", "ctrl+c"), ("slash", "ctrl+c")]
)
async def test_ctrl_c_is_for_the_proxy_beside_us(keys: tuple[str, ...]) -> None:
    stopped: list[str] = []
    async with dashboard(rows(1), interrupt=lambda: stopped.append("stopped")) as hand:
        await hand.press(*keys)
        await hand.until(lambda: not hand.app.is_running)
    assert "stopped" in stopped


async def test_leaving_one_that_is_only_watched() -> None:
    for key in ("q", "ctrl+c"):
        async with dashboard(rows(1)) as hand:
            await hand.press(key)
            await hand.until(lambda: not hand.app.is_running)


async def test_the_mouse_chooses_and_opens() -> None:
    async with dashboard(rows(5)) as hand:
        pilot = hand._pilot
        await pilot.click("#backends", offset=(5, 4))
        await hand.settled()
        assert "#48001003" in hand.chosen()
        await pilot.click("#backends", offset=(5, 4))
        await hand.until(lambda: isinstance(hand.app.screen, PageScreen))
        await hand.press("escape", "v", "home")
        await pilot.click("#backends", offset=(5, 7))
        await hand.settled()
        assert "┏━ #48001002" in hand.shown()
        await pilot.click("#backends", offset=(5, 0))
        await hand.settled()
        assert "┏━ #48001002" in hand.shown()
