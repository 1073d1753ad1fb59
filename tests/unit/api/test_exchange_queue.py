"""Requests that wait for a place: who is served when, who leaves, what is held, and what is told who waits too long."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.helpers.exchanging import Asked, Scene, gathered, settle
from tests.helpers.mixed import CHAT, available, body_of, chat, serves, unavailable
from tests.helpers.recording_client import RecordingClient, make_request
from vastproxy.api.errors import bad_request
from vastproxy.api.exchange import Exchange
from vastproxy.api.upload import REPLAY_LIMIT_BYTES
from vastproxy.services.access.callers import Caller, Callers
from vastproxy.services.http1.framing import CHUNKED, Framing
from vastproxy.services.http1.grammar import Header
from vastproxy.services.traces import Traces
from vastproxy.settings.admission import AdmissionSettings, QueueSettings
from vastproxy.settings.model import UpstreamSettings

pytestmark = pytest.mark.virtual_time

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ONE_EACH = AdmissionSettings(max_in_flight_per_backend=1)


@pytest.fixture
async def busy(make_scene: Callable[..., Scene]) -> Scene:
    """One engine, which takes one request at a time. A request waits for ten seconds."""
    return make_scene(backends=1, admission=ONE_EACH, queue=QueueSettings(max_wait_s=10, batch_max_wait_s=30))


def waiting(scene: Scene) -> int:
    return scene.fleet.dispatcher.waiting


def story(scene: Scene) -> dict[str, Any]:
    """What is told of the last request."""
    traces = Traces(clock=scene.fleet.clock, wall_clock=lambda: 0.0)
    return traces.tell(scene.fleet.traces.latest(1)[0])


def told(asked: Asked) -> tuple[int | None, str, int]:
    """The status and code of an answer of ours, and when to come back."""
    seconds = asked.client.header(b"retry-after")
    assert seconds is not None, "nobody is told when to come back"
    assert json.loads(asked.client.body)["error"]["message"]
    return asked.client.status, asked.error, int(seconds)


async def ask_as(
    scene: Scene, asker: str, request_id: bytes, headers: Sequence[Header] = (), body: bytes = b""
) -> Asked:
    """A request with somebody's API key."""
    client = RecordingClient()
    request = make_request(
        b"POST", CHAT, headers=headers, framing=Framing(chunked=False, length=len(body) or None)
    )
    request.facts.admitted_by = Caller(Callers(), name=asker, id=asker)
    exchange = Exchange(scene.tools, request, client, request_id)
    exchange.begin(body, complete=True)
    await settle()
    return Asked(scene, client, exchange)


# ── its turn ───────────────────────────────────────────────────────────────────────────────────


async def test_it_waits_while_the_engine_is_full_and_is_sent_when_it_is_not(busy: Scene) -> None:
    first = await busy.ask()
    second = await busy.ask(b"POST", CHAT, body=chat())
    assert waiting(busy) == 1
    assert len(busy.streams) == 1
    assert second.client.calls == []
    await asyncio.sleep(3)
    assert (story(busy)["state"], story(busy)["attempts"]) == ("waiting", [])
    assert story(busy)["queue_ms"] == pytest.approx(3000, abs=10)
    first.stream.feed(OK)
    await settle()
    assert story(busy)["state"] == "running"
    assert body_of(second.stream) == chat()
    second.stream.feed(OK)
    assert (second.client.status, second.client.complete) == (200, True)
    claim = busy.fleet.traces.latest(1)[0]
    assert claim.queued_s == pytest.approx(3, abs=0.01)
    busy.assert_idle()


async def test_requests_are_served_in_the_order_in_which_they_came(busy: Scene) -> None:
    asked = [await busy.ask(b"POST", CHAT, body=chat(text=str(number))) for number in range(5)]
    for number, each in enumerate(asked):
        assert [other.client.complete for other in asked].count(True) == number
        assert body_of(each.stream) == chat(text=str(number))
        each.stream.feed(OK)
        await settle()
        assert busy.backends[0].in_flight <= 1
    busy.assert_idle()


