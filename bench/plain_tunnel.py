"""Instances without SSH: every stream is a TCP connection on this host, every command has a prepared answer.

What is left when the tunnels cost nothing is what our own code costs.
"""

import asyncio
from collections.abc import Callable

from vastproxy.services.errors import ChannelRefused
from vastproxy.services.tunnels.base import (
    CommandResult,
    SshAddress,
    StreamProtocolT,
    TunnelTarget,
)

#: One line of nvidia-smi, as a driver 570 prints it for the keeper's query.
GPU_LINE = (
    "{index}, GPU-1d0c7b3e-5f1b-6a53-9d2e-{index:012d}, NVIDIA H100 80GB HBM3, 570.124.06, "
    "97, 61, 71204, 81559, 63, 612.41, 700.00, P0, Disabled\n"
)


def gpu_text(count: int) -> str:
    """What nvidia-smi prints in an instance with so many GPUs."""
    return "".join(GPU_LINE.format(index=index) for index in range(count))


class PlainTunnel:
    """See `Tunnel` for the contract."""

    def __init__(self, address: SshAddress, output: str) -> None:
        self._address = address
        self._result = CommandResult(0, output, "")
        self._loop = asyncio.get_running_loop()
        self.is_doubted = False
        """Never: whoever is at the other end of a cable in this machine answers."""
        self.on_doubt: Callable[[bool], None] | None = None
        self._lost: asyncio.Future[Exception | None] = self._loop.create_future()
        self.streams = 0
        """Streams opened so far."""
        self.commands = 0
        """Commands run so far."""

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
        self.streams += 1
        try:
            # The part of asyncio.Protocol that is called is all that a StreamProtocol has.
            _, protocol = await self._loop.create_connection(factory, host, port)  # type: ignore[type-var]
        except ConnectionRefusedError as error:
            raise ChannelRefused(f"port {port} is closed") from error
        return protocol

    async def run(self, command: str, *, timeout_s: float, max_output_bytes: int = 1 << 20) -> CommandResult:
        self.commands += 1
        return self._result

    async def close(self) -> None:
        if not self._lost.done():
            self._lost.set_result(None)


class PlainEngine:
    """Makes plain tunnels. See `TunnelEngine` for the contract."""

    def __init__(self, *, gpus: int) -> None:
        self._output = gpu_text(gpus)
        self.tunnels: list[PlainTunnel] = []

    async def connect(
        self, target: TunnelTarget, address: SshAddress, *, begun: Callable[[], None] | None = None
    ) -> PlainTunnel:
        if begun is not None:
            begun()
        tunnel = PlainTunnel(address, self._output)
        self.tunnels.append(tunnel)
        return tunnel

    async def recycled(self, identity: str) -> None:
        """No host keys are kept."""

    async def close(self) -> None:
        """Nothing is held."""
