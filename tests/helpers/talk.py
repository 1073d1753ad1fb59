"""A client that sends the bytes it is given. h11, which shares no code with the proxy, reads the answers."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import h11

_LIMIT_S = 30.0
_READ_BYTES = 1 << 16

Headers = list[tuple[str, str]]


@dataclass(slots=True)
class Reply:
    """What came back. `complete` is False when the connection ended before the answer did."""

    status: int
    headers: Headers
    version: str
    body: bytes = b""
    interim: list[tuple[int, Headers]] = field(default_factory=list)
    trailers: Headers = field(default_factory=list)
    complete: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


class Talk:
    """One connection. Every wait is bounded."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", receive_bytes: int | None = None) -> None:
        """`receive_bytes`: size of the socket's receive buffer, for clients that shall not take much."""
        self._address = (host, port)
        self._receive_bytes = receive_bytes
        self._kept = b""

    async def __aenter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if self._receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(sock, self._address)
            limit = self._receive_bytes or 1 << 20
            self.reader, self.writer = await asyncio.open_connection(sock=sock, limit=limit)
        except BaseException:
            sock.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    # ── sending ────────────────────────────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def drain(self) -> None:
        async with asyncio.timeout(_LIMIT_S):
            await self.writer.drain()

    def finish(self) -> None:
        """Send FIN and go on reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Be gone with a RST, as a process that was killed with data unread."""
        sock: Any = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    # ── receiving bytes ────────────────────────────────────────────────────────────────────────

    async def some(self) -> bytes:
        """What has come; b"" at the end. Raises ConnectionResetError."""
        if self._kept:
            data, self._kept = self._kept, b""
            return data
        async with asyncio.timeout(_LIMIT_S):
            return await self.reader.read(_READ_BYTES)

    async def until(self, marker: bytes) -> bytes:
        """Everything up to `marker`, which is included."""
        data = b""
        while marker not in data:
            more = await self.some()
            assert more, f"the connection ended; {data[-200:]!r} came, not {marker!r}"
            data += more
        end = data.index(marker) + len(marker)
        self._kept = data[end:]
        return data[:end]

    def put_back(self, data: bytes) -> None:
        """To be read once more."""
        self._kept = data + self._kept

    async def rest(self) -> bytes:
        """Everything up to the end of the connection. Raises ConnectionResetError when it was no proper end."""
        pieces = []
        while data := await self.some():
            pieces.append(data)
        return b"".join(pieces)

    async def ended(self, *, limit_s: float = _LIMIT_S) -> bool:
        """Wait for the end of the connection, whatever comes before. True if it was a proper one."""
        async with asyncio.timeout(limit_s):
            try:
                while await self.some():
                    pass
            except ConnectionResetError:
                return False
        return True

    # ── receiving answers ──────────────────────────────────────────────────────────────────────

    async def answer(self, method: str = "GET", *, pause_s: float = 0.0) -> Reply:
        """The next answer, to a request with this method; its body up to its end or that of the connection.

        `pause_s`: rest that long between two looks, as a slow reader does.
        """
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        interim: list[tuple[int, Headers]] = []
        reply: Reply | None = None
        pieces: list[bytes] = []
        try:
            while not isinstance(event := await self._event(parser, pause_s), h11.EndOfMessage):
                if isinstance(event, h11.InformationalResponse):
                    interim.append((event.status_code, _decoded(event.headers)))
                elif isinstance(event, h11.Response):
                    version = event.http_version.decode()
                    reply = Reply(event.status_code, _decoded(event.headers), version, interim=interim)
                else:
                    assert isinstance(event, h11.Data), event
                    pieces.append(bytes(event.data))
        except (h11.RemoteProtocolError, ConnectionError):
            if reply is None:
                raise
        else:
            assert reply is not None
            reply.complete = True
            reply.trailers = _decoded(event.headers)
            self._kept = parser.trailing_data[0]
        reply.body = b"".join(pieces)
        return reply

    async def ask(self, request: bytes) -> Reply:
        """Send a request and read its answer."""
        self.write(request)
        return await self.answer(request.split(b" ", 1)[0].decode())

    async def _event(self, parser: h11.Connection, pause_s: float) -> Any:
        while (event := parser.next_event()) is h11.NEED_DATA:
            if pause_s:
                await asyncio.sleep(pause_s)
            parser.receive_data(await self.some())
        return event


def _decoded(headers: Any) -> Headers:
    return [(name.decode(), value.decode("latin-1")) for name, value in headers]


async def ask(port: int, request: bytes, *, host: str = "127.0.0.1") -> Reply:
    """One request on a connection of its own."""
    async with Talk(port, host=host) as talk:
        return await talk.ask(request)


def get(target: str = "/x", *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A request without a body."""
    head = [f"{method} {target} HTTP/{version}", "host: proxy.test", *lines]
    return "".join(f"{line}\r\n" for line in (*head, "")).encode("latin-1")


def post(body: bytes, *lines: str, target: str = "/x", method: str = "POST") -> bytes:
    """A request with a body of known length."""
    return get(target, f"content-length: {len(body)}", *lines, method=method) + body
