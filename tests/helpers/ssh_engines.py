"""Both SSH engines behind one name, for tests of what every engine promises."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Any

from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import direct, keys_of, target_for
from vastproxy.services.tunnels.asyncssh_engine import AsyncsshEngine
from vastproxy.services.tunnels.base import SshAddress, Tunnel, TunnelEngine
from vastproxy.services.tunnels.hostcheck import PinnedHostKeys
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.keys import ClientKeys
from vastproxy.services.tunnels.paramiko_slots import Slots
from vastproxy.services.tunnels.paramiko_tunnel import ParamikoTunnel
from vastproxy.services.tunnels.sshtunnel_engine import SshtunnelEngine
from vastproxy.settings.model import TunnelSettings

ENGINES = ("asyncssh", "sshtunnel")


def engine_named(
    name: str,
    sshd: Sshd,
    *,
    pins: HostKeyPins | None = None,
    key_path: FilePath | None = None,
    **settings: Any,
) -> TunnelEngine:
    """The engine of this name that logs in to `sshd`, with its client key or another one."""
    if name == "sshtunnel":
        return sshtunnel_engine(sshd, pins=pins, key_path=key_path, **settings)
    return AsyncsshEngine(
        TunnelSettings.model_validate(settings),
        keys=keys_of(key_path or sshd.client_key_path),
        host_keys=PinnedHostKeys(pins or HostKeyPins(None)),
        username=sshd.username,
    )


def sshtunnel_engine(
    sshd: Sshd,
    *,
    pins: HostKeyPins | None = None,
    key_path: FilePath | None = None,
    keys: ClientKeys | None = None,
    slots: Slots | None = None,
    **settings: Any,
) -> SshtunnelEngine:
    """The second engine, with what only it has."""
    return SshtunnelEngine(
        TunnelSettings.model_validate(settings),
        keys=keys or keys_of(key_path or sshd.client_key_path),
        host_keys=PinnedHostKeys(pins or HostKeyPins(None)),
        username=sshd.username,
        slots=slots,
    )


@contextlib.asynccontextmanager
async def tunnel_of(engine: TunnelEngine, address: SshAddress) -> AsyncIterator[Tunnel]:
    """A tunnel, closed at the end."""
    tunnel = await engine.connect(target_for(address), address)
    try:
        yield tunnel
    finally:
        await tunnel.close()


@contextlib.asynccontextmanager
async def tunnel_over(
    name: str, sshd: Sshd, *, port: int | None = None, **settings: Any
) -> AsyncIterator[Tunnel]:
    """A tunnel of the named engine to `sshd`, or to `port`, which leads there."""
    async with tunnel_of(engine_named(name, sshd, **settings), direct(port or sshd.port)) as tunnel:
        yield tunnel


@contextlib.asynccontextmanager
async def paramiko_tunnel(engine: SshtunnelEngine, sshd: Sshd) -> AsyncIterator[ParamikoTunnel]:
    """A tunnel of the second engine, with what only it has."""
    address = direct(sshd.port)
    tunnel = await engine.connect(target_for(address), address)
    try:
        yield tunnel
    finally:
        await tunnel.close()
