"""What is heard of a proxy, and what it is ordered, over real HTTP."""

import queue
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.helpers.fake_proxy import FIRST_ID, ROOT, FakeProxy, backend, event, overview, request, rows
from vastproxy.cli.asking import NoProxyThere
from vastproxy.cli.top.feed import Feed, Kind, News, NotTold, Source
from vastproxy.cli.top.orders import Orders, Refused

LIMIT_S = 30.0


class Ear:
    """Collects what a feed tells."""

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[News] = queue.SimpleQueue()

    def hear(self, news: News) -> None:
        self._heard.put(news)

    def next(self, kind: Kind, wanted: Callable[[Any], object] = lambda content: True) -> Any:
        """The next news of this kind that is wanted; others are passed over."""
        while True:
            news = self._heard.get(timeout=LIMIT_S)
            if news.kind == kind and wanted(news.content):
                return news.content


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def follow(ear: Ear) -> Iterator[Callable[..., Feed]]:
    """Start feeds; at the end of the test the proxies have ended, so their threads end too."""
    feeds: list[Feed] = []

    def start(source: Source) -> Feed:
        feeds.append(Feed(source, ear.hear, wait=lambda over, seconds: over.wait(min(seconds, 0.05))))
        feeds[-1].start()
        return feeds[-1]

    yield start
    for feed in feeds:
        feed.stop(limit_s=LIMIT_S)


def test_it_tells_what_there_is_and_what_comes(ear: Ear, follow: Callable[..., Feed]) -> None:
    with FakeProxy(
        fleet=overview(rows(2)), events=[event(1)], requests=[request(1), request(2, state="waiting")]
    ) as proxy:
        feed = follow(Source(proxy.url, every_s=0.2))
        ear.next("connected")
        assert len(ear.next("fleet")["backends"]) == 2
        assert ear.next("happened")["seq"] == 1
        assert [row["id"][-1] for row in ear.next("requests")] == ["2", "1"]
        proxy.fleet = overview(rows(5))
        assert len(ear.next("fleet")["backends"]) == 5
        proxy.happens(event(2))
        assert ear.next("happened")["seq"] == 2
        proxy.sends(
            b'event: lost\ndata: {"events":7}\n\nevent: fleet\ndata: [1]\n\nevent: new\ndata: {}\n\n: still\n\n'
        )
        assert ear.next("left_out") == 7
        assert any("every_s=0.2" in path for path in proxy.asked)
        feed.stop()


def test_it_comes_back_when_the_proxy_does(ear: Ear, follow: Callable[..., Feed]) -> None:
    """And says meanwhile what is the matter."""
    with FakeProxy(fleet=overview(rows(1))) as proxy:
        feed = follow(Source(proxy.url))
        ear.next("fleet")
        proxy.stop()
        assert "ended the connection" in ear.next("lost")
        assert "nothing answers at" in ear.next("lost", lambda why: "nothing answers" in why)
        proxy.start()
        ear.next("connected")
        assert len(ear.next("fleet")["backends"]) == 1
        feed.stop()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (404, "has no live feed: it is not vastproxy, or an older one"),
        (503, "Not now."),
        (500, "does not tell its live feed (HTTP 500)"),
        (403, "a key with the right 'admin'"),
    ],
)
def test_a_proxy_that_does_not_tell(ear: Ear, follow: Callable[..., Feed], status: int, why: str) -> None:
    with FakeProxy() as proxy:
        proxy.live_status = status
        feed = follow(Source(proxy.url))
        assert why in ear.next("lost")
        feed.stop()


def test_what_is_no_json_breaks_nothing(ear: Ear, follow: Callable[..., Feed]) -> None:
    with FakeProxy(fleet=overview(rows(1))) as proxy:
        feed = follow(Source(proxy.url))
        ear.next("fleet")
        proxy.sends(b"event: fleet\ndata: {broken\n\n")
        ear.next("lost")
        proxy.cut()
        ear.next("fleet")
        feed.stop()
        proxy.cut()


