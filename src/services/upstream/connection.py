"""One HTTP/1.1 connection to an engine: a request goes out, a response comes back, perhaps again.

The connection is the protocol of a byte stream (TCP or an SSH channel). It owns no task, no queue and no buffer:
bytes go through the reader (`response.py`) as they arrive, and what they mean goes to the `Sink` of the request in
the same call. Who cannot take more says `pause_reading`, and the stream below stops – so a slow client slows down
its own engine and nothing else.

    connection.send(head + body, sink, ...)     and `write` for the rest of a long body, heeding `write_paused`
    sink.engine_answered(head, data, done)      the head, with what of the body came with it
    sink.engine_data(data, done)                until done; then the pool takes the connection back
    sink.engine_failed(error)                   instead of any of them; nothing follows it
"""

import asyncio
from collections.abc import Callable

from vastproxy.services.deadline import Silence
from vastproxy.services.errors import (
    BackendError,
    BackendProtocolError,
    BackendTimeout,
    ResponseInterrupted,
    TunnelLost,
)
from vastproxy.services.http1.fields import FieldTable
from vastproxy.services.http1.grammar import Header
from vastproxy.services.tunnels.base import Stream
from vastproxy.services.upstream.relay import Relay
from vastproxy.services.upstream.response import (
    DONE,
    HEAD,
    IDLE,
    SWITCHED,
    ResponseHead,
    ResponseReader,
)
from vastproxy.services.upstream.sink import Home, Sink


