"""The owner's end of a stream of the sshtunnel engine, on a transport that the test plays."""

import asyncio
from typing import Any, cast

import pytest

from tests.helpers.tunnelling import Recorder
from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.base import Stream
from vastproxy.services.tunnels.forwarded import Caller, ForwardedStream


class PlayedTransport:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def write(self, data: bytes) -> None:
        self.calls.append(f"write {data.decode()}")

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


class Scene:
    """A stream that its owner has."""

    def __init__(self, *, connect: bool = True, recorder: Recorder | None = None) -> None:
        self.forgotten: list[ForwardedStream] = []
        self.owner = recorder or Recorder()
        self.caller = Caller(asyncio.get_running_loop(), lambda: None)
        self.transport = PlayedTransport()
        self.stream = ForwardedStream(
            self.caller, self.owner, lambda: TunnelLost("gone"), self.forgotten.append
        )
        self.caller.stream = self.stream
        if connect:
            self.stream.connection_made(cast(asyncio.BaseTransport, self.transport))
            self.stream.adopted()
            self.transport.calls.clear()


async def test_the_owner_writes_through_it_until_the_end() -> None:
    scene = Scene()
    scene.owner.stream.write(b"one")
    scene.owner.stream.write_eof()
    scene.owner.stream.pause_reading()
    scene.owner.stream.resume_reading()
    scene.owner.stream.close()
    scene.owner.stream.write(b"late")
    scene.owner.stream.write_eof()
    scene.owner.stream.pause_reading()
    scene.owner.stream.resume_reading()
    assert scene.owner.stream.is_closing()
    assert scene.transport.calls == ["write one", "write_eof", "pause_reading", "resume_reading", "close"]


async def test_flow_control_reaches_the_owner() -> None:
    scene = Scene()
    scene.stream.pause_writing()
    assert not scene.owner.writable.is_set()
    scene.stream.resume_writing()
    assert scene.owner.writable.is_set()


async def test_a_loss_is_told_once_and_is_no_end_of_data() -> None:
    scene = Scene()
    scene.stream.lose()
    scene.stream.eof_received()
    scene.stream.data_received(b"late")
    scene.stream.connection_lost(None)
    scene.stream.lose()
    scene.stream.pause_writing()
    scene.stream.resume_writing()
    assert scene.owner.events == ["made", "lost"]
    assert (str(scene.owner.lost_with), scene.owner.received) == ("gone", 0)
    assert scene.forgotten == [scene.stream]
    assert "abort" in scene.transport.calls
    assert scene.caller.closed.is_set()


async def test_a_reset_by_the_relay_is_a_loss() -> None:
    """The loop hears of the socket before it hears of the connection."""
    scene = Scene()
    scene.caller.is_lost = True
    assert not scene.stream.eof_received()
    scene.stream.connection_lost(ConnectionResetError())
    assert isinstance(scene.owner.lost_with, TunnelLost)
    assert "eof" not in scene.owner.events


async def test_a_reset_that_nobody_explains_is_handed_on() -> None:
    scene = Scene()
    scene.stream.connection_lost(ConnectionResetError())
    assert isinstance(scene.owner.lost_with, ConnectionResetError)


async def test_a_reset_after_an_end_of_data_is_an_end() -> None:
    scene = Scene()
    assert scene.stream.eof_received()
    scene.stream.connection_lost(BrokenPipeError())
    assert scene.owner.lost_with is None


async def test_the_stream_ends_when_the_other_side_is_done_and_all_is_read() -> None:
    """First the data, then its end, and only then the end of the stream."""
    early = Scene()
    early.caller._note_done()
    assert early.transport.calls == []
    assert not early.stream.eof_received()
    late = Scene()
    assert late.stream.eof_received()
    assert late.transport.calls == []
    late.caller._note_done()
    assert late.transport.calls == ["close"]


async def test_a_tunnel_that_ends_before_the_owner_has_the_stream() -> None:
    scene = Scene(connect=False)
    scene.stream.lose()
    scene.stream.connection_made(cast(asyncio.BaseTransport, scene.transport))
    assert scene.transport.calls == ["pause_reading"]
    scene.stream.adopted()
    scene.stream.connection_lost(None)
    assert isinstance(scene.stream.failure, TunnelLost)
    assert scene.owner.events == []
    assert scene.transport.calls == ["pause_reading", "abort"]
    assert scene.forgotten == [scene.stream]