def test_requests_that_are_not_told_are_asked_for_again(ear: Ear, follow: Callable[..., Feed]) -> None:
    with FakeProxy(fleet=overview(rows(1)), requests=[request(1)]) as proxy:
        proxy.answers[f"{ROOT}/requests"] = (404, {})
        feed = follow(Source(proxy.url))
        ear.next("fleet")
        del proxy.answers[f"{ROOT}/requests"]
        assert len(ear.next("requests")) == 1
        feed.stop()


def test_the_key_is_sent() -> None:
    with FakeProxy(key="k", fleet=overview(rows(1))) as proxy:
        assert len(Source(proxy.url, "k").overview()["backends"]) == 1
        with pytest.raises(NotTold, match="--key or VASTPROXY_API_KEYS"):
            Source(proxy.url, "wrong").overview()
        assert Orders(Source(proxy.url, "k")).backend(FIRST_ID)["id"] == FIRST_ID


def test_nobody_there() -> None:
    with FakeProxy() as proxy:
        url = proxy.url
    with pytest.raises(NoProxyThere, match="nothing answers"):
        Source(url).overview()
    with pytest.raises(NoProxyThere, match="nothing answers"):
        Orders(Source(url)).abort(None)


def test_orders_are_what_the_proxy_takes() -> None:
    with FakeProxy(fleet=overview([backend()]), requests=[request(1)]) as proxy:
        orders = Orders(Source(proxy.url))
        proxy.answers[f"{ROOT}/abort"] = (200, {"cancelled": 1})
        assert orders.abort(None) == "1 request ended"
        proxy.answers[f"{ROOT}/abort"] = (200, {"cancelled": 3})
        assert orders.abort(17) == "3 requests on #17 ended"
        assert orders.drain(17, undo=False) == "#17 gets no new requests"
        assert orders.drain(17, undo=True) == "#17 may serve again"
        assert orders.trust(17).startswith("the host key of #17 is forgotten")
        assert orders.destroy([17]) == "#17 is destroyed"
        assert orders.destroy([17, 18]) == "2 instances are destroyed"
        assert orders.cancel("a/b") == "request a/b is ended"
        assert orders.request(request(1)["id"])["model"] == "Qwen/Qwen3-8B"
    assert proxy.orders == [
        (f"{ROOT}/abort", {"instance": None}),
        (f"{ROOT}/abort", {"instance": 17}),
        (f"{ROOT}/backends/17/drain", {}),
        (f"{ROOT}/backends/17/undrain", {}),
        (f"{ROOT}/backends/17/trust", {}),
        (f"{ROOT}/backends/17/destroy", {"confirm": "17"}),
        (f"{ROOT}/backends/17/destroy", {"confirm": "17"}),
        (f"{ROOT}/backends/18/destroy", {"confirm": "18"}),
        (f"{ROOT}/requests/a%2Fb/cancel", {}),
    ]


def test_one_that_cannot_be_destroyed_leaves_the_others() -> None:
    with FakeProxy() as proxy:
        proxy.answers[f"{ROOT}/backends/17/destroy"] = (502, {"error": {"message": "vast.ai says no"}})
        with pytest.raises(Refused, match=r"1 of 2 destroyed; #17: vast\.ai says no"):
            Orders(Source(proxy.url)).destroy([17, 18])
        assert len(proxy.orders) == 2


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (403, {"error": {"message": "Actions are off.", "code": "actions_disabled"}}, "Actions are off."),
        (401, {}, "this needs a key with the right 'admin'"),
        (500, "no json", "the proxy refused"),
        (200, "no json", "is not vastproxy"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_proxy(status: int, body: Any, why: str) -> None:
    with FakeProxy() as proxy:
        proxy.answers[f"{ROOT}/backends/17/drain"] = (status, body)
        with pytest.raises((Refused, NoProxyThere), match=why):
            Orders(Source(proxy.url)).drain(17, undo=False)