class UpstreamConnection(Relay):
    """See the module's docstring. All methods belong to the event loop's thread."""

    __slots__ = (
        "_eof",
        "_idle_timeout_s",
        "_lost",
        "_on_lost",
        "_paused",
        "_sink",
        "_stream",
        "_timeout_s",
        "home",
        "idle_since",
        "requests",
        "write_paused",
    )

    def __init__(self, fields: FieldTable | None = None) -> None:
        """`fields`: see `ResponseReader`."""
        super().__init__(ResponseReader(fields), Silence(asyncio.get_running_loop(), self._on_silent))
        self._stream: Stream | None = None
        self._sink: Sink | None = None
        self._timeout_s = 0.0
        self._idle_timeout_s = 0.0
        self._paused = False
        self._eof = False
        self._lost = False
        self._on_lost: Callable[[], None] | None = None
        self.write_paused = False
        """Is the stream full? Then more of the request should wait for `engine_writable`."""
        self.requests = 0
        """Requests begun on this connection."""
        self.home: Home | None = None
        """Who takes it back."""
        self.idle_since = 0.0
        """Loop time since when the pool holds it."""

    # ── the caller's side ──────────────────────────────────────────────────────────────────────

    def may_serve(self) -> bool:
        """May another request be sent? True only between exchanges that are complete both ways, on a live stream."""
        reader, stream = self._reader, self._stream
        if not reader.keep_alive or self.write_paused or self._eof or self._lost or stream is None:
            return False
        return (reader.phase is DONE or reader.phase is IDLE) and not stream.is_closing()

    @property
    def on_lost(self) -> Callable[[], None] | None:
        """Called once when the stream below has ended: as soon as it is set, if that is over."""
        return self._on_lost

    @on_lost.setter
    def on_lost(self, told: Callable[[], None] | None) -> None:
        self._on_lost = told
        if self._lost and told is not None:
            told()

    @property
    def trailers(self) -> list[Header]:
        """What came behind the body, once it is done."""
        return self._reader.trailers

    def send(
        self,
        data: bytes,
        sink: Sink,
        *,
        headers_timeout_s: float,
        idle_timeout_s: float,
        head_only: bool = False,
        may_switch: bool = False,
    ) -> None:
        """Write the start of a request; its response goes to `sink`. Only while it `may_serve`.

        `headers_timeout_s` bounds the wait for the final head, `idle_timeout_s` each silence after it (an eighth more
        at the most); both give BackendTimeout. `head_only`, `may_switch`: see `ResponseReader.begin`.
        """
        assert self._stream is not None
        self._reader.begin(head_only, may_switch)
        self._sink = sink
        self._timeout_s = headers_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._silence.after(headers_timeout_s)
        self.requests += 1
        self.relayed_bytes = self._bytes_before = 0
        if self._eof or self._lost:  # it ended while nobody was looking, and nothing will come that says so
            asyncio.get_running_loop().call_soon(self._end, None)
        else:
            self._stream.write(data)

    def write(self, data: bytes) -> None:
        """Write more of the request, or of a switched protocol."""
        if self._stream is not None and not self._lost:
            if self._reader.phase is SWITCHED:
                self._silence.heard = True
            self._stream.write(data)

    def write_eof(self) -> None:
        """Nothing more will be written, what comes is still read. Only after a switch of protocols."""
        if self._stream is not None and not self._lost and not self._stream.is_closing():
            self._stream.write_eof()

    def pause_reading(self) -> None:
        """Let nothing more come until `resume_reading`. Silence is nobody's fault meanwhile."""
        if not self._paused and self._stream is not None:
            self._paused = True
            self._silence.clear()
            self._stream.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and self._stream is not None:
            self._paused = False
            if self._sink is not None:
                self._silence.after(self._timeout_s)
            if not self._lost:
                self._stream.resume_reading()

    def forget(self) -> None:
        """Nobody wants the response any more; the sink hears nothing more. `abort` must follow."""
        self._sink = self._client = self._relay_client = None
        self._silence.clear()

    def abort(self) -> None:
        """End the connection at once. The sink hears nothing more."""
        self.forget()
        self._silence.close()
        if self._stream is not None:
            self._stream.abort()

    def close(self) -> None:
        """End the connection politely: what was written still goes out. The sink hears nothing more."""
        self.forget()
        self._silence.close()
        if self._stream is not None and not self._stream.is_closing():
            self._stream.close()

    # ── the stream's side (StreamProtocol) ─────────────────────────────────────────────────────

    def connection_made(self, transport: Stream) -> None:
        self._stream = transport

    def _take(self, data: bytes) -> None:
        reader, sink = self._reader, self._sink
        before = reader.phase
        try:
            data = reader.feed(data)
        except BackendProtocolError as error:
            self._fail(error)
            return
        if sink is None:
            return
        phase = reader.phase
        if before is HEAD:
            if reader.interim:
                self._tell_interim(sink)
            if phase is HEAD or self._sink is not sink:
                return
            head, chunks = reader.head, reader.chunks
            assert head is not None
            if phase is DONE and (chunks is None or not chunks.trailers):
                self._finish()
                sink.engine_answered(head, data, True)
            else:
                self._answer(sink, head, data)
        elif phase is DONE:
            self._finish()
            sink.engine_data(data, True)
        else:
            self._silence.heard = True
            if self._relay_client is not None:
                self._after_long_way(told=bool(data))
            if data:
                sink.engine_data(data, False)

    def eof_received(self) -> bool:
        self._eof = True
        if self._reader.phase is SWITCHED:
            if self._sink is not None:
                self._sink.engine_data(b"", True)
            return True  # our half stays open until it is ended, too
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._end(exc)
        self._silence.close()
        if self._on_lost is not None:
            self._on_lost()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._sink is not None:
            self._sink.engine_writable()

    # ── inside ─────────────────────────────────────────────────────────────────────────────────

    def _tell_interim(self, sink: Sink) -> None:
        for status, lines in self._reader.interim:
            if self._sink is sink:
                sink.engine_interim(status, lines)
        self._reader.interim.clear()

    def _answer(self, sink: Sink, head: ResponseHead, data: bytes) -> None:
        self._timeout_s = self._idle_timeout_s
        self._silence.after(self._timeout_s)
        phase = self._reader.phase
        if phase is SWITCHED:
            sink.engine_switched(head, data)
            return
        sink.engine_answered(head, data, False)
        if phase is DONE and self._sink is sink:  # trailers come with the end, behind the body
            self._finish()
            sink.engine_data(b"", True)

    def _finish(self) -> None:
        self._sink = self._client = self._relay_client = None
        if self._paused:
            self.resume_reading()
        self._silence.clear()

    def _end(self, exc: Exception | None) -> None:
        """Nothing more will come: the proper end of some bodies, the untimely end of everything else."""
        self._eof = True
        sink = self._sink
        if sink is None:
            return
        if exc is None and self._reader.end():
            self._finish()
            sink.engine_data(b"", True)
            return
        received = self._reader.received
        text = "the engine's answer broke off"
        if not received:
            text = "the engine closed the connection before answering"
        error = ResponseInterrupted(f"{text}: {exc}" if exc else text, received=received)
        error.way_lost = isinstance(exc, TunnelLost)
        self._fail(error)

    def _fail(self, error: BackendError) -> None:
        sink = self._sink
        self.forget()
        if sink is not None:
            sink.engine_failed(error)
        else:
            self.abort()

    def _on_silent(self) -> None:
        silence = f"within {self._timeout_s:g} s"
        if self._reader.phase is HEAD:
            text = f"no response headers came from the engine {silence}"
            self._fail(BackendTimeout(text, phase="headers"))
        elif self._reader.phase is SWITCHED and self._sink is not None:
            self._sink.engine_data(b"", True)  # silence of both sides, so it is nobody's fault
        else:
            self._fail(BackendTimeout(f"not one more byte came from the engine {silence}", phase="idle"))
