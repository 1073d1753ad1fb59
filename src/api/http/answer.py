"""Answers as HTTP/1.1 writes them: head and first piece in one write, the frame that the client understands."""

import asyncio
from collections.abc import Sequence

from vastproxy.api.errors import ApiError
from vastproxy.api.http.departures import Departures
from vastproxy.api.http.link import Link
from vastproxy.api.http.request import Request
from vastproxy.services.http1.grammar import Header
from vastproxy.services.http1.headers import STATUS_LINES, chunk, last_chunk

#: Above this many bytes a piece of a body is not copied together with its frame.
_COPY_LIMIT_BYTES = 16 * 1024


class AnswerWriter(Link):
    """A link on which one request after another is answered. Whether to keep it alive is decided with each head."""

    __slots__ = ("_framed", "_keep_alive", "_request", "_responded")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, write_timeout_s: float, departures: Departures | None = None
    ) -> None:
        """See `Link`."""
        super().__init__(loop, write_timeout_s=write_timeout_s, departures=departures)
        self._request: Request | None = None
        self._responded = False
        self._framed = False
        self._keep_alive = True

    def interim(self, status: int, lines: bytes) -> None:
        """See `Client.interim`."""
        if self._request is not None and self._request.minor and not self._responded:
            self._write(b"%b%b\r\n" % (STATUS_LINES[status], lines))

    @property
    def chunks(self) -> "AnswerWriter | None":
        """See `Client.chunks`."""
        return self if self._framed else None

    def send_chunk(self, chunk: bytes) -> None:
        """See `ChunkClient.send_chunk`."""
        transport = self._transport
        if transport is not None:
            transport.write(chunk)

    @property
    def _ends_with_connection(self) -> bool:
        """Would the end of the connection be read as the proper end of the body?"""
        return self._responded and not self._framed and self._request is not None and not self._request.minor

    def abort(self) -> None:
        """End at once, so that nobody takes half an answer for a whole one."""
        if self._ends_with_connection:
            self._reset()
        elif self._transport is not None:
            self._transport.abort()

    def _expect_answer(self, request: Request) -> None:
        self._request = request
        self._responded = False
        self._framed = False

    def _write_head(
        self,
        status: int,
        lines: bytes,
        unknown_length: bool,
        whole_request: bool,
        data: bytes,
        last: bool,
    ) -> None:
        """`whole_request`: else the connection cannot serve another one after this."""
        request, transport = self._request, self._transport
        assert request is not None
        self._responded = True
        if whole_request and request.keep_alive and request.minor and self._keep_alive and not unknown_length:
            if transport is not None:
                transport.write(b"".join((STATUS_LINES[status], lines, b"\r\n", data)))
            return
        parts = [STATUS_LINES[status], lines]
        keep = self._keep_alive and request.keep_alive and whole_request
        if unknown_length:
            if request.minor:
                self._framed = True
                parts.append(b"transfer-encoding: chunked\r\n")
            else:
                keep = False  # only the end of the connection ends the body
        if not keep:
            self._keep_alive = False
            parts.append(b"connection: close\r\n")
        elif not request.minor:
            parts.append(b"connection: keep-alive\r\n")
        parts.append(b"\r\n")
        if data:
            parts.append(chunk(data) if self._framed else data)
        if last and self._framed:
            parts.append(last_chunk())
        self._write(b"".join(parts))

    def _write_piece(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or not data:
            return
        if not self._framed:
            transport.write(data)
        elif len(data) <= _COPY_LIMIT_BYTES:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))

    def _write_end(self, data: bytes, trailers: Sequence[Header]) -> None:
        if self._framed:
            takes_trailers = self._request is not None and self._request.takes_trailers
            self._write(chunk(data) + last_chunk(trailers if takes_trailers else ()))
        elif data:
            self._write(data)

    def _write_switch(self, lines: bytes) -> None:
        """From here on bytes are bytes."""
        self._responded = True
        self._framed = False
        self._keep_alive = False
        self._write(b"%b%b\r\n" % (STATUS_LINES[101], lines))

    def _write_error(self, error: ApiError, *, head_only: bool) -> None:
        """The answer to what was no request."""
        body = error.body()
        lines = error.lines(len(body))
        if head_only:
            body = b""
        self._write(b"%b%bconnection: close\r\n\r\n%b" % (STATUS_LINES[error.status], lines, body))
