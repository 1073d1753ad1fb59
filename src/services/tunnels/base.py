"""What a tunnel is: one SSH connection to one instance, over which we open streams and run commands.

A stream is driven the way asyncio drives a TCP connection: the caller brings a protocol factory,
the tunnel calls `connection_made(transport)`, `data_received`, `eof_received`, `connection_lost`,
`pause_writing` and `resume_writing` on what the factory made. So an HTTP client written for
`loop.create_connection` works unchanged over SSH, and tests can use plain TCP.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar


class Path(StrEnum):
    """Which way a connection takes to an instance."""

    DIRECT = "direct"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class SshAddress:
    """One place where an instance's sshd may answer."""

    host: str
    port: int
    path: Path

    def __str__(self) -> str:
        return f"{self.path} {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TunnelTarget:
    """Whom to connect to. `identity` is what host keys are pinned to; it changes when the instance
    is a new one even though the id is the same (`"<id>@<start date>"`)."""

    instance_id: int
    identity: str
    addresses: tuple[SshAddress, ...]

    def on(self, path: Path) -> tuple[SshAddress, ...]:
        """Its addresses on one path."""
        return tuple(address for address in self.addresses if address.path is path)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a remote command left. Output is decoded as UTF-8 with replacement and bounded."""

    exit_status: int | None
    stdout: str
    stderr: str


StreamProtocolT = TypeVar("StreamProtocolT", bound="StreamProtocol")


class Stream(Protocol):
    """The transport handed to `connection_made`: the part of `asyncio.Transport` that both engines have."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class StreamProtocol(Protocol):
    """What the caller of `open` brings: the part of `asyncio.Protocol` that is called."""

    def connection_made(self, transport: Stream) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Tunnel(Protocol):
    """One live SSH connection."""

    @property
    def address(self) -> SshAddress: ...

    @property
    def is_alive(self) -> bool:
        """False from the first sign of its end on; never true again."""
        ...

    @property
    def lost(self) -> asyncio.Future[Exception | None]:
        """Done when the connection has ended: None if we closed it, else why. Never cancelled by us."""
        ...

    @property
    def is_doubted(self) -> bool:
        """Does it owe a sign of life? What runs on it may go on; nothing new should be sent into it."""
        ...

    on_doubt: Callable[[bool], None] | None
    """Called in the loop's thread with `is_doubted` each time that changes, until the end. Not for the end itself."""

    async def open(
        self, factory: Callable[[], StreamProtocolT], port: int, *, host: str = "127.0.0.1"
    ) -> StreamProtocolT:
        """Open one stream to `host:port` as seen from inside the instance.

        Returns the protocol made by `factory` once `connection_made` has been called on it. When the
        tunnel ends, the stream gets `connection_lost(TunnelLost)`, also when we closed the tunnel ourselves.
        Raises ChannelRefused when the port does not accept, TunnelLost when the SSH connection is gone, StreamsFull
        when the engine carries all the streams that it may in one process (which says nothing about the port).
        The caller bounds the time; on cancellation nothing stays open.
        """
        ...

    async def run(self, command: str, *, timeout_s: float, max_output_bytes: int = 1 << 20) -> CommandResult:
        """Run one command and return what it left.

        Raises TimeoutError when it has not ended after `timeout_s` (it is killed then), TunnelLost when
        the SSH connection is gone, ChannelRefused when no more commands are started. An exit status other
        than zero is not an error here. A command that prints more than `max_output_bytes`, both outputs
        together, is killed, and what came until then is returned with the exit status None.
        """
        ...

    async def close(self) -> None:
        """End the connection and everything on it; bounded in time, never raises, may be called twice."""
        ...


class TunnelEngine(Protocol):
    """Makes tunnels. One instance serves the whole process."""

    async def connect(
        self, target: TunnelTarget, address: SshAddress, *, begun: Callable[[], None] | None = None
    ) -> Tunnel:
        """Connect to one of the target's addresses, checking the host key against the pin for its identity.

        `begun` is called when it begins, after waiting for its turn behind other logins.

        Raises TunnelRefused (key or host key not accepted) or TunnelLost (nobody there, in time).
        A command has been run on the connection before it is returned: OpenSSH's sshd sets TCP_NODELAY only
        for connections that asked for one (measured with OpenSSH 9.2).
        """
        ...

    async def recycled(self, identity: str) -> None:
        """The API shows that this identity took the place of others of its instance: forget their host keys."""
        ...

    async def close(self) -> None:
        """Release what the engine itself holds. Tunnels are closed by their owners."""
        ...
