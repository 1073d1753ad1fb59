"""What happens reaches listeners at once, streams when they are read, and latecomers as far as it is remembered."""

import asyncio
import logging
from dataclasses import fields
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.state import Event, State
from vastproxy.services.events import (
    AccountRead,
    BackendAdded,
    BackendRemoved,
    CreditLow,
    EngineEjected,
    EngineReturned,
    FleetEvent,
    Heard,
    LabelWritten,
    MachineKnown,
    PathChanged,
    PollFailed,
    RequestFailed,
    RequestsCancelled,
    StateChanged,
    TokenRefused,
    log_event,
)
from vastproxy.services.happenings import EventBus, EventStream, Happening, kind_of
from vastproxy.vastai.handlers.events import Decision, Verdict

ONE_OF_EACH: tuple[FleetEvent, ...] = (
    BackendAdded(5),
    BackendRemoved(5, "stopped"),
    StateChanged(5, State.HEALTHY, State.UNHEALTHY, Event.FAILING, "no answer"),
    PathChanged(5, None, ""),
    EngineEjected(5, 8000, 10.0, "refused"),
    EngineReturned(5, 8000),
    TokenRefused(5, 8000, "401"),
    LabelWritten(5, "proxied"),
    AccountRead(3, 2),
    PollFailed("no answer"),
    Heard(Decision(Verdict.SUSPECT, (5,), "vast.ai says: outbid")),
    RequestFailed(5, "r1", "m", 502, "backend_unreachable", "nobody listens", 3),
    RequestsCancelled(5, 3, "by the operator (ops)"),
    CreditLow(9_000.0, 1.25),
    MachineKnown(5, 77, 12.5, 0.97),
)


def one_of(kind: type[FleetEvent]) -> FleetEvent:
    return next(event for event in ONE_OF_EACH if type(event) is kind)


def events(count: int, first: int = 0) -> list[LabelWritten]:
    return [LabelWritten(number % 3, str(number)) for number in range(first, first + count)]


def labels(happenings: list[Happening]) -> list[str]:
    return [one.event.label for one in happenings if isinstance(one.event, LabelWritten)]


def test_here_is_one_of_each_kind() -> None:
    assert {type(event) for event in ONE_OF_EACH} == set(get_args(FleetEvent))


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_each_kind_is_told_with_all_of_its_fields(event: FleetEvent) -> None:
    told = Happening(7, 1000.0, event).to_json()
    assert (told["seq"], told["at_unix"], told["kind"]) == (7, 1000.0, kind_of(type(event)))
    assert told["level"] in {"info", "warning", "error"}
    assert told["text"]
    assert told["instance"] == getattr(event, "instance_id", None)
    own = {field.name for field in fields(event)} - {"instance_id", "decision"}
    assert own <= set(told)


def test_kinds_have_names_for_programs() -> None:
    assert kind_of(StateChanged) == "state_changed"
    assert kind_of(RequestFailed) == "request_failed"
    assert kind_of(Heard) == "heard"


def test_what_programs_are_told() -> None:
    told = Happening(1, 2.0, StateChanged(5, State.CONNECTING, State.HEALTHY, Event.SERVING, "")).to_json()
    assert told == {
        "seq": 1,
        "at_unix": 2.0,
        "kind": "state_changed",
        "level": "info",
        "instance": 5,
        "text": "[backend=5] connecting → healthy",
        "before": "connecting",
        "after": "healthy",
        "cause": "serving",
        "detail": "",
    }
    heard = Happening(1, 2.0, one_of(Heard)).to_json()
    assert (heard["verdict"], heard["instances"]) == ("suspect", [5])
    failed = Happening(1, 2.0, one_of(RequestFailed)).to_json()
    assert failed["level"] == "warning"
    assert failed["text"] == (
        "[backend=5] request r1 failed with 502 backend_unreachable: nobody listens (and 3 more like it)"
    )


def test_the_log_has_the_same_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for event in ONE_OF_EACH:
        log_event(event)
    assert caplog.messages == [Happening(1, 0.0, event).text for event in ONE_OF_EACH]
    levels = {record.message: record.levelname for record in caplog.records}
    assert levels["[backend=5] added"] == "INFO"
    assert levels["[backend=5] healthy → unhealthy: no answer"] == "WARNING"


# ── listeners ──────────────────────────────────────────────────────────────────────────────────


def test_listeners_hear_at_once_and_in_order_until_they_leave() -> None:
    bus = EventBus()
    heard: list[tuple[str, FleetEvent]] = []
    leave = bus.subscribe(lambda event: heard.append(("a", event)))
    bus.subscribe(lambda event: heard.append(("b", event)))
    bus.publish(BackendAdded(1))
    leave()
    leave()
    bus.publish(BackendAdded(2))
    assert heard == [("a", BackendAdded(1)), ("b", BackendAdded(1)), ("b", BackendAdded(2))]


