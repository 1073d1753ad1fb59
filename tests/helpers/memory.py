"""Instances in memory: tunnels that answer HTTP from a table, for tests of who decides what and when."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.helpers.streams import MemoryStream
from vastproxy.services.errors import ChannelRefused, TunnelError, TunnelLost
from vastproxy.services.tunnels.base import (
    CommandResult,
    Path,
    SshAddress,
    StreamProtocol,
    StreamProtocolT,
    TunnelTarget,
)
from vastproxy.services.tunnels.hostcheck import HostKeyRules

#: What vLLM answers: enough to be detected, healthy, and to list one model.
VLLM: Mapping[str, bytes] = {
    "/version": b'{"version": "0.11.0"}',
    "/health": b"",
    "/v1/models": b'{"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "vllm"}]}',
}
#: What its GPU says of itself, by the names of nvidia-smi's fields.
GPU: Mapping[str, str] = {"index": "0", "name": "NVIDIA GeForce RTX 4090", "temperature.gpu": "52"}


def nvidia_smi(command: str) -> CommandResult:
    """What nvidia-smi prints, asked for any fields."""
    fields = command.partition("--query-gpu=")[2].partition(" ")[0].split(",")
    return CommandResult(0, ", ".join(GPU.get(field, "[N/A]") for field in fields) + "\n", "")


@dataclass
class Inside:
    """What is inside an instance. Change it at any time."""

    answers: dict[str, bytes] = field(default_factory=lambda: dict(VLLM))
    status: dict[str, int] = field(default_factory=dict)
    listening: bool = True
    command: CommandResult | Exception | Callable[[str], CommandResult] = nvidia_smi
    commands: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> bytes:
        self.asked.append(path)
        body = self.answers.get(path)
        status = self.status.get(path, 200 if body is not None else 404)
        body = body or b""
        return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
            status,
            len(body),
            body,
        )


class _Answering(MemoryStream):
    def __init__(self, protocol: StreamProtocol, inside: Inside) -> None:
        self._inside = inside
        super().__init__(protocol)

    def write(self, data: bytes) -> None:
        super().write(data)
        path = data.split(b" ", 2)[1].decode()
        asyncio.get_running_loop().call_soon(self._reply, self._inside.answer(path))

    def _reply(self, data: bytes) -> None:
        if not self.is_closing():
            self.feed(data)

    def abort(self) -> None:
        if not self.is_closing():
            super().abort()
            self.protocol.connection_lost(None)

    def close(self) -> None:
        self.abort()


class MemoryTunnel:
    """A tunnel to what is inside."""

    def __init__(self, inside: Inside, address: SshAddress) -> None:
        self.inside = inside
        self.streams: list[_Answering] = []
        self.is_doubted = False
        self.on_doubt: Callable[[bool], None] | None = None
        self.gate = asyncio.Event()
        """While it is clear, streams do not open."""
        self.gate.set()
        self._address = address
        self._lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

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
            raise TunnelLost("gone")
        if not self.inside.listening or port != 18000:
            raise ChannelRefused(f"port {port} is closed")
        await self.gate.wait()
        protocol = factory()
        self.streams.append(_Answering(protocol, self.inside))
        return protocol

    async def run(self, command: str, *, timeout_s: float, max_output_bytes: int = 1 << 20) -> CommandResult:
        self.inside.commands.append(command)
        if isinstance(self.inside.command, Exception):
            raise self.inside.command
        if isinstance(self.inside.command, CommandResult):
            return self.inside.command
        return self.inside.command(command)

    async def close(self) -> None:
        self.end(None)

    def doubt(self, is_doubted: bool) -> None:
        """Doubt it, or take the doubt back."""
        if is_doubted is not self.is_doubted:
            self.is_doubted = is_doubted
            if self.on_doubt is not None:
                self.on_doubt(is_doubted)

    def end(self, error: Exception | None) -> None:
        """The connection ends, and everything on it."""
        if not self._lost.done():
            self._lost.set_result(error)
        for stream in self.streams:
            stream.abort()


class MemoryEngine:
    """Makes them: `refusals` says which paths fail, and how."""

    def __init__(self) -> None:
        self.inside = Inside()
        self.refusals: dict[Path, TunnelError] = {}
        self.made: list[MemoryTunnel] = []
        self.recycled_ids: list[str] = []
        self.tried: list[SshAddress] = []
        self.gate = asyncio.Event()
        """While it is clear, attempts go on and on."""
        self.gate.set()
        self.closed = False
        self.host_keys: HostKeyRules | None = None
        """Told to those who ask; no attempt depends on them."""

    async def connect(
        self, target: TunnelTarget, address: SshAddress, *, begun: Callable[[], None] | None = None
    ) -> MemoryTunnel:
        if begun is not None:
            begun()
        self.tried.append(address)
        await asyncio.sleep(0)
        await self.gate.wait()
        if (refusal := self.refusals.get(address.path)) is not None:
            raise refusal
        tunnel = MemoryTunnel(self.inside, address)
        self.made.append(tunnel)
        return tunnel

    async def recycled(self, identity: str) -> None:
        self.recycled_ids.append(identity)

    async def close(self) -> None:
        self.closed = True
