"""One HTTP/1.1 connection to an engine: a request goes out, a response comes back, perhaps again.

The connection is the protocol of a byte stream (TCP or an SSH channel) and owns nothing else: no task, no queue
without a bound. Bytes go through the reader (`response.py`) as they arrive; body pieces wait there until the one who
reads takes them. When more than HIGH_WATER_BYTES wait, reading pauses – so a slow client slows down its own engine
and nothing else.

What the caller does:

    connection.begin(head + body)            and `write`, `drain` for the rest of a long body
    head = await connection.response(...)
    data = await connection.read()           until `finished`
    then the pool takes it back (`reusable`), or `abort()` ends it

Timers: one per response, not one per read. It looks at the time of the last byte when it fires and goes back to
sleep for the rest, so that a token costs a comparison and no timer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from vastproxy.services.errors import BackendProtocolError, BackendTimeout, ResponseInterrupted
from vastproxy.services.tunnels.base import Stream
from vastproxy.services.upstream.headers import Header
from vastproxy.services.upstream.response import Phase, ResponseReader

#: Body bytes that may wait for the reader. asyncio's own streams use the same; a token is 300 bytes.
HIGH_WATER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """`headers`: names in lower case, hop-by-hop ones included."""

    status: int
    headers: list[Header]
    content_length: int | None


class UpstreamConnection:
    """See the module's docstring. All methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = ResponseReader()
        self._stream: Stream | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused_writing = False
        self._paused_reading = False
        self._error: Exception | None = None
        self._eof = False
        self._last_byte_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self.requests = 0
        """Requests begun on this connection."""
        self.idle_since = 0.0
        """Loop time since when the pool holds it."""
        self.on_lost: Callable[[], None] | None = None
        """Called once when the stream below has ended."""

    # ── the caller's side ──────────────────────────────────────────────────────────────────────

    @property
    def reusable(self) -> bool:
        """May another request be written? True only between complete exchanges of a live connection."""
        return (
            self._reader.phase is Phase.IDLE
            and self._error is None
            and not self._eof
            and self._stream is not None
            and not self._stream.is_closing()
            and (self.requests == 0 or self._reader.keep_alive)
        )

    def begin(self, data: bytes, *, head_only: bool = False) -> None:
        """Write the start of a request. `head_only`: the answer has no body whatever its headers say (HEAD)."""
        self._reader.begin(head_only=head_only)
        self.requests += 1
        self.write(data)

    def write(self, data: bytes) -> None:
        """Write more of the request. Raises what ended the connection, if something did."""
        if self._error is not None:
            raise self._error
        assert self._stream is not None
        self._stream.write(data)

    async def drain(self) -> None:
        """Wait until the stream wants more bytes, or the connection ends; then as `write`."""
        if self._paused_writing and self._error is None:
            self._writable = self._loop.create_future()
            try:
                await self._writable
            finally:
                self._writable = None
        if self._error is not None:
            raise self._error

    async def response(self, *, timeout_s: float, idle_timeout_s: float) -> ResponseHead:
        """Wait for the final response head, skipping interim ones (1xx).

        Raises BackendTimeout(phase="headers"), ResponseInterrupted, BackendProtocolError. From here on a
        silence of `idle_timeout_s` between bytes of the body makes `read` raise BackendTimeout(phase="idle").
        """
        reader = self._reader
        self._start_timer(timeout_s)
        while reader.phase is Phase.HEAD:
            await self._wait()
        if reader.phase is Phase.BODY:
            self._start_timer(idle_timeout_s)
        return ResponseHead(reader.status, reader.headers, reader.length)

    @property
    def finished(self) -> bool:
        """Has the last `read` given the end of the response?"""
        return self._reader.phase is Phase.IDLE

    async def read(self) -> bytes:
        """All bytes of the body that wait, at least one; b"" only when none were left at the end.

        Ask `finished` afterwards: the end comes with the last bytes. Raises ResponseInterrupted when the
        connection ended before the body did, BackendTimeout, BackendProtocolError – always after the bytes that
        came before.
        """
        reader = self._reader
        while not reader.chunks and (reader.phase is Phase.BODY or reader.phase is Phase.HEAD):
            await self._wait()
        data = reader.take()
        if self._paused_reading and self._stream is not None:
            self._paused_reading = False
            self._last_byte_at = self._loop.time()  # the silence until now was ours
            self._stream.resume_reading()
        if reader.phase is Phase.IDLE:
            self._stop_timer()
            if not reader.keep_alive:
                self.close()
        return data

    def abort(self, error: Exception | None = None) -> None:
        """End the connection at once. Whoever waits gets `error`, or that it was interrupted."""
        self._fail(error or ResponseInterrupted("the request was given up", received=self._reader.received))
        if self._stream is not None:
            self._stream.abort()

    def close(self) -> None:
        """End an idle connection politely."""
        if self._stream is not None and not self._stream.is_closing():
            self._stream.close()

    # ── the stream's side (StreamProtocol) ─────────────────────────────────────────────────────

    def connection_made(self, transport: Stream) -> None:
        self._stream = transport

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        self._last_byte_at = self._loop.time()
        try:
            reader.feed(data)
        except BackendProtocolError as error:
            self.abort(error)
            return
        if reader.buffered > HIGH_WATER_BYTES and not self._paused_reading and self._stream is not None:
            self._paused_reading = True
            self._stream.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)
        self._stop_timer()
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # ── inside ─────────────────────────────────────────────────────────────────────────────────

    def _end(self, exc: Exception | None) -> None:
        """Nothing more will come: the proper end of some bodies, the untimely end of everything else."""
        self._eof = True
        if exc is None and self._error is None and self._reader.end():
            self._wake()
            return
        beginning = self._reader.phase is Phase.HEAD and not self._reader.received
        text = (
            "the engine closed the connection before answering"
            if beginning
            else "the engine's answer broke off"
        )
        self._fail(ResponseInterrupted(f"{text}: {exc}" if exc else text, received=self._reader.received))

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        """Wait for anything to happen. Raises what ended the connection, if something did."""
        if self._error is not None:
            self._stop_timer()
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _start_timer(self, timeout_s: float) -> None:
        self._stop_timer()
        self._timer_s = timeout_s
        self._last_byte_at = self._loop.time()
        self._timer = self._loop.call_later(timeout_s, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        phase = self._reader.phase
        if phase is Phase.HEAD:
            text = f"no response headers came from the engine within {self._timer_s:g} s"
            self.abort(BackendTimeout(text, phase="headers"))
        elif phase is Phase.BODY:
            self._check_silence()

    def _check_silence(self) -> None:
        silent_s = self._loop.time() - self._last_byte_at
        waits_for_us = self._paused_reading or self._reader.buffered > 0
        if not waits_for_us and silent_s >= self._timer_s:
            text = f"not one more byte came from the engine within {self._timer_s:g} s"
            self.abort(BackendTimeout(text, phase="idle"))
            return
        rest_s = self._timer_s if waits_for_us else self._timer_s - silent_s
        self._timer = self._loop.call_later(max(rest_s, 0.001), self._on_timer)
