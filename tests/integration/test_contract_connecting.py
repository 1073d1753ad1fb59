"""Logging in and failing to, with both engines against OpenSSH's sshd and others; see `TunnelEngine.connect`."""

import asyncio
from pathlib import Path as FilePath

import pytest

from tests.helpers.contract import silent
from tests.helpers.processes import wait_until
from tests.helpers.ssh_engines import engine_named, tunnel_of
from tests.helpers.sshd import Sshd, make_key
from tests.helpers.tunnelling import Peer, direct, target_for, unused_port
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.services.errors import TunnelLost, TunnelRefused

#: uvloop's transports differ from asyncio's in how they close and in what a cancellation leaves.
pytestmark = BOTH_LOOPS


async def test_a_key_that_is_not_accepted_is_refused_with_the_remedy(sshd: Sshd, engine: str) -> None:
    sshd.authorize()
    address = direct(sshd.port)
    with pytest.raises(TunnelRefused) as refusal:
        await engine_named(engine, sshd).connect(target_for(address), address)
    key = sshd.client_key_path
    login = "" if sshd.username == "root" else f" for user {sshd.username}"
    assert str(refusal.value) == (
        f"instance 7 (direct 127.0.0.1:{sshd.port}) does not accept the key {key}{login}; "
        f'attach it with: vastai attach ssh 7 "$(cat {key}.pub)"'
    )


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
async def test_every_kind_of_client_key_logs_in(
    sshd: Sshd, engine: str, tmp_path: FilePath, kind: str
) -> None:
    path = make_key(tmp_path / "key", kind=kind)
    sshd.authorize(path)
    async with tunnel_of(engine_named(engine, sshd, key_path=path), direct(sshd.port)) as tunnel:
        assert tunnel.is_alive


async def test_nobody_listening_is_a_loss_that_names_the_address(sshd: Sshd, engine: str) -> None:
    address = direct(await unused_port())
    with pytest.raises(TunnelLost, match=rf"^instance 7 \({address}\) refuses connections"):
        await engine_named(engine, sshd).connect(target_for(address), address)


async def test_a_silent_server_is_given_up_in_time(sshd: Sshd, engine: str) -> None:
    """Accepts and says nothing: connecting ends after connect_timeout_s."""
    async with Peer().serve(silent) as peer:
        address = direct(peer.port)
        with pytest.raises(TunnelLost, match=r"did not complete an SSH login within 0.2 s"):
            await engine_named(engine, sshd, connect_timeout_s=0.2).connect(target_for(address), address)


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n" + bytes(400), b"SSH-2.0-x\r\n", b""]
)
async def test_something_that_is_no_ssh_server_is_a_loss(sshd: Sshd, engine: str, greeting: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        await reader.read(1)

    async with Peer().serve(talk) as peer:
        address = direct(peer.port)
        with pytest.raises(TunnelLost, match=r"^instance 7 \(direct 127.0.0.1"):
            await engine_named(engine, sshd).connect(target_for(address), address)


async def test_a_cancelled_connect_leaves_no_connection(sshd: Sshd, engine: str) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()

    arrived = asyncio.Event()
    async with Peer().serve(hold) as peer:
        address = direct(peer.port)
        async with asyncio.TaskGroup() as group:
            connecting = group.create_task(engine_named(engine, sshd).connect(target_for(address), address))
            await arrived.wait()
            connecting.cancel()
        await peer.all_closed.wait()


async def test_connects_cancelled_at_any_time_leave_no_session(sshd: Sshd, engine: str) -> None:
    """Cancelled 0 to 120 ms after the start, through TCP, key exchange, login and first command."""
    ours, address = engine_named(engine, sshd), direct(sshd.port)
    for wait_ms in range(0, 121, 8):
        connecting = asyncio.ensure_future(ours.connect(target_for(address), address))  # noqa: TID251
        await asyncio.wait([connecting], timeout=wait_ms / 1000)
        if not connecting.cancel():
            await connecting.result().close()
        await asyncio.wait([connecting])
    await asyncio.to_thread(
        wait_until, lambda: not sshd.children(), limit_s=5, what="all sessions have ended"
    )


async def test_at_most_so_many_handshakes_at_the_same_time(sshd: Sshd, engine: str) -> None:
    most = now = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.1)  # others would come, if they could
        now -= 1

    async with Peer().serve(count) as peer:
        address = direct(peer.port)
        ours = engine_named(engine, sshd, max_handshakes=3)
        results = await asyncio.gather(
            *(ours.connect(target_for(address), address) for _ in range(9)), return_exceptions=True
        )
        assert [type(result) for result in results] == [TunnelLost] * 9
        assert peer.connections == 9
        assert most <= 3
