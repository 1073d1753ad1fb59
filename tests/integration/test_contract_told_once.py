"""What the owner of a stream hears of its end: once, as the last thing, and calls after it do no harm.

Over both engines against OpenSSH's sshd.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.helpers.ssh_engines import tunnel_over
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, echo
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.base import Tunnel

pytestmark = BOTH_LOOPS


class Strict(Recorder):
    """Notes whatever is called after the end."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[str] = []

    def _note(self, what: str) -> None:
        if self.lost.is_set():
            self.late.append(what)

    def data_received(self, data: bytes) -> None:
        self._note("data_received")
        super().data_received(data)

    def eof_received(self) -> bool:
        self._note("eof_received")
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("connection_lost")
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._note("pause_writing")
        super().pause_writing()

    def resume_writing(self) -> None:
        self._note("resume_writing")
        super().resume_writing()


async def close(caller: Strict, tunnel: Tunnel, sshd: Sshd) -> None:
    caller.stream.close()
    caller.stream.close()
    caller.stream.abort()


async def abort(caller: Strict, tunnel: Tunnel, sshd: Sshd) -> None:
    caller.stream.write(b"x" * 300_000)
    caller.stream.abort()
    caller.stream.abort()
    caller.stream.close()


async def finish(caller: Strict, tunnel: Tunnel, sshd: Sshd) -> None:
    """The other side closes when we have finished."""
    caller.stream.write_eof()
    caller.stream.write_eof()


async def close_tunnel(caller: Strict, tunnel: Tunnel, sshd: Sshd) -> None:
    caller.stream.write(b"x" * 300_000)
    await tunnel.close()


async def kill_session(caller: Strict, tunnel: Tunnel, sshd: Sshd) -> None:
    caller.stream.write(b"x" * 300_000)
    await asyncio.to_thread(sshd.kill_sessions)


async def close_all_at_once(caller: Strict, tunnel: Tunnel, sshd: Sshd) -> None:
    caller.stream.close()
    await asyncio.gather(tunnel.close(), asyncio.to_thread(sshd.kill_sessions))


@pytest.mark.parametrize("end", [close, abort, finish, close_tunnel, kill_session, close_all_at_once])
async def test_the_end_is_told_once_and_nothing_after_it(
    sshd: Sshd, engine: str, end: Callable[[Strict, Tunnel, Sshd], Awaitable[None]]
) -> None:
    """Whoever ended it; reading and writing after the end raise nothing and change nothing."""
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        callers = [await tunnel.open(Strict, peer.port) for _ in range(3)]
        for caller in callers:
            caller.stream.write(b"begun")
            await caller.has_received(5)
        for caller in callers:
            await end(caller, tunnel, sshd)
        for caller in callers:
            await caller.lost.wait()
            assert caller.stream.is_closing()
            caller.stream.write(b"late")
            caller.stream.write_eof()
            caller.stream.pause_reading()
            caller.stream.resume_reading()
            caller.stream.close()
            caller.stream.abort()
        await tunnel.close()
        for caller in callers:
            assert caller.late == []
            assert caller.events.count("lost") == 1


async def test_the_end_of_a_tunnel_is_no_cancellation(sshd: Sshd, engine: str) -> None:
    """`lost` is the same future all along; who gives up waiting for it takes it from nobody else."""
    async with tunnel_over(engine, sshd) as tunnel:
        lost = tunnel.lost
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await asyncio.shield(lost)
        assert tunnel.lost is lost
        assert not lost.done()
        await asyncio.to_thread(sshd.kill_sessions)
        assert isinstance(await asyncio.shield(lost), TunnelLost)
        assert not tunnel.is_alive
        await tunnel.close()
        assert not lost.cancelled()
        assert isinstance(lost.result(), TunnelLost)
