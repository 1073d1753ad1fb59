"""HTTP by hand: a client that sees every byte and every moment, and a server that follows a script."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import h11

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Answer:
    """What came back. `complete` is False when the connection ended before the answer did."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = False
    pieces: list[bytes] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class Client:
    """One connection to the proxy, speaking through h11, which shares no code with what is tested."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._h11 = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**16)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def send(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> None:
        """Send a whole request; with `body` None and a length header, only its head."""
        fields = {"host": "proxy.test", **(headers or {})}
        if body is not None and "transfer-encoding" not in fields:
            fields["content-length"] = str(len(body))
        request = h11.Request(method=method, target=path, headers=list(fields.items()))
        data = self._h11.send(request) or b""
        if body is not None:
            data += self._h11.send(h11.Data(data=body)) or b""
            data += self._h11.send(h11.EndOfMessage()) or b""
        elif not any(name in fields for name in ("content-length", "transfer-encoding")):
            data += self._h11.send(h11.EndOfMessage()) or b""
        self.writer.write(data)
        await self.writer.drain()

    async def send_data(self, data: bytes, *, last: bool = False) -> None:
        raw = self._h11.send(h11.Data(data=data)) or b""
        if last:
            raw += self._h11.send(h11.EndOfMessage()) or b""
        self.writer.write(raw)
        await self.writer.drain()

    async def head(self) -> Answer:
        event = await self._event()
        while isinstance(event, h11.InformationalResponse):
            event = await self._event()
        assert isinstance(event, h11.Response), event
        return Answer(event.status_code, [(k.decode(), v.decode()) for k, v in event.headers])

    async def piece(self) -> bytes | None:
        """The next bytes of the body; None at its proper end. Raises h11.RemoteProtocolError when it broke off."""
        event = await self._event()
        if isinstance(event, h11.EndOfMessage):
            return None
        assert isinstance(event, h11.Data), event
        return bytes(event.data)

    async def rest(self, answer: Answer) -> Answer:
        try:
            while (data := await self.piece()) is not None:
                answer.body += data
                answer.pieces.append(data)
            answer.complete = True
        except (h11.RemoteProtocolError, ConnectionError):
            pass
        return answer

    async def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        await self.send(method, path, headers, body)
        answer = await self.rest(await self.head())
        if answer.complete and self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return answer

    async def _event(self) -> Any:
        while True:
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._h11.receive_data(await self.reader.read(2**16))


async def ask(port: int, method: str, path: str, **options: Any) -> Answer:
    """One request on a connection of its own."""
    async with Client(port) as client:
        return await client.ask(method, path, **options)


class ScriptedServer:
    """Each connection is handed to `handler`. `connections` counts them.

    It accepts by itself: asyncio's server forgets a connection that it is about to accept when it is closed.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter | None] = {}

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept_all)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        while None in self._tasks.values():  # a few turns: they are about to begin
            await asyncio.sleep(0)
        for writer in self._tasks.values():
            if writer is not None:
                writer.transport.abort()
        await asyncio.gather(*self._tasks)

    def _accept_all(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                sock = self._listener.accept()[0]
                sock.setblocking(False)
                task = asyncio.get_running_loop().create_task(self._serve(sock), name="scripted")
                self._tasks[task] = None

    async def _serve(self, sock: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            reader, writer = await asyncio.open_connection(sock=sock)
            self._tasks[task] = writer
            self.connections += 1
            try:
                await self._handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()
        finally:
            del self._tasks[task]