async def test_an_owner_who_raises_at_once_never_had_it() -> None:
    class Refusing(Recorder):
        def connection_made(self, transport: Stream) -> None:  # type: ignore[override]
            raise ZeroDivisionError

    scene = Scene(connect=False, recorder=Refusing())
    scene.stream.connection_made(cast(asyncio.BaseTransport, scene.transport))
    scene.stream.adopted()
    scene.stream.connection_lost(None)
    assert isinstance(scene.stream.failure, ZeroDivisionError)
    assert scene.owner.events == []
    assert scene.transport.calls == ["pause_reading", "abort"]


async def test_what_the_owner_asks_at_once_is_done_when_the_loop_has_the_socket() -> None:
    """Nothing is closed, and nothing read, before that."""
    for wish, done in (
        ("close", ["close"]),
        ("abort", ["abort"]),
        ("pause_reading", ["resume_reading", "pause_reading"]),
        ("is_closing", ["resume_reading"]),
    ):
        scene = Scene(connect=False)
        scene.stream.connection_made(cast(asyncio.BaseTransport, scene.transport))
        getattr(scene.owner.stream, wish)()
        assert scene.transport.calls == ["pause_reading"]
        scene.stream.adopted()
        assert scene.transport.calls[1:] == done


async def test_what_uvloop_reads_too_early_waits_for_the_owner() -> None:
    """Data and their end that come before the loop has handed the socket over, although nobody reads yet."""
    scene = Scene(connect=False)
    scene.stream.connection_made(cast(asyncio.BaseTransport, scene.transport))
    scene.owner.stream.pause_reading()
    scene.stream.data_received(b"early ")
    scene.stream.data_received(b"bird")
    assert scene.stream.eof_received()
    scene.stream.adopted()
    assert scene.owner.events == ["made"]
    scene.owner.stream.resume_reading()
    assert scene.owner.received == 0
    await asyncio.sleep(0)
    assert (scene.owner.tail, scene.owner.events) == (b"early bird", ["made", "eof"])
    assert "close" not in scene.transport.calls
    scene.owner.stream.resume_reading()
    await asyncio.sleep(0)
    assert scene.owner.events == ["made", "eof"]


async def test_an_early_end_closes_the_stream_of_an_owner_who_does_not_stay() -> None:
    scene = Scene(connect=False, recorder=Recorder(keep_open=False))
    scene.stream.connection_made(cast(asyncio.BaseTransport, scene.transport))
    scene.stream.eof_received()
    assert scene.transport.calls == ["pause_reading"]
    scene.stream.adopted()
    assert scene.transport.calls == ["pause_reading", "close"]


async def test_an_owner_who_fails_on_early_data_loses_the_stream() -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    scene = Scene(connect=False, recorder=Failing())
    scene.stream.connection_made(cast(asyncio.BaseTransport, scene.transport))
    scene.stream.data_received(b"boom")
    with pytest.raises(ZeroDivisionError):
        scene.stream.adopted()
    assert scene.transport.calls[-1] == "abort"


async def test_an_owner_who_pauses_on_early_data_reads_the_end_later() -> None:
    class Once(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.stream.pause_reading()

    scene = Scene(connect=False, recorder=Once())
    scene.stream.connection_made(cast(asyncio.BaseTransport, scene.transport))
    scene.stream.data_received(b"one")
    scene.stream.eof_received()
    scene.stream.adopted()
    assert (scene.owner.tail, scene.owner.events) == (b"one", ["made"])
    scene.owner.stream.resume_reading()
    await asyncio.sleep(0)
    assert scene.owner.events == ["made", "eof"]


async def test_whoever_waits_for_the_channel_is_told_once() -> None:
    scene = Scene()
    scene.caller.give_up()
    scene.caller.tell_opened(None)
    await asyncio.sleep(0)
    assert isinstance(scene.caller.opened.result(), ConnectionResetError)