async def test_somebody_who_is_in_no_hurry_is_passed(busy: Scene) -> None:
    first = await busy.ask()
    batch = await busy.ask(b"POST", CHAT, body=chat(), headers=[(b"x-vastproxy-priority", b"batch")])
    hurried = await busy.ask()
    first.stream.feed(OK)
    await settle()
    first.stream.feed(OK)
    assert (hurried.client.complete, batch.client.complete) == (True, False)
    await settle()
    first.stream.feed(OK)
    assert batch.client.complete
    busy.assert_idle()


async def test_a_place_is_free_for_who_can_use_it(make_scene: Callable[..., Scene]) -> None:
    """Who waits for one model does not hold up those that ask for another one."""
    scene = make_scene(admission=ONE_EACH, queue=QueueSettings())
    serves(scene, 1, "a")
    serves(scene, 2, "b")
    running = await scene.ask(b"POST", CHAT, body=chat("a"))
    waits = await scene.ask(b"POST", CHAT, body=chat("a"))
    other = await scene.ask(b"POST", CHAT, body=chat("b"))
    other.stream.feed(OK)
    assert (other.client.complete, waits.client.complete, waiting(scene)) == (True, False, 1)
    scene.streams[0].feed(OK)
    await settle()
    scene.streams[0].feed(OK)
    assert running.client.complete
    assert waits.client.complete
    scene.assert_idle()


async def test_a_place_that_survives_zero_backends(make_scene: Callable[..., Scene]) -> None:
    """The only host is being replaced: who waits is served by the next one."""
    scene = make_scene(backends=1, queue=QueueSettings(max_wait_s=60))
    scene.fleet.expecting = True
    unavailable(scene, 1)
    asked = await scene.ask(b"POST", CHAT, body=chat())
    assert waiting(scene) == 1
    await asyncio.sleep(50)
    available(scene, 1)
    await settle()
    asked.stream.feed(OK)
    assert asked.client.complete
    scene.assert_idle()


