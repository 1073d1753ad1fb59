"""Host keys as both engines check them against OpenSSH's sshd; see `TunnelEngine.connect`."""

import asyncio
from pathlib import Path as FilePath

import pytest

from tests.helpers.ssh_engines import ENGINES, engine_named, tunnel_of
from tests.helpers.sshd import Sshd, make_key
from tests.helpers.tunnelling import direct, relay, target_for
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.services.errors import TunnelRefused
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostkeys import HostKeyPins

#: uvloop's transports differ from asyncio's in how they close and in what a cancellation leaves.
pytestmark = BOTH_LOOPS


async def test_a_changed_host_key_is_refused_before_the_login(
    sshd: Sshd, engine: str, tmp_path: FilePath
) -> None:
    """The pin holds across a restart of the proxy, and per path; sshd sees no login."""
    file = tmp_path / "state" / "host_keys.json"
    address = direct(sshd.port)
    async with tunnel_of(engine_named(engine, sshd, pins=HostKeyPins(file)), address):
        pass
    await asyncio.to_thread(sshd.stop)
    sshd.new_host_key()
    await asyncio.to_thread(sshd.start)
    pins = HostKeyPins(file)
    ours, logins = engine_named(engine, sshd, pins=pins), sshd.log.count("Accepted publickey")
    with pytest.raises(TunnelRefused, match=r"^HOST KEY CHANGED: instance 7 .*SHA256:"):
        await ours.connect(target_for(address), address)
    assert sshd.log.count("Accepted publickey") == logins
    async with tunnel_of(ours, relay(sshd.port)):
        pass
    await pins.recycled("7@1700000001")
    async with tunnel_of(ours, address):
        pass


async def test_both_engines_pin_the_same_key(sshd: Sshd) -> None:
    """What one engine pinned at first sight, the other one accepts."""
    address = direct(sshd.port)
    for first, second in (ENGINES, ENGINES[::-1]):
        pins = HostKeyPins(None)
        async with tunnel_of(engine_named(first, sshd, pins=pins), address):
            assert pins.pinned("7@1700000000", Path.DIRECT) == sshd.host_key
        async with tunnel_of(engine_named(second, sshd, pins=pins), address):
            pass


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
async def test_the_pinned_kind_of_key_is_asked_for(
    sshd: Sshd, engine: str, tmp_path: FilePath, kind: str
) -> None:
    """A server that gets a second, better host key is still known by the first one."""
    await asyncio.to_thread(sshd.stop)
    sshd.new_host_key(kind=kind)
    await asyncio.to_thread(sshd.start)
    pins = HostKeyPins(None)
    ours = engine_named(engine, sshd, pins=pins)
    async with tunnel_of(ours, direct(sshd.port)):
        assert pins.pinned("7@1700000000", Path.DIRECT) == sshd.host_key
    await asyncio.to_thread(sshd.stop)
    second = make_key(tmp_path / "second")
    with Sshd(tmp_path / "other", config=[f"HostKey {second}", f"HostKey {sshd.host_key_path}"]) as both:
        both.authorize(sshd.client_key_path)
        async with tunnel_of(ours, direct(both.port)):
            pass
