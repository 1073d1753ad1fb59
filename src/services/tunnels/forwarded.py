"""One stream of the sshtunnel engine: a TCP connection over loopback, to a relay in a thread of this process.

The loop and the threads of the relay share a `Caller`. The owner of the stream gets a `ForwardedStream`, which
differs from asyncio's own transport in what a socket cannot say: that the SSH connection was lost, and that
the other side is done with both halves.

The TCP connection has an address on loopback, which the other engine's streams do not have. Who else may use it, and
why nobody can, is said in `paramiko_forwarder`.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import cast

from vastproxy.services.tunnels.base import StreamProtocol


class Caller:
    """One stream, as the loop and the threads of its relay see it. Made on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, release: Callable[[], None]) -> None:
        """`release` is called once, from any thread, when the stream holds nothing any more."""
        self._loop = loop
        self._release = release
        #: On the loop: done once the channel is open, with what went wrong if it is not.
        self.opened: asyncio.Future[Exception | None] = loop.create_future()
        #: For threads: the loop's end of the stream is gone.
        self.closed = threading.Event()
        #: For threads: nothing is held any more.
        self.ended = threading.Event()
        #: Set by the relay before it breaks the stream off, as the SSH connection has ended.
        self.is_lost = False
        #: On the loop: the other side is done with both halves.
        self.is_done = False
        self.stream: ForwardedStream | None = None

    def tell_opened(self, failure: Exception | None) -> None:
        """From the relay: the channel is open, or why it is not."""
        self._tell(self._note_opened, failure)

    def tell_done(self) -> None:
        """From the relay: the channel has ended in good order; everything it carried is in the socket."""
        self._tell(self._note_done)

    def give_up(self) -> None:
        """On the loop: nobody waits for this stream any more."""
        self.closed.set()
        self._note_opened(ConnectionResetError("Connection lost"))

    def finish(self) -> None:
        """Nothing is held any more. May be called twice."""
        self.closed.set()
        if not self.ended.is_set():
            self._release()  # first: who waits for the end may look at once whether the place is free
            self.ended.set()

    def _tell(self, call: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody listens
            self._loop.call_soon_threadsafe(call, *args)

    def _note_opened(self, failure: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_result(failure)

    def _note_done(self) -> None:
        self.is_done = True
        if self.stream is not None:
            self.stream.other_side_is_done()


class ForwardedStream(asyncio.Protocol):
    """What asyncio drives, and the `Stream` of its owner."""

    def __init__(
        self,
        caller: Caller,
        protocol: StreamProtocol,
        explain_loss: Callable[[], Exception],
        forget: Callable[["ForwardedStream"], None],
    ) -> None:
        """`explain_loss` says why the SSH connection ended; `forget` is called once, at the end."""
        self._caller = caller
        self._protocol = protocol
        self._explain_loss = explain_loss
        self._forget = forget
        self._eof = False
        self._adopted = False
        self._paused = False
        self._aborting = False
        self._closing = False
        self._ended = False
        #: What uvloop has read although it was told not to, and whether that was the end of data.
        self._early = b""
        self._early_eof = False
        #: Why the owner never had the stream: the tunnel ended before, or his `connection_made` raised.
        self.failure: Exception | None = None
        self._transport: asyncio.Transport

    def lose(self) -> None:
        """The SSH connection has ended: tell the owner now, whether it reads or not."""
        if hasattr(self, "_transport"):
            self._end(self._explain_loss())
            self.abort()
        elif not self._ended:
            self._give_up(self._explain_loss())

    def other_side_is_done(self) -> None:
        """Both halves are finished over there, so the stream ends once everything has been read."""
        if self._eof and not self._ended:
            self.close()

    def adopted(self) -> None:
        """The loop has taken the socket over: what was asked for until now is done now.

        A transport of uvloop (0.23) that ends before `create_connection` has returned closes the descriptor, and the
        socket closes it a second time, which then may be anybody's (seen with strace; a cancellation is harmless).
        """
        self._adopted = True
        if self._aborting:
            self._transport.abort()
        elif self._closing:
            self._transport.close()
        elif self._paused:
            self._transport.resume_reading()  # uvloop reads on unless it is stopped anew, see data_received
            self._transport.pause_reading()
        else:
            self._read_on()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._transport.pause_reading()
        if self._ended:
            self.abort()
            return
        try:
            self._protocol.connection_made(self)
        except Exception as exc:
            self._give_up(exc)
            self.abort()

    def data_received(self, data: bytes) -> None:
        if not self._adopted:  # uvloop begins to read after connection_made, paused or not
            self._early += data
        elif not self._ended:
            self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        if not self._adopted:
            self._early_eof = True
            return True
        if self._ended or self._caller.is_lost:
            return False
        self._eof = True
        return self._protocol.eof_received() and not self._caller.is_done

    def pause_writing(self) -> None:
        if not self._ended:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if not self._ended:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._caller.closed.set()
        if self._caller.is_lost:
            exc = self._explain_loss()
        elif isinstance(exc, OSError) and (self._eof or self._closing):
            exc = None  # our own relay did not want more: one side had finished
        self._end(exc)

    # What the owner calls.

    def write(self, data: bytes) -> None:
        if not self.is_closing():
            self._transport.write(data)

    def write_eof(self) -> None:
        if not self.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        self._closing = True
        if self._adopted:
            self._transport.close()

    def abort(self) -> None:
        self._closing = self._aborting = True
        if self._adopted:
            self._transport.abort()

    def is_closing(self) -> bool:
        return self._ended or self._closing or self._transport.is_closing()

    def pause_reading(self) -> None:
        self._paused = True
        if self._adopted and not self.is_closing() and not self._eof:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if not self._adopted:
            return
        if self._early or self._early_eof:
            asyncio.get_running_loop().call_soon(self._read_on)
        elif not self.is_closing() and not self._eof:
            self._transport.resume_reading()

    def _read_on(self) -> None:
        """First what came early, then what comes, unless the owner has changed his mind meanwhile."""
        if self._early and not (self._paused or self.is_closing()):
            early, self._early = self._early, b""
            try:
                self._protocol.data_received(early)
            except BaseException:
                self.abort()
                raise
        if self._paused or self.is_closing() or self._eof:
            return
        if not self._early_eof:
            self._transport.resume_reading()
        elif not self.eof_received():
            self.close()

    def _give_up(self, failure: Exception) -> None:
        self.failure = failure
        self._ended = True
        self._forget(self)

    def _end(self, exc: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._forget(self)
            self._protocol.connection_lost(exc)
