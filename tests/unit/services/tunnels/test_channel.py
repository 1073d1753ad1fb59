"""The differences between an asyncssh channel and a TCP transport that real sshd does not provoke."""

import asyncio
from collections.abc import Callable

import pytest

from vastproxy.services.tunnels.base import Stream
from vastproxy.services.tunnels.channel import ChannelStream


class FakeChannel:
    """The part of asyncssh's channel that is used; says what was called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_open = True

    def write(self, data: bytes) -> None:
        if not self.is_open:
            raise BrokenPipeError
        self.calls.append(f"write {data!r}")

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.calls.append(name)


class Protocol(asyncio.Protocol):
    def __init__(self, fails_in: str = "") -> None:
        self.fails_in = fails_in
        self.events: list[str] = []
        self.stream: Stream

    def _note(self, event: str) -> None:
        self.events.append(event)
        if event.split()[0] == self.fails_in:
            raise RuntimeError(event)

    def connection_made(self, transport: Stream) -> None:  # type: ignore[override]
        self.stream = transport
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self._note(f"data {data!r}")

    def eof_received(self) -> bool:
        self._note("eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._note(f"lost {exc!r}")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")


def opened(fails_in: str = "", end: Exception | None = None) -> tuple[ChannelStream[Protocol], FakeChannel]:
    channel = FakeChannel()
    stream = ChannelStream(
        lambda: Protocol(fails_in), lambda exc: exc if exc is not None else end, asyncio.get_running_loop()
    )
    stream.connection_made(channel)
    return stream, channel


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_an_end_in_good_order_is_always_preceded_by_eof() -> None:
    """asyncssh swallows an EOF that comes together with the end while reading is paused."""
    stream, _ = opened()
    stream.connection_lost(None)
    assert stream.protocol.events == ["made", "eof", "lost None"]
    once, _ = opened()
    assert once.eof_received()
    once.connection_lost(None)
    assert once.protocol.events == ["made", "eof", "lost None"]


async def test_a_connection_that_ended_in_good_order_is_a_loss_for_its_streams() -> None:
    stream, _ = opened(end=ConnectionError("closed"))
    stream.connection_lost(None)
    assert stream.protocol.events == ["made", "lost ConnectionError('closed')"]


async def test_the_end_is_told_once() -> None:
    stream, _ = opened()
    stream.abort()
    stream.connection_lost(OSError())
    stream.connection_lost(None)
    await settle()
    assert stream.protocol.events == ["made", "lost None"]


async def test_after_abort_nothing_but_the_end_is_told() -> None:
    stream, channel = opened()
    stream.abort()
    stream.abort()
    assert stream.eof_received()
    await settle()
    stream.pause_writing()
    stream.resume_writing()
    assert stream.protocol.events == ["made", "lost None"]
    assert stream.is_closing()
    assert channel.calls.count("abort") <= 2


async def test_writing_to_a_closed_channel_is_dropped() -> None:
    stream, channel = opened()
    stream.write(b"one")
    channel.is_open = False
    stream.write(b"two")
    assert channel.calls == ["write b'one'"]


async def test_close_is_handed_on_once() -> None:
    stream, channel = opened()
    assert not stream.is_closing()
    stream.close()
    stream.close()
    assert channel.calls == ["close"]
    assert stream.is_closing()
    stream.connection_lost(None)
    assert stream.protocol.events == ["made", "lost None"]


async def test_a_pause_right_after_a_resume_wins() -> None:
    stream, channel = opened()
    stream.resume_reading()
    stream.pause_reading()
    stream.resume_reading()
    stream.pause_reading()
    await settle()
    assert channel.calls == ["pause_reading", "pause_reading"]
    stream.resume_reading()
    await settle()
    assert channel.calls[-1] == "resume_reading"


@pytest.mark.parametrize("where", ["data", "eof", "pause", "resume"])
async def test_a_protocol_that_raises_ends_its_stream_with_that_error(where: str) -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: reports.append(context["exception"])
    )
    stream, channel = opened(fails_in=where)
    calls: dict[str, Callable[[], object]] = {
        "data": lambda: stream.data_received(b"x", None),
        "eof": stream.eof_received,
        "pause": stream.pause_writing,
        "resume": stream.resume_writing,
    }
    calls[where]()
    await settle()
    assert stream.protocol.events[-1].startswith("lost RuntimeError")
    assert channel.calls == ["abort"]
    assert [type(report) for report in reports] == [RuntimeError]


async def test_a_protocol_that_raises_at_its_end_is_reported() -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: reports.append(context["exception"])
    )
    stream, _ = opened(fails_in="lost")
    stream.connection_lost(None)
    assert [str(report) for report in reports] == ["lost None"]


async def test_a_protocol_that_raises_at_its_start_takes_the_channel_with_it() -> None:
    channel = FakeChannel()
    stream = ChannelStream(lambda: Protocol("made"), lambda exc: exc, asyncio.get_running_loop())
    with pytest.raises(RuntimeError, match="made"):
        stream.connection_made(channel)
    stream.connection_lost(None)
    assert channel.calls == ["abort"]
    assert stream.protocol.events == ["made"]


async def test_a_stream_abandoned_before_it_opened_never_makes_its_protocol() -> None:
    made: list[Protocol] = []

    def factory() -> Protocol:
        made.append(Protocol())
        return made[-1]

    channel = FakeChannel()
    stream = ChannelStream(factory, lambda exc: exc, asyncio.get_running_loop())
    stream.abandon()
    stream.connection_made(channel)
    stream.connection_lost(None)
    await settle()
    assert (made, channel.calls) == ([], ["abort"])


async def test_a_stream_abandoned_after_it_opened_is_aborted() -> None:
    stream, channel = opened()
    stream.abandon()
    await settle()
    assert channel.calls == ["abort"]
    assert stream.protocol.events == ["made", "lost None"]