def test_a_listener_that_fails_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    bus = EventBus()
    heard: list[FleetEvent] = []

    def fail(event: FleetEvent) -> None:
        raise RuntimeError("oops")

    bus.subscribe(fail)
    bus.subscribe(heard.append)
    bus.publish(BackendAdded(1))
    bus.publish(BackendAdded(2))
    assert heard == [BackendAdded(1), BackendAdded(2)]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


# ── memory ─────────────────────────────────────────────────────────────────────────────────────


def test_the_last_ones_are_remembered_with_their_times() -> None:
    now = 50.0
    bus = EventBus(kept=5, wall_clock=lambda: now)
    for event in events(8):
        bus.publish(event)
    assert labels(bus.latest(100)) == ["3", "4", "5", "6", "7"]
    assert labels(bus.latest(2)) == ["6", "7"]
    assert bus.latest(0) == []
    assert labels(bus.latest(9, instance_id=1)) == ["4", "7"]
    assert {one.at_unix for one in bus.latest(9)} == {50.0}


@given(st.integers(0, 30), st.integers(1, 10), st.integers(-3, 40))
def test_whoever_comes_back_misses_nothing_that_he_is_not_told_of(count: int, kept: int, read: int) -> None:
    """What he gets and what he is told is gone are all that happened since."""
    bus = EventBus(kept=kept, wall_clock=lambda: 1.0)
    known = [bus.seq]
    for event in events(count):
        bus.publish(event)
        known.append(bus.seq)
    if 1 <= read <= count:
        found, gone = bus.since(known[read])
        assert len(found) + gone == count - read
        assert [one.seq for one in found] == known[len(known) - len(found) :]
    else:
        assert bus.since(known[0] + read if read < 0 else bus.seq + 1 + read)[1] == 0


def test_numbers_of_a_process_before_are_not_mistaken_for_ones_of_this() -> None:
    before = EventBus(wall_clock=lambda: 1000.0)
    for event in events(50):
        before.publish(event)
    after = EventBus(wall_clock=lambda: 1005.0)
    for event in events(3):
        after.publish(event)
    found, gone = after.since(before.seq)
    assert (labels(found), gone) == (["0", "1", "2"], 0)


# ── streams ────────────────────────────────────────────────────────────────────────────────────


async def test_a_stream_has_what_happens_from_its_beginning_on() -> None:
    bus = EventBus()
    bus.publish(BackendAdded(1))
    with bus.stream() as stream:
        for event in events(3):
            bus.publish(event)
        async with asyncio.timeout(30):
            got = [await anext(stream) for _ in range(3)]
        assert labels(got) == ["0", "1", "2"]
    assert bus.streams == 0


async def test_a_stream_waits_for_what_comes() -> None:
    bus = EventBus()
    with bus.stream() as stream:
        asyncio.get_running_loop().call_soon(bus.publish, BackendAdded(1))
        async with asyncio.timeout(30):
            assert (await anext(stream)).event == BackendAdded(1)


async def test_a_closed_stream_gives_what_it_has_and_ends() -> None:
    bus = EventBus()
    stream = bus.stream()
    for event in events(2):
        bus.publish(event)
    stream.close()
    stream.close()
    bus.publish(BackendAdded(9))
    async with asyncio.timeout(30):
        assert labels([one async for one in stream]) == ["0", "1"]
        await stream.wait()
    assert stream.is_closed


async def test_closing_wakes_who_waits() -> None:
    bus = EventBus()
    stream = bus.stream()
    asyncio.get_running_loop().call_soon(stream.close)
    async with asyncio.timeout(30):
        assert [one async for one in stream] == []


def test_a_stream_needs_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EventBus().stream(limit=0)


@given(st.integers(1, 8), st.lists(st.integers(0, 12), max_size=8))
def test_a_stream_is_bounded_and_counts_what_it_drops(limit: int, bursts: list[int]) -> None:
    """Whatever comes between two looks: what is taken and what is lost are all, in order, the newest kept."""

    async def run() -> None:
        bus = EventBus(kept=1)
        stream: EventStream = bus.stream(limit=limit)
        taken: list[str] = []
        published = 0
        for burst in bursts:
            for event in events(burst, published):
                bus.publish(event)
            published += burst
            assert len(stream) <= limit
            got = labels(stream.take())
            assert got == [str(number) for number in range(published - len(got), published)]
            taken += got
        assert len(taken) + stream.lost == published
        stream.close()

    asyncio.run(run())
