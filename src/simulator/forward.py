"""One stream forwarded from an SSH channel to a unix socket, with back pressure both ways."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import asyncssh


class Forward(asyncssh.SSHTCPSession[bytes]):
    """The channel's half. Made by `connect`, which also makes the socket's half."""

    def __init__(self, target: Path, ended: "Callable[[Forward], None]") -> None:
        self.target = target
        """The socket that it leads to."""
        self._ended = ended
        self._channel: asyncssh.SSHTCPChannel[bytes] | None = None
        self._far = _Far(self)
        self.eof = False

    @classmethod
    async def connect(cls, path: Path, ended: "Callable[[Forward], None]") -> "Forward":
        """Connect to the socket; `ended` is called at the end. Raises ChannelOpenError: nobody listens."""
        forward = cls(path, ended)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: forward._far, str(path))
        except OSError:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "Connection refused") from None
        return forward

    def connection_made(self, chan: "asyncssh.SSHTCPChannel[bytes]") -> None:
        self._channel = chan
        self._far.start()

    def data_received(self, data: bytes, datatype: Any = None) -> None:
        self._far.write(data)

    def eof_received(self) -> bool:
        self.eof = True
        self._far.write_eof()
        if self._far.eof:  # both directions have ended
            self.close()
        return True

    def pause_writing(self) -> None:
        self._far.pause()

    def resume_writing(self) -> None:
        self._far.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel = None
        self._far.close()
        self._ended(self)

    def close(self) -> None:
        """End both halves; what was received is still delivered."""
        self._far.close()
        if self._channel is not None:
            self._channel.close()

    # Called by the socket's half

    def send(self, data: bytes) -> None:
        if self._channel is not None:
            self._channel.write(data)

    def send_eof(self) -> None:
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()

    def far_full(self, full: bool) -> None:
        if self._channel is None:
            return
        if full:
            self._channel.pause_reading()
        else:
            self._channel.resume_reading()


class _Far(asyncio.Protocol):
    """The socket's half."""

    def __init__(self, near: Forward) -> None:
        self._near = near
        self.eof = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()  # until the channel is there

    def start(self) -> None:
        self.resume()

    def data_received(self, data: bytes) -> None:
        self._near.send(data)

    def eof_received(self) -> bool:
        self.eof = True
        self._near.send_eof()
        return not self._near.eof

    def pause_writing(self) -> None:
        self._near.far_full(True)

    def resume_writing(self) -> None:
        self._near.far_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._near.close()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def write_eof(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
