"""One client's connection: requests in, answers out, one after another. The protocol class given to uvicorn.

It owns the connection's state and its clocks, and knows nothing of what is answered: each request goes to the
`Handler` that the entrance makes for it, and comes back through the methods of `Client`.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from vastproxy.api.client import Handler
from vastproxy.api.errors import ApiError, bad_request, request_timeout
from vastproxy.api.http.answer import AnswerWriter
from vastproxy.api.http.departures import Departures
from vastproxy.api.http.entrance import Entrance
from vastproxy.api.http.places import ANSWER, BODY, CLOSED, HEAD, LINGER, PIPE
from vastproxy.api.http.request import BadRequest, Request, RequestReader
from vastproxy.services.http1.fields import FieldTable
from vastproxy.services.http1.grammar import Header
from vastproxy.settings.model import ServerSettings

#: Bytes of further requests that are kept while one is answered; more are left in the kernel. As long as there is
#: room, the connection is read and a client that leaves is noticed.
MAX_AHEAD_BYTES = 64 * 1024


class HttpProtocol(AnswerWriter):
    """See the module's docstring. Made by uvicorn for each connection, through `functools.partial`."""

    __slots__ = (
        "_entrance",
        "_handler",
        "_head_begun",
        "_limits",
        "_place",
        "_reader",
        "_server_state",
    )

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        entrance: Entrance,
        limits: ServerSettings,
        fields: FieldTable | None = None,
        departures: Departures | None = None,
    ) -> None:
        """The first four are uvicorn's (0.5x, `Server._serve`). `fields`: what all connections read header lines
        with; `departures`: what watches those that are not read from."""
        super().__init__(
            _loop or asyncio.get_running_loop(),
            write_timeout_s=limits.client_write_timeout_s,
            departures=departures,
        )
        self._server_state = server_state
        self._entrance = entrance
        self._limits = limits
        self._reader = RequestReader(
            fields, max_head_bytes=limits.max_header_bytes, max_headers=limits.max_headers
        )
        self._place = HEAD
        self._handler: Handler | None = None
        self._head_begun = False

    # ── what the transport calls ───────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server_state.connections.add(self)
        self._deadline.after(self._limits.client_header_timeout_s)

    def data_received(self, data: bytes) -> None:
        place = self._place
        if place is HEAD or place is BODY:
            self._read(data)
        elif place is ANSWER:
            self._reader.feed(data)
            if len(self._reader.rest) > MAX_AHEAD_BYTES:
                self._pause()
        elif place is PIPE:
            assert self._handler is not None
            self._handler.client_data(data, complete=False)
        elif place is LINGER:
            self._linger_on()

    def eof_received(self) -> bool:
        if self._place is PIPE and self._handler is not None:
            self._handler.client_data(b"", complete=True)
            return True
        # A client that closes its half has left, as nginx sees it: there is no other sign of leaving.
        self._on_departed()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(self)
        self._leave()
        self._stop_watching()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._handler is not None:
            self._handler.client_writable()
        elif self._place is ANSWER:
            self._go_on()

    # ── what uvicorn calls ─────────────────────────────────────────────────────────────────────

    def shutdown(self) -> None:
        """The server is stopping: end when there is nothing to answer, else after the answer."""
        self._keep_alive = False
        if not self.at_work and self._transport is not None:
            self._close()

    @property
    def at_work(self) -> bool:
        """Is a request being answered?"""
        return self._handler is not None

    # ── requests ───────────────────────────────────────────────────────────────────────────────

    def _read(self, data: bytes) -> None:
        reader = self._reader
        try:
            body = reader.feed(data)
        except BadRequest as error:
            self._refuse(bad_request(error.status, error.message))
            return
        if self._handler is not None:
            self._read_on(self._handler, body)
        elif reader.request is not None:
            self._begin(reader.request, body)
        elif not self._head_begun and not reader.idle:
            self._head_begun = True
            self._deadline.after(self._limits.client_header_timeout_s)

    def _begin(self, request: Request, body: bytes) -> None:
        self._head_begun = False
        self._expect_answer(request)
        complete = self._reader.complete
        self._place = ANSWER if complete else BODY
        if complete or request.expects_continue:  # then the client waits for us
            self._deadline.clear()
        else:
            self._deadline.after(self._limits.client_body_timeout_s)
        self._handler = handler = self._entrance.handle(request, self)
        handler.begin(body, complete=complete)

    def _read_on(self, handler: Handler, body: bytes) -> None:
        if self._reader.complete:
            self._place = ANSWER
            self._deadline.clear()
        elif body:
            if not self._reading_paused:
                limit_s, rate = self._limits.client_body_timeout_s, self._limits.client_body_min_rate
                self._deadline.extend(len(body) / rate if rate else limit_s, at_most=limit_s)
        else:
            return
        handler.client_data(body, complete=self._reader.complete)

    def _refuse(self, error: ApiError) -> None:
        """The connection cannot go on: say so to whoever is answering, or to the client."""
        self._keep_alive = False
        if self._handler is not None:
            self._handler.client_failed(error)
            return
        self._entrance.refused(error, self)
        self._write_error(error, head_only=self._reader.is_head)
        self._linger()

    def _leave(self) -> None:
        handler, self._handler = self._handler, None
        self._place = CLOSED
        if handler is not None:
            handler.client_left()

    @property
    def _half_is_all(self) -> bool:
        return self._place is not PIPE

    def _on_departed(self) -> None:
        self._leave()
        self._end()  # it may have to read first what it was sent, within the limit for that

    def _on_expired(self) -> None:
        if self._place is BODY:
            self._refuse(request_timeout(self._limits.client_body_timeout_s, "body"))
        elif self._place is HEAD and not self._reader.idle:
            self._refuse(request_timeout(self._limits.client_header_timeout_s, "headers"))
        elif self._place is HEAD:
            self._close()
        else:
            self._end_lingering()

    # ── Client: what handlers call ─────────────────────────────────────────────────────────────

    def interim(self, status: int, lines: bytes) -> None:
        """See `Client.interim`. Who was waiting to be asked for the body has its time for that from now on."""
        super().interim(status, lines)
        if status == 100 and self._place is BODY and not self._reading_paused:
            self._deadline.after(self._limits.client_body_timeout_s)

    def respond(
        self,
        status: int,
        lines: bytes,
        *,
        length: int | None,
        has_body: bool = True,
        data: bytes = b"",
        last: bool = False,
    ) -> None:
        """See `Client.respond`."""
        self._write_head(status, lines, has_body and length is None, self._reader.complete, data, last)
        if last:
            self._finish()

    def send(self, data: bytes) -> None:
        """See `Client.send`."""
        if self._handler is not None:
            self._write_piece(data)

    def finish(self, data: bytes = b"", trailers: Sequence[Header] = ()) -> None:
        """See `Client.finish`."""
        if self._handler is not None:
            self._write_end(data, trailers)
            self._finish()

    def break_off(self, data: bytes = b"") -> None:
        """See `Client.break_off`."""
        self._handler = None
        self._write_piece(data)
        self._keep_alive = False
        self._place = CLOSED
        if self._ends_with_connection:
            self._reset()
        else:
            self._end()

    def pause_reading(self) -> None:
        """See `Client.pause_reading`."""
        self._deadline.clear()
        self._pause()

    def resume_reading(self) -> None:
        """See `Client.resume_reading`."""
        if self._reading_paused and self._place is BODY:
            self._deadline.after(self._limits.client_body_timeout_s)
        self._resume()

    def switch(self, lines: bytes) -> None:
        """See `Client.switch`."""
        self._place = PIPE
        self._write_switch(lines)
        self._resume()
        rest = self._reader.next()
        if rest and self._handler is not None:
            self._handler.client_data(rest, complete=False)

    # ── ends ───────────────────────────────────────────────────────────────────────────────────

    def _finish(self) -> None:
        """The answer is out. On to the next request, or to the end."""
        self._handler = None
        self._server_state.total_requests += 1
        more, place = self._reader.rest, self._place
        if place is ANSWER and self._keep_alive:
            if more:  # not from here: a thousand small requests would call each other
                self._loop.call_soon(self._go_on)
            else:
                self._go_on()
        elif place is BODY or more:
            self._linger()
        else:
            self._close()

    def _go_on(self) -> None:
        """To the next request, unless the client must read first: it may not have more made than it takes."""
        if self._place is not ANSWER or self._handler is not None or self.write_paused:
            return
        self._place = HEAD
        if self._reading_paused:
            self._resume()
        limits, rest = self._limits, self._reader.next()
        self._deadline.after(limits.client_header_timeout_s if rest else limits.client_idle_timeout_s)
        if rest:
            self._read(rest)

    def _linger(self) -> None:
        self._place = LINGER
        if not self._end_writing():
            self._close()

    def _close(self) -> None:
        self._place = CLOSED
        self._end()
