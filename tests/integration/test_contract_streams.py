"""What a stream carries, and how it ends, over both engines against OpenSSH's sshd; see `Stream` and `Tunnel.open`."""

import asyncio
from typing import Any

import pytest

from tests.helpers.contract import echoes
from tests.helpers.ssh_engines import tunnel_over
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, echo
from tests.helpers.uv import BOTH_LOOPS

#: uvloop's transports differ from asyncio's in how they close and in what a cancellation leaves.
pytestmark = BOTH_LOOPS


async def test_a_stream_carries_bytes_both_ways_until_both_ends_have_finished(
    sshd: Sshd, engine: str
) -> None:
    """Data, our half-close, the other half-close and the end come in TCP's order."""
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        assert caller.events == ["made"]
        caller.stream.write(b"hello")
        await caller.has_received(5)
        caller.stream.write_eof()
        await caller.eof.wait()
        caller.stream.close()
        await caller.lost.wait()
        assert (caller.tail, caller.events, caller.lost_with) == (b"hello", ["made", "eof", "lost"], None)
        assert tunnel.is_alive


async def test_we_may_send_after_the_other_side_has_finished(sshd: Sshd, engine: str) -> None:
    """eof_received returning True keeps our half open; the stream ends when both halves have."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def finish_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"response")
        writer.write_eof()
        got.set_result(await reader.read())

    async with Peer().serve(finish_first) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        await caller.eof.wait()
        assert caller.tail == b"response"
        assert not caller.stream.is_closing()
        caller.stream.write(b"late request")
        caller.stream.write_eof()
        assert await got == b"late request"
        await caller.lost.wait()
        assert caller.lost_with is None


async def test_a_stream_whose_protocol_does_not_stay_ends_with_the_other_side(
    sshd: Sshd, engine: str
) -> None:
    """eof_received returning False closes the stream after the last byte; what is written then is dropped."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 100_000)

    async with Peer().serve(answer) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(lambda: Recorder(keep_open=False), peer.port)
        await caller.lost.wait()
        assert (caller.received, caller.events, caller.lost_with) == (100_000, ["made", "eof", "lost"], None)
        caller.stream.write(b"dropped, as TCP's transport does")
        caller.stream.write_eof()
        caller.stream.close()
        caller.stream.abort()


async def test_an_answer_is_whole_although_the_question_was_not_read(sshd: Sshd, engine: str) -> None:
    """The other side answers and closes while we still send: every byte of its answer arrives."""

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"a" * 50_000)
        writer.write_eof()
        await reader.read(-1)

    async with Peer().serve(hasty) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        caller.stream.write(b"q" * 300_000)
        await caller.eof.wait()
        assert caller.received == 50_000
        caller.stream.close()
        await caller.lost.wait()
        assert caller.lost_with is None


async def test_a_closed_stream_is_closed_inside_at_once(sshd: Sshd, engine: str) -> None:
    """`close` ends both halves over there, although the other side has neither sent nor finished anything."""
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.set_result(await reader.read())

    async with Peer().serve(wait_for_the_end) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        caller.stream.write(b"last words")
        caller.stream.close()
        assert await ended == b"last words"
        await caller.lost.wait()
        assert caller.lost_with is None


async def test_a_failing_protocol_ends_its_stream_and_not_the_tunnel(sshd: Sshd, engine: str) -> None:
    class Failing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("parser bug")

    reported: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(repr(context["exception"])))
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        failing = await tunnel.open(Failing, peer.port)
        failing.stream.write(b"boom")
        await failing.lost.wait()
        assert isinstance(failing.lost_with, RuntimeError)
        assert reported == ["RuntimeError('parser bug')"]
        await echoes(tunnel, peer.port)


async def test_an_exception_of_the_callers_factory_comes_back_and_closes_the_channel(
    sshd: Sshd, engine: str
) -> None:
    def broken() -> Recorder:
        raise ZeroDivisionError

    class Refusing(Recorder):
        def connection_made(self, transport: Any) -> None:
            raise ZeroDivisionError

    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        for factory in (broken, Refusing):
            with pytest.raises(ZeroDivisionError):
                await tunnel.open(factory, peer.port)
        await echoes(tunnel, peer.port)
        await peer.all_closed.wait()


@pytest.mark.parametrize("wish", ["close", "abort"])
async def test_a_stream_may_be_ended_as_soon_as_it_is_made(sshd: Sshd, engine: str, wish: str) -> None:
    """Inside `connection_made`, ten times beside another stream: only their own sockets are closed."""

    class Hasty(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            getattr(transport, wish)()

    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        for _ in range(10):
            caller = await tunnel.open(Hasty, peer.port)
            await echoes(tunnel, peer.port)
            await caller.lost.wait()
            assert caller.lost_with is None
        await peer.all_closed.wait()


async def test_abort_ends_a_stream_at_once_even_when_nobody_answers(sshd: Sshd, engine: str) -> None:
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        caller = await tunnel.open(Recorder, peer.port)
        sshd.freeze()
        caller.stream.abort()
        async with asyncio.timeout(10):  # far less than keepalives would need
            await caller.lost.wait()
        sshd.thaw()
        await peer.all_closed.wait()
        assert caller.lost_with is None
