"""Tunnels without SSH: plain TCP to this machine, for tests whose subject is not the tunnel."""

import asyncio
from collections.abc import Callable

from vastproxy.services.errors import ChannelRefused, TunnelLost
from vastproxy.services.tunnels.base import (
    CommandResult,
    SshAddress,
    StreamProtocolT,
    TunnelTarget,
)

GPU_LINE = "0, GPU-0, NVIDIA GeForce RTX 4090, 570.1, 37, 21, 21044, 24564, 52, 288.41, 450.00, P2, [N/A]\n"


class PlainTunnel:
    """Opens TCP connections to the port that stands for an instance's port."""

    def __init__(self, engine: "PlainEngine", instance_id: int, address: SshAddress) -> None:
        self._engine = engine
        self._instance_id = instance_id
        self._address = address
        self.is_doubted = False
        """Never: whoever is at the other end of a cable in this machine answers."""
        self.on_doubt: Callable[[bool], None] | None = None
        self._lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._transports: list[asyncio.Transport] = []

    @property
    def address(self) -> SshAddress:
        return self._address

    @property
    def is_alive(self) -> bool:
        return not self._lost.done()

    @property
    def lost(self) -> "asyncio.Future[Exception | None]":
        return self._lost

    async def open(
        self, factory: Callable[[], StreamProtocolT], port: int, *, host: str = "127.0.0.1"
    ) -> StreamProtocolT:
        if not self.is_alive:
            raise TunnelLost(f"the tunnel to instance {self._instance_id} is gone")
        real = self._engine.ports.get((self._instance_id, port))
        if real is None:
            raise ChannelRefused(f"port {port} of instance {self._instance_id} does not accept connections")
        try:
            transport, protocol = await asyncio.get_running_loop().create_connection(
                factory,
                host,
                real,  # type: ignore[type-var]  # a StreamProtocol is all that is used
            )
        except OSError as error:
            raise ChannelRefused(f"port {port} of instance {self._instance_id}: {error}") from error
        self._transports.append(transport)
        return protocol

    async def run(self, command: str, *, timeout_s: float, max_output_bytes: int = 1 << 20) -> CommandResult:
        return CommandResult(0, GPU_LINE if "nvidia-smi" in command else "", "")

    async def close(self) -> None:
        self.end(None)

    def end(self, error: Exception | None) -> None:
        """The connection ends, and everything on it."""
        if not self._lost.done():
            self._lost.set_result(error)
        for transport in self._transports:
            transport.abort()


class PlainEngine:
    """Makes them. `ports[(instance id, port inside)]` is the real port; `unreachable` instances do not answer."""

    def __init__(self) -> None:
        self.ports: dict[tuple[int, int], int] = {}
        self.unreachable: set[int] = set()
        self.tunnels: dict[int, list[PlainTunnel]] = {}

    async def connect(
        self, target: TunnelTarget, address: SshAddress, *, begun: Callable[[], None] | None = None
    ) -> PlainTunnel:
        if begun is not None:
            begun()
        if target.instance_id in self.unreachable:
            raise TunnelLost(f"instance {target.instance_id} ({address}): connection refused")
        tunnel = PlainTunnel(self, target.instance_id, address)
        self.tunnels.setdefault(target.instance_id, []).append(tunnel)
        return tunnel

    async def recycled(self, identity: str) -> None:
        """No host keys are kept."""

    async def close(self) -> None:
        pass

    def lose(self, instance_id: int) -> None:
        """The SSH connections of an instance break, and cannot be made again."""
        self.unreachable.add(instance_id)
        for tunnel in self.tunnels[instance_id]:
            tunnel.end(TunnelLost("connection reset"))