async def test_nobody_waits_for_a_place_that_nobody_expects(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(backends=1, queue=QueueSettings())
    scene.fleet.dispatcher.targets.forget(scene.backends[0])
    asked = await scene.ask()
    assert told(asked)[:2] == (503, "no_backend_available")
    assert b"nobody is there" in asked.client.body
    assert waiting(scene) == 0


# ── leaving ────────────────────────────────────────────────────────────────────────────────────


async def test_who_leaves_the_queue_costs_nothing(busy: Scene) -> None:
    first = await busy.ask()
    second = await busy.ask(b"POST", CHAT, body=chat())
    await asyncio.sleep(2)
    third = await busy.ask()
    second.exchange.client_left()
    assert waiting(busy) == 1
    assert busy.fleet.traces.latest(2)[1].queued_s == pytest.approx(2, abs=0.01)
    assert busy.access.lines == [(499, 0, 0, len(chat()), None)]
    first.stream.feed(OK)
    await settle()
    assert len(busy.streams) == 1
    assert b"POST" not in first.stream.written
    third.stream.feed(OK)
    assert third.client.complete
    assert second.client.calls == []
    busy.assert_idle()


async def test_who_leaves_in_the_moment_of_his_turn_takes_no_place(busy: Scene) -> None:
    """A place became free, and before it is his he has gone: the next one has it."""
    first = await busy.ask()
    second, third = await busy.ask(), await busy.ask(b"POST", CHAT, body=chat())
    first.stream.feed(OK)
    second.exchange.client_left()
    await settle()
    assert body_of(third.stream) == chat()
    third.stream.feed(OK)
    busy.assert_idle()


async def test_a_client_that_breaks_http_while_it_waits_is_told_so(busy: Scene) -> None:
    first = await busy.ask()
    second = await busy.ask(b"POST", CHAT, body=b"{", complete=False, framing=CHUNKED)
    await gathered()
    assert waiting(busy) == 1
    malformed = bad_request(400, "The request's chunks are malformed.")
    second.exchange.client_failed(malformed)
    assert second.client.status == 400
    assert waiting(busy) == 0
    first.stream.feed(OK)
    busy.assert_idle()


# ── a body that grows meanwhile ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_grows_while_it_waits_is_held_up_to_a_bound(busy: Scene, chunked: bool) -> None:
    """Then its client is not read any more, until it is on its way; all of it arrives."""
    pieces = [b"x" * 65_536 for _ in range(40)]
    framing = CHUNKED if chunked else Framing(chunked=False, length=1 + sum(map(len, pieces)))
    first = await busy.ask()
    second = await busy.ask(b"POST", b"/v1/x", body=b"x", complete=False, framing=framing)
    await gathered()
    sent = 0
    while second.client.reading:
        second.exchange.client_data(pieces[sent], complete=False)
        sent += 1
    assert 1 + sent * 65_536 < REPLAY_LIMIT_BYTES + 65_536
    first.stream.feed(OK)
    await settle()
    assert second.client.reading
    for number in range(sent, len(pieces)):
        second.exchange.client_data(pieces[number], complete=number == len(pieces) - 1)
    assert body_of(second.stream) == b"x" + b"".join(pieces)
    second.stream.feed(OK)
    assert second.client.complete
    busy.assert_idle()


async def test_a_body_that_ends_while_it_waits_is_sent_whole(busy: Scene) -> None:
    first = await busy.ask()
    second = await busy.ask(b"POST", b"/v1/x", body=b"one", complete=False, framing=CHUNKED)
    await gathered()
    second.exchange.client_data(b"two", complete=True)
    assert waiting(busy) == 1
    first.stream.feed(OK)
    await settle()
    assert b"content-length: 6\r\n" in second.stream.written
    assert body_of(second.stream) == b"onetwo"
    second.stream.feed(OK)
    busy.assert_idle()


async def test_who_waits_to_be_invited_is_invited_by_the_engine_when_it_has_its_place(busy: Scene) -> None:
    first = await busy.ask()
    second = await busy.ask(
        b"POST", b"/v1/x", expects_continue=True, complete=False, framing=Framing(chunked=False, length=3)
    )
    assert waiting(busy) == 1
    assert second.client.interims == []
    first.stream.feed(OK)
    await settle()
    assert b"\r\nexpect: 100-continue\r\n" in second.stream.written
    second.stream.feed(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert [status for status, _ in second.client.interims] == [100]
    second.exchange.client_data(b"abc", complete=True)
    assert body_of(second.stream) == b"abc"
    second.stream.feed(OK)
    busy.assert_idle()


async def test_who_grew_tired_of_waiting_for_an_invitation_is_not_invited(busy: Scene) -> None:
    first = await busy.ask()
    second = await busy.ask(
        b"POST", b"/v1/x", expects_continue=True, complete=False, framing=Framing(chunked=False, length=3)
    )
    second.exchange.client_data(b"ab", complete=False)
    first.stream.feed(OK)
    await settle()
    assert b"expect" not in second.stream.written
    second.exchange.client_data(b"c", complete=True)
    assert body_of(second.stream) == b"abc"
    second.stream.feed(OK)
    assert second.client.interims == []
    busy.assert_idle()


# ── too long, too many ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("priority", "wait_s"), [(b"interactive", 10), (b"batch", 30)])
async def test_who_has_waited_long_enough_is_told_when_to_come_back(
    busy: Scene, priority: bytes, wait_s: float
) -> None:
    first = await busy.ask()
    second = await busy.ask(headers=[(b"x-vastproxy-priority", priority)])
    await asyncio.sleep(wait_s - 0.1)
    assert second.client.calls == []
    await asyncio.sleep(0.2)
    status, code, seconds = told(second)
    assert (status, code) == (503, "no_backend_available")
    assert 1 <= seconds <= 60
    assert second.client.header(b"x-vastproxy-instance") is None
    assert busy.access.lines == [(503, 0, len(second.client.body), 0, None)]
    assert busy.fleet.traces.latest(1)[0].queued_s == pytest.approx(wait_s, abs=0.2)
    first.stream.feed(OK)
    await settle()
    assert len(busy.streams) == 1
    busy.assert_idle()


async def test_who_waits_for_nobody_is_told_why_there_is_nobody(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(backends=1, queue=QueueSettings(max_wait_s=10))
    scene.fleet.expecting = True
    unavailable(scene, 1)
    asked = await scene.ask()
    await asyncio.sleep(10.1)
    assert told(asked)[:2] == (503, "no_backend_available")
    assert b"nobody is there" in asked.client.body
    scene.assert_idle()


async def test_more_than_may_wait_are_sent_away_at_once(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(backends=1, admission=ONE_EACH, queue=QueueSettings(max_waiting=2))
    asked = [await scene.ask() for _ in range(4)]
    assert [each.client.ended for each in asked] == [False, False, False, True]
    assert told(asked[3])[:2] == (503, "no_backend_available")
    for _ in range(3):
        scene.streams[0].feed(OK)
        await settle()
    assert all(each.client.status == 200 for each in asked[:3])
    scene.assert_idle()


async def test_a_key_with_more_in_flight_than_it_may_waits_and_others_do_not(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene(
        backends=1,
        admission=AdmissionSettings(max_in_flight_per_key=1),
        queue=QueueSettings(max_waiting_per_key=1),
    )
    first, second = [await ask_as(scene, "a", name) for name in (b"a1", b"a2")]
    assert (len(scene.streams), waiting(scene)) == (1, 1)
    third = await ask_as(scene, "a", b"a3")
    status, code, seconds = told(third)
    assert (status, code) == (429, "rate_limit_exceeded")
    assert json.loads(third.client.body)["error"]["type"] == "rate_limit_error"
    assert seconds >= 1
    other = await ask_as(scene, "b", b"b1")
    scene.streams[1].feed(OK)
    assert other.client.complete
    scene.streams[0].feed(OK)
    await settle()
    for stream in scene.streams:
        if not second.client.complete and stream.written.count(b"POST") > 1:
            stream.feed(OK)
    assert first.client.complete
    assert second.client.complete
    scene.assert_idle()


async def test_keys_take_turns(busy: Scene) -> None:
    """Who came with many requests first does not keep out who came with one later."""
    running = await busy.ask()
    many = [await ask_as(busy, "a", b"a%d" % number, body=chat(text=f"a{number}")) for number in range(3)]
    one = await ask_as(busy, "b", b"b0", body=chat(text="b0"))
    order: list[str] = []
    for _ in range(4):
        running.stream.feed(OK)
        await settle()
        order.append(json.loads(body_of(running.stream))["messages"][0]["content"])
    assert order.index("b0") <= 1
    running.stream.feed(OK)
    assert one.client.complete
    assert all(each.client.complete for each in many)
    busy.assert_idle()


async def test_the_limit_for_the_whole_counts_the_wait(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(
        backends=1, admission=ONE_EACH, queue=QueueSettings(), upstream=UpstreamSettings(total_timeout_s=8)
    )
    first = await scene.ask()
    second = await scene.ask()
    await asyncio.sleep(7.9)
    assert waiting(scene) == 1
    await asyncio.sleep(0.2)
    assert (first.client.status, second.client.status, second.error) == (504, 504, "backend_timeout")
    assert waiting(scene) == 0
    scene.assert_idle()


async def test_the_end_of_the_proxy_is_told_to_who_waits(busy: Scene) -> None:
    first, second = await busy.ask(), await busy.ask()
    busy.fleet.dispatcher.aclose()
    assert (second.client.status, second.error) == (503, "no_backend_available")
    first.stream.feed(OK)
    assert first.client.complete
    busy.assert_idle()


# ── an engine that cannot be reached ───────────────────────────────────────────────────────────


@pytest.fixture
async def alone(make_scene: Callable[..., Scene]) -> Scene:
    """The only engine."""
    scene = make_scene(backends=1, queue=QueueSettings(max_wait_s=10))
    scene.fleet.expecting = True
    return scene


async def test_who_could_not_reach_the_only_engine_waits_for_it(alone: Scene) -> None:
    """It is probed at once, and served when it is back."""
    alone.tunnels[0].refuse()
    asked = await alone.ask(b"POST", CHAT, body=chat())
    assert asked.client.calls == []
    assert waiting(alone) == 1
    assert alone.fleet.doubted == [1]
    await asyncio.sleep(4)
    assert story(alone)["state"] == "waiting"
    assert story(alone)["queue_ms"] == pytest.approx(4000, abs=10)
    alone.tunnels[0].refusal = None
    available(alone, 1)
    await settle()
    assert body_of(asked.stream) == chat()
    asked.stream.feed(OK)
    assert asked.client.complete
    assert alone.access.lines == [(200, 2, 2, len(chat()), 1)]
    claim = alone.fleet.traces.latest(1)[0]
    assert [lease.outcome for lease in claim.leases] == ["failed", "answered"]
    assert claim.queued_s == pytest.approx(4, abs=0.01)
    alone.assert_idle(failures=1)


async def test_an_engine_that_never_comes_back_is_a_503_after_the_wait(alone: Scene) -> None:
    alone.tunnels[0].refuse()
    asked = await alone.ask()
    await asyncio.sleep(9.9)
    assert asked.client.calls == []
    await asyncio.sleep(0.2)
    assert told(asked)[:2] == (503, "no_backend_available")
    assert asked.client.header(b"x-vastproxy-instance") == b"1"
    alone.assert_idle(failures=1)


async def test_an_engine_that_fails_again_and_again_ends_it(alone: Scene) -> None:
    """Attempts are counted however long it has waited in between."""
    alone.tunnels[0].refuse()
    asked = await alone.ask()
    for _ in range(2):
        assert asked.client.calls == []
        available(alone, 1)
        await settle()
    assert (asked.client.status, asked.error) == (502, "backend_unreachable")
    assert alone.access.lines[0][1] == alone.settings.upstream.max_attempts == 3
    alone.assert_idle(failures=3)


async def test_who_leaves_while_the_only_engine_is_away(alone: Scene) -> None:
    alone.tunnels[0].refuse()
    asked = await alone.ask()
    asked.exchange.client_left()
    assert alone.access.lines == [(499, 1, 0, 0, 1)]
    alone.tunnels[0].refusal = None
    available(alone, 1)
    await settle()
    assert alone.streams == []
    alone.assert_idle(failures=1)


async def test_a_body_goes_on_growing_while_the_only_engine_is_away(alone: Scene) -> None:
    alone.tunnels[0].refuse()
    asked = await alone.ask(b"POST", b"/v1/x", body=b"one", complete=False, framing=CHUNKED)
    await gathered()
    assert waiting(alone) == 1
    asked.exchange.client_data(b"two", complete=False)
    alone.tunnels[0].refusal = None
    available(alone, 1)
    await settle()
    asked.exchange.client_data(b"three", complete=True)
    assert body_of(asked.stream) == b"onetwothree"
    asked.stream.feed(OK)
    alone.assert_idle(failures=1)


async def test_everybody_who_waited_is_served_when_it_is_back(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(backends=1, admission=ONE_EACH, queue=QueueSettings(max_wait_s=10))
    scene.fleet.expecting = True
    unavailable(scene, 1)
    asked = [await scene.ask() for _ in range(5)]
    available(scene, 1)
    for _ in asked:
        await settle()
        assert scene.backends[0].in_flight == 1
        scene.streams[-1].feed(OK)
    assert [each.client.status for each in asked] == [200] * 5
    scene.assert_idle()
