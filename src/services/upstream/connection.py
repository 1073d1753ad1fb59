"""One HTTP/1.1 connection to an engine: a request goes out, a response comes back, perhaps again.

The connection is the protocol of a byte stream (TCP or an SSH channel) and owns nothing else: no task, no
queue without a bound. Bytes go through httptools' parser as they arrive; body pieces wait in a list until the
one reader takes them. When more than HIGH_WATER_BYTES wait, reading pauses – so a slow client slows down its
own engine and nothing else.

What the caller does:

    connection.write(head + body)            and `await drain()` between pieces of a long body
    head = await connection.response(...)
    data = await connection.read()           until `finished`
    then the pool takes it back (`reusable`), or `abort()` ends it

Timers: one per response, not one per read. It looks at the time of the last byte when it fires and goes back to
sleep for the rest, so that a token costs a comparison and no timer.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import httptools

from vastproxy.services.errors import BackendProtocolError, BackendTimeout, ResponseInterrupted
from vastproxy.services.tunnels.base import Stream
from vastproxy.services.upstream.headers import Header

#: Body bytes that may wait for the reader. asyncio's own streams use the same; a token is 300 bytes.
HIGH_WATER_BYTES = 64 * 1024

#: Bytes and number of headers of one response. A rented machine may send anything; nginx stops at 32 KiB.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200


class _Phase(Enum):
    IDLE = auto()  # no response is expected
    HEAD = auto()  # a request is out, its response head has not come
    BODY = auto()  # the head has come, the body not entirely
    DONE = auto()  # the response is complete, perhaps not yet read


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """`headers`: names in lower case, hop-by-hop ones included."""

    status: int
    headers: list[Header]
    content_length: int | None


class UpstreamConnection:
    """See the module's docstring. All methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._stream: Stream | None = None
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._phase = _Phase.IDLE
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused_writing = False
        self._paused_reading = False
        self._error: Exception | None = None
        self._eof = False
        self._last_byte_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._status = 0
        self._headers: list[Header] = []
        self._head_bytes = 0
        self._length: int | None = None
        self._chunked = False
        self._head_only = False
        self._keep_alive = False
        self._interim = False
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
            self._phase is _Phase.IDLE
            and self._error is None
            and not self._eof
            and self._stream is not None
            and not self._stream.is_closing()
            and (self.requests == 0 or self._keep_alive)
        )

    def begin(self, data: bytes, *, head_only: bool = False) -> None:
        """Write the start of a request. `head_only`: the answer has no body whatever its headers say (HEAD)."""
        assert self._phase is _Phase.IDLE, self
        self._phase = _Phase.HEAD
        self._head_only = head_only
        self._headers, self._head_bytes, self._length, self._chunked = [], 0, None, False
        self._keep_alive = False
        self.requests += 1
        self.write(data)

    def write(self, data: bytes) -> None:
        """Write more of the request. Raises ResponseInterrupted when the connection is gone."""
        if self._error is not None:
            raise self._error
        assert self._stream is not None
        self._stream.write(data)

    async def drain(self) -> None:
        """Wait until the stream wants more bytes, or the connection ends."""
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
        self._start_timer(timeout_s)
        while self._phase is _Phase.HEAD:
            await self._wait()
        if self._error is not None and self._phase is not _Phase.DONE and not self._chunks:
            raise self._error
        if self._phase is _Phase.BODY:
            self._start_timer(idle_timeout_s)
        return ResponseHead(self._status, self._headers, self._length)

    @property
    def finished(self) -> bool:
        """Has the last `read` given the end of the response?"""
        return self._phase is _Phase.IDLE

    async def read(self) -> bytes:
        """All bytes of the body that wait, at least one; b"" only when none were left at the end.

        Ask `finished` afterwards: the end comes with the last bytes. Raises ResponseInterrupted when the connection
        ended before the body did, BackendTimeout, BackendProtocolError – always after the bytes that came before.
        """
        while not self._chunks and self._phase in (_Phase.HEAD, _Phase.BODY):
            await self._wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._phase is _Phase.DONE:
            self._finish()
        elif self._paused_reading and self._stream is not None:
            self._paused_reading = False
            self._last_byte_at = self._loop.time()  # the silence until now was ours
            self._stream.resume_reading()
        return data

    def abort(self, error: Exception | None = None) -> None:
        """End the connection at once. Whoever waits gets `error`, or that it was interrupted."""
        self._fail(error or ResponseInterrupted("the request was given up", received=self._received))
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
        if self._phase is _Phase.IDLE or self._phase is _Phase.DONE:
            # Bytes nobody asked for. They cannot belong to the next request, so there is none.
            self._eof = True
            self._keep_alive = False
            return
        self._last_byte_at = self._loop.time()
        if self._phase is _Phase.HEAD:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._protocol_error("it switched protocols without being asked to")
        except httptools.HttpParserError as error:
            if self._error is None and self._phase not in (_Phase.IDLE, _Phase.DONE):
                self._protocol_error(str(error.__context__ or error))
            else:
                self._keep_alive = False
        if self._phase is _Phase.HEAD and self._head_bytes > MAX_HEAD_BYTES:
            self._protocol_error(f"its headers are longer than {MAX_HEAD_BYTES} bytes")
        if self._buffered > HIGH_WATER_BYTES and not self._paused_reading and self._stream is not None:
            self._paused_reading = True
            self._stream.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        if self._phase is _Phase.BODY and self._close_delimited:
            self._phase = _Phase.DONE
            self._wake()
        else:
            self._fail(self._interrupted(None))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = True
        if exc is None and self._phase is _Phase.BODY and self._close_delimited:
            self._phase = _Phase.DONE
        self._fail(self._interrupted(exc))
        self._stop_timer()
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        self._paused_writing = True

    def resume_writing(self) -> None:
        self._paused_writing = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # ── the parser's side ──────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._phase is not _Phase.HEAD:
            raise ValueError("it sent an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not _Phase.HEAD:
            return  # a trailer: it came after the headers that the client already has
        name = name.lower()
        self._headers.append((name, value))
        if len(self._headers) > MAX_HEADERS:
            raise ValueError(f"it has more than {MAX_HEADERS} headers")
        if name == b"content-length":
            if self._length is not None or not value.isdigit():
                raise ValueError("its Content-Length is ambiguous")
            self._length = int(value)
        elif name == b"transfer-encoding":
            self._chunked = True

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._chunked and self._length is not None:
            raise ValueError("it has both Transfer-Encoding and Content-Length")
        if not 100 <= self._status <= 599:
            raise ValueError(f"its status {self._status} does not exist")
        self._interim = self._status < 200
        if not self._interim:
            self._phase = _Phase.DONE if self._head_only else _Phase.BODY

    def on_body(self, body: bytes) -> None:
        if not self._head_only:
            self._chunks.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            self._headers, self._length, self._chunked = [], None, False
            return
        self._phase = _Phase.DONE
        self._keep_alive = self._parser.should_keep_alive() and not self._head_only

    # ── inside ─────────────────────────────────────────────────────────────────────────────────

    @property
    def _received(self) -> bool:
        return self._head_bytes > 0

    @property
    def _close_delimited(self) -> bool:
        return self._length is None and not self._chunked

    def _finish(self) -> None:
        """The response has been read to its end: ready for the next, or for the end."""
        self._phase = _Phase.IDLE
        self._stop_timer()
        if self._paused_reading and self._stream is not None:
            self._paused_reading = False
            self._stream.resume_reading()
        if not self._keep_alive:
            self.close()

    def _interrupted(self, exc: Exception | None) -> Exception:
        if self._phase is _Phase.HEAD and not self._received:
            text = "the engine closed the connection before answering"
        else:
            text = "the engine's answer broke off"
        return ResponseInterrupted(f"{text}: {exc}" if exc else text, received=self._received)

    def _protocol_error(self, why: str) -> None:
        self._fail(BackendProtocolError(f"the engine's answer is not valid HTTP: {why}"))
        if self._stream is not None:
            self._stream.abort()

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
        if self._phase not in (_Phase.HEAD, _Phase.BODY):
            return
        silent_s = self._loop.time() - self._last_byte_at
        waits_for_us = self._paused_reading or self._buffered > 0
        if self._phase is _Phase.BODY and (waits_for_us or silent_s < self._timer_s):
            rest_s = self._timer_s if waits_for_us else self._timer_s - silent_s
            self._timer = self._loop.call_later(max(rest_s, 0.001), self._on_timer)
            return
        phase = "headers" if self._phase is _Phase.HEAD else "idle"
        what = "no response headers" if phase == "headers" else "not one more byte"
        self.abort(BackendTimeout(f"{what} came from the engine within {self._timer_s:g} s", phase=phase))
