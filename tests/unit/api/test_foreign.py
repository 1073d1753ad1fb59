"""Requests through any ASGI server: what is made of its scope, and of a client that leaves, stalls or is cut off."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.helpers.recording_client import RecordingHandler
from vastproxy.api.foreign import HIGH_WATER_BYTES, AsgiClient, path_of, request_of
from vastproxy.services.http1.framing import CHUNKED, Framing
from vastproxy.services.tasks import Tasks

pytestmark = pytest.mark.virtual_time


def make_scope(**over: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": "/v1/x",
        "raw_path": b"/v1/x",
        "query_string": b"",
        "headers": [(b"host", b"h"), (b"content-length", b"5")],
        "scheme": "https",
        "client": ("203.0.113.7", 4711),
        **over,
    }


class Server:
    """An ASGI server: `messages` for the application, `sent` from it."""

    def __init__(self, tasks: Tasks, *messages: dict[str, Any], **scope: Any) -> None:
        self.handler = RecordingHandler()
        self.sent: list[Any] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self._tasks = tasks
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for message in messages:
            self.say(message)
        self.client = AsgiClient(make_scope(**scope), self._messages.get, self._send)

    def say(self, message: dict[str, Any]) -> None:
        self._messages.put_nowait(message)

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        await self.takes.wait()

    async def serve(self) -> None:
        async with asyncio.timeout(5):
            await self.client.serve(self.handler, self._tasks)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def part(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


LEAVES = {"type": "http.disconnect"}


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks("test")
    yield tasks
    await tasks.aclose()


# ── the request ────────────────────────────────────────────────────────────────────────────────


def test_a_request_is_what_the_scope_says() -> None:
    headers = [
        (b"host", b"h"),
        (b"connection", b"x-hop, Close"),
        (b"content-length", b"5"),
        (b"x-request-id", b"r"),
    ]
    request = request_of(make_scope(raw_path=b"/a%2Fb", query_string=b"c=%20", headers=headers))
    assert (request.method, request.target, request.host, request.minor) == (
        b"POST",
        b"/a%2Fb?c=%20",
        b"h",
        1,
    )
    assert request.headers == headers
    assert request.connection == {b"x-hop", b"close"}
    assert request.known[b"x-request-id"] == [b"r"]
    assert (request.upgrade, request.expects_continue, request.takes_trailers) == (b"", False, False)


@pytest.mark.parametrize(
    ("headers", "framing"),
    [
        ([(b"content-length", b"5")], Framing(chunked=False, length=5)),
        ([(b"content-length", b"0")], Framing(chunked=False, length=0)),
        ([(b"transfer-encoding", b"chunked")], CHUNKED),
        ([(b"transfer-encoding", b"chunked"), (b"content-length", b"5")], CHUNKED),
        ([], CHUNKED),
        ([(b"content-length", b"x")], CHUNKED),
        ([(b"content-length", b"9" * 5000)], CHUNKED),
        ([[b"content-length", b"5"]], Framing(chunked=False, length=5)),
    ],
)
def test_what_announces_no_length_may_have_any(headers: list[Any], framing: Framing) -> None:
    """HTTP/2 has bodies without either header. Sent on as a request without a body, they would be the next request."""
    assert request_of(make_scope(headers=headers)).framing == framing


def test_a_server_without_raw_paths_gives_no_way_into_the_request_line() -> None:
    """The path is decoded then: its line ends and blanks are the client's."""
    scope = make_scope(path="/a b\r\nx: y/é%?#", query_string=b"q")
    del scope["raw_path"]
    assert request_of(scope).target == b"/a%20b%0D%0Ax:%20y/%C3%A9%25%3F%23?q"


def test_the_client_of_a_scope() -> None:
    async def nothing(*_: Any) -> Any: ...

    client = AsgiClient(make_scope(), nothing, nothing)
    assert (client.peer, client.scheme) == ("203.0.113.7", "https")
    assert AsgiClient(make_scope(client=None), nothing, nothing).peer == ""


# ── the exchange ───────────────────────────────────────────────────────────────────────────────


