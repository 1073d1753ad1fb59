"""One direct-tcpip channel of asyncssh, made to look like asyncio's TCP transport.

asyncssh calls the session half of `ChannelStream`, the owner of the stream calls the transport half, and
each chunk of data costs one extra Python call. What differs between the two worlds is settled here:

- asyncssh raises when something is written to a closed channel; a transport drops it.
- asyncssh delivers buffered data inside `resume_reading`; a transport does so later, so that a parser is
  never entered twice.
- asyncssh ends the whole SSH connection when a session raises; a transport ends only itself.
- asyncssh ends a channel with `None` also when the SSH connection was closed in good order; for somebody in
  the middle of a response that is a loss.
- An EOF that comes together with the channel's end is swallowed by asyncssh while reading is paused;
  a transport always reports it before the end.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Generic

import asyncssh

from vastproxy.services.tunnels.base import StreamProtocolT


class ChannelStream(asyncssh.SSHTCPSession[bytes], Generic[StreamProtocolT]):
    """A channel and the protocol that it drives. Made before the channel is open."""

    __slots__ = (
        "_abandoned",
        "_chan",
        "_closing",
        "_ended",
        "_eof",
        "_explain_end",
        "_factory",
        "_loop",
        "_paused",
        "protocol",
    )

    #: What the factory made. Set, like the channel, once the channel is open; nobody has the stream before.
    protocol: StreamProtocolT
    _chan: "asyncssh.SSHTCPChannel[bytes]"

    def __init__(
        self,
        factory: Callable[[], StreamProtocolT],
        explain_end: Callable[[Exception | None], Exception | None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._factory = factory
        self._explain_end = explain_end
        self._loop = loop
        self._abandoned = False
        self._closing = False
        self._ended = False
        self._eof = False
        self._paused = False

    def abandon(self) -> None:
        """Nobody wants this stream any more: end it now, or as soon as it is open."""
        self._abandoned = True
        if hasattr(self, "protocol"):
            self.abort()

    # What asyncssh calls.

    def connection_made(self, chan: Any) -> None:
        if self._abandoned:
            self._ended = True
            chan.abort()
            return
        self._chan = chan
        try:
            protocol = self._factory()
            self.protocol = protocol
            protocol.connection_made(self)
        except BaseException:
            self._ended = self._closing = True
            chan.abort()
            raise

    def data_received(self, data: bytes, datatype: int | None) -> None:
        try:
            self.protocol.data_received(data)
        except Exception as exc:
            self._fail(exc)

    def eof_received(self) -> bool:
        if not self._eof and not self._closing and not self._ended:
            self._eof = True
            try:
                keep_open = self.protocol.eof_received()
            except Exception as exc:
                self._fail(exc)
            else:
                if not keep_open:
                    self.close()
        return True  # True keeps asyncssh from doing anything by itself

    def pause_writing(self) -> None:
        if not self._ended:
            try:
                self.protocol.pause_writing()
            except Exception as exc:
                self._fail(exc)

    def resume_writing(self) -> None:
        if not self._ended:
            try:
                self.protocol.resume_writing()
            except Exception as exc:
                self._fail(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ended:
            return
        if self._closing:
            self._end(None)
            return
        reason = self._explain_end(exc)
        if reason is None:
            self.eof_received()
        self._end(reason)

    # What the owner of the stream calls.

    def write(self, data: bytes) -> None:
        try:  # noqa: SIM105 - suppress() would cost an object per chunk
            self._chan.write(data)
        except OSError:
            pass  # closed; `connection_lost` tells or has told

    def write_eof(self) -> None:
        self._chan.write_eof()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._chan.close()

    def abort(self) -> None:
        if not self._ended:
            self._closing = True
            self._chan.abort()
            # The other side confirms the end only if it still lives; a transport ends at once.
            self._loop.call_soon(self._end, None)

    def is_closing(self) -> bool:
        return self._closing or self._ended

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self._chan.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if not self._paused:
            self._chan.resume_reading()

    def _fail(self, exc: Exception) -> None:
        """The protocol raised: report it as asyncio does and end this stream alone."""
        self._report(exc)
        if not self._ended:
            self._closing = True
            self._chan.abort()
            self._loop.call_soon(self._end, exc)

    def _report(self, exc: Exception) -> None:
        self._loop.call_exception_handler(
            {"message": "the protocol of an SSH stream failed", "exception": exc, "protocol": self.protocol}
        )

    def _end(self, exc: Exception | None) -> None:
        if self._ended:
            return
        self._ended = self._closing = True
        try:
            self.protocol.connection_lost(exc)
        except Exception as error:
            self._report(error)
