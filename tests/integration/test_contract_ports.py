"""Ports that open and ports that do not, over both engines against OpenSSH's sshd; see `Tunnel.open`."""

import asyncio
from pathlib import Path as FilePath

import pytest

from tests.helpers.contract import echoes, outcome_of
from tests.helpers.ssh_engines import tunnel_over
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, Recorder, echo, unused_port
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.services.errors import ChannelRefused

#: uvloop's transports differ from asyncio's in how they close and in what a cancellation leaves.
pytestmark = BOTH_LOOPS


async def test_a_closed_port_is_refused_and_the_tunnel_lives_on(sshd: Sshd, engine: str) -> None:
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        closed = await unused_port()
        for _ in range(2):
            with pytest.raises(
                ChannelRefused,
                match=rf"^instance 7 \(direct 127.0.0.1:{sshd.port}\) does not open port {closed}: ",
            ):
                await tunnel.open(Recorder, closed)
        await echoes(tunnel, peer.port)


async def test_refused_and_open_ports_side_by_side(sshd: Sshd, engine: str) -> None:
    """Of forty opened at once every second one is refused, and it is the right ones."""
    async with Peer().serve(echo) as peer, tunnel_over(engine, sshd) as tunnel:
        closed = await unused_port()
        ports = [closed if n % 2 else peer.port for n in range(40)]
        outcomes = await asyncio.gather(*(outcome_of(tunnel.open(Recorder, port)) for port in ports))
        assert [type(outcome) for outcome in outcomes] == [Recorder, ChannelRefused] * 20
        for outcome in outcomes:
            if isinstance(outcome, Recorder):
                outcome.stream.close()
                await outcome.lost.wait()


async def test_a_forbidden_port_is_refused_with_the_reason(tmp_path: FilePath, engine: str) -> None:
    with Sshd(tmp_path / "sshd", config=["AllowTcpForwarding no"]) as server:
        async with tunnel_over(engine, server) as tunnel:
            with pytest.raises(ChannelRefused, match="AllowTcpForwarding"):
                await tunnel.open(Recorder, 80)