async def test_a_request_and_its_answer(tasks: Tasks) -> None:
    server = Server(tasks, part(b"one", more=True), part(b"", more=True), part(b"two"))

    def answer() -> None:
        if server.handler.complete:
            server.client.interim(103, b"")  # nothing that ASGI could say
            server.client.respond(201, b"x-a: 1\r\n", length=2, data=b"o")
            server.client.finish(b"k", [(b"x-t", b"1")])

    server.handler.on_data = answer
    await server.serve()
    assert server.handler.body == b"onetwo"
    assert server.handler.calls == ["begin", "data"]
    assert server.sent == [
        {"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"1")]},
        {"type": "http.response.body", "body": b"o", "more_body": True},
        {"type": "http.response.body", "body": b"k", "more_body": False},
    ]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_a_body_may_come_in_other_buffers(
    tasks: Tasks, kind: type[bytearray] | type[memoryview]
) -> None:
    """Middleware hands on what it has; what comes behind is told bytes."""
    server = Server(tasks, part(kind(b"one"), more=True), part(kind(b"two")))  # type: ignore[arg-type]

    def answer() -> None:
        if server.handler.complete:
            server.client.respond(204, b"", length=None, has_body=False, last=True)

    server.handler.on_data = answer
    await server.serve()
    assert server.handler.body == b"onetwo"


@pytest.mark.parametrize("last", [True, False])
async def test_a_head_alone(tasks: Tasks, last: bool) -> None:
    server = Server(tasks, part(b""))

    def answer() -> None:
        server.client.respond(
            204, b"", length=None, has_body=False, last=True
        ) if last else server.client.respond(200, b"", length=None)

    server.handler.on_begin = answer
    if not last:
        server.say(LEAVES)
    await server.serve()
    assert server.sent[0]["type"] == "http.response.start"
    assert len(server.sent) == (2 if last else 1)
    assert server.handler.left is not last


@pytest.mark.parametrize("when", ["before the request", "in its body", "before the answer", "in the answer"])
async def test_a_client_that_leaves(tasks: Tasks, when: str) -> None:
    server = Server(tasks)
    if when != "before the request":
        server.say(part(b"x", more=when == "in its body"))
    if when == "in the answer":
        server.handler.on_begin = lambda: server.client.respond(200, b"", length=None, data=b"a")
    server.say(LEAVES)
    await server.serve()
    assert server.handler.left
    assert server.handler.calls[-1] == "left"
    assert server.body == (b"a" if when == "in the answer" else b"")


async def test_breaking_off_leaves_the_answer_without_an_end(tasks: Tasks) -> None:
    """A server closes the connection then."""
    for event in (b"event: error\n\n", b""):
        server = Server(tasks, part(b""))

        def answer(server: Server = server, event: bytes = event) -> None:
            server.client.respond(200, b"", length=None, data=b"a")
            server.client.break_off(event)

        server.handler.on_begin = answer
        await server.serve()
        assert server.body == b"a" + event
        assert all(message.get("more_body", True) for message in server.sent)
        assert not server.handler.left


async def test_a_server_that_does_not_take_more_stops_the_handler_and_lets_it_go_on(tasks: Tasks) -> None:
    server = Server(tasks, part(b""))
    server.takes.clear()
    began = asyncio.Event()

    def answer() -> None:
        server.client.respond(200, b"", length=None, data=b"x" * HIGH_WATER_BYTES)
        assert not server.client.write_paused
        server.client.send(b"y")
        assert server.client.write_paused
        began.set()

    server.handler.on_begin = answer
    serving = asyncio.get_running_loop().create_task(server.serve())
    await began.wait()
    await asyncio.sleep(0.01)
    assert "writable" not in server.handler.calls
    server.takes.set()
    await asyncio.sleep(0.01)
    assert server.handler.calls.count("writable") == 1
    assert not server.client.write_paused
    server.client.finish(b"z")
    await serving
    assert len(server.body) == HIGH_WATER_BYTES + 2


async def test_a_handler_that_takes_no_more_stops_the_server(tasks: Tasks) -> None:
    server = Server(tasks, part(b"a", more=True), part(b"b"))
    server.handler.on_begin = lambda: server.client.pause_reading()
    server.handler.on_data = lambda: server.client.respond(204, b"", length=None, has_body=False, last=True)
    serving = asyncio.get_running_loop().create_task(server.serve())
    await asyncio.sleep(0.01)
    assert server.handler.body == b"a"
    server.client.resume_reading()
    await serving
    assert server.handler.body == b"ab"


async def test_what_comes_after_the_answer_is_nobodys(tasks: Tasks) -> None:
    server = Server(tasks, part(b"a", more=True))
    server.handler.on_begin = lambda: server.client.respond(413, b"", length=0, last=True)
    server.takes.clear()
    serving = asyncio.get_running_loop().create_task(server.serve())
    await asyncio.sleep(0.01)
    server.say(part(b"b"))
    await asyncio.sleep(0.01)
    server.takes.set()
    await serving
    assert server.handler.calls == ["begin"]


async def test_a_server_that_is_cut_off_lets_the_handler_know(tasks: Tasks) -> None:
    server = Server(tasks, part(b""))
    serving = asyncio.get_running_loop().create_task(server.serve())
    await asyncio.sleep(0.01)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert server.handler.left


async def test_no_other_protocol(tasks: Tasks) -> None:
    with pytest.raises(NotImplementedError):
        Server(tasks).client.switch(b"")


@pytest.mark.parametrize(
    ("root", "path", "raw", "target"),
    [
        ("", "/v1/x", b"/v1/x", b"/v1/x"),
        ("/llm", "/llm/v1/x", b"/llm/v1/x", b"/v1/x"),
        ("/llm", "/llm", b"/llm", b"/"),
        ("/a b", "/a b/v1/%", b"/a%20b/v1/%25", b"/v1/%25"),
    ],
)
def test_mounted_below_a_path_the_engine_gets_the_rest(
    root: str, path: str, raw: bytes, target: bytes
) -> None:
    """An application that is mounted in another one does not tell engines where."""
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": raw, "root_path": root, "headers": []}
    assert request_of(scope).target == target
    assert path_of(scope) == ("/" + path.removeprefix(root).removeprefix("/"))
