"""Our own pages: an ASGI application behind a client, whatever either of them does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from tests.helpers.recording_client import RecordingClient, make_request
from vastproxy.api.errors import too_large
from vastproxy.api.http.asgi import MAX_BODY_BYTES, AsgiCall, path_of, scope_of
from vastproxy.api.http.request import Request
from vastproxy.services.http1.framing import CHUNKED
from vastproxy.services.http1.grammar import Header
from vastproxy.services.tasks import Tasks

pytestmark = pytest.mark.virtual_time

START = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Page:
    """One call of an application. `messages` is what it received."""

    def __init__(self, tasks: Tasks, app: App, request: Request) -> None:
        self.client = RecordingClient()
        self.messages: list[Any] = []
        self.ended = asyncio.Event()
        self._app = app
        self.call = AsgiCall(self._run, request, self.client, tasks)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noted() -> Any:
            message = await receive()
            self.messages.append(message)
            return message

        try:
            await self._app(scope, noted, send)
        finally:
            self.ended.set()

    async def over(self) -> None:
        """Until the application has ended and what follows from it has happened."""
        await asyncio.wait_for(self.ended.wait(), 5)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks("test")
    yield tasks
    await tasks.aclose()


async def ask(tasks: Tasks, app: App, request: Request | None = None, data: bytes = b"") -> RecordingClient:
    """A whole request, answered."""
    page = Page(tasks, app, request or make_request())
    page.call.begin(data, complete=True)
    await page.over()
    return page.client


def answering(*messages: Any) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def test_the_scope() -> None:
    headers = [(b"accept", b"a"), (b"accept", b"b")]
    request = make_request(b"POST", b"/a%2Fb%C3%A9?x=%20&y", headers=headers)
    scope = scope_of(request, RecordingClient(peer="::1", scheme="https"))
    assert scope["type"] == "http"
    assert (scope["method"], scope["http_version"], scope["scheme"]) == ("POST", "1.1", "https")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a/bé", b"/a%2Fb%C3%A9", b"x=%20&y")
    assert scope["headers"] == headers
    assert scope["client"] == ("::1", 0)
    assert scope_of(make_request(minor=0), RecordingClient(peer=""))["client"] is None
    assert path_of(make_request(target=b"/a\xff%ff?%41")) == "/aÿ\ufffd"


async def test_an_answer_of_known_length(tasks: Tasks) -> None:
    head: list[Header] = [(b"Content-Length", b"2"), (b"x-a", b"1")]
    client = await ask(tasks, answering({**START, "status": 201, "headers": head}, body(b"ok")))
    assert (client.status, client.length, client.body, client.complete) == (201, 2, b"ok", True)
    assert client.headers == [(b"content-length", b"2"), (b"x-a", b"1")]
    assert client.calls == ["respond"]


async def test_an_answer_in_pieces(tasks: Tasks) -> None:
    client = await ask(tasks, answering(START, body(b"a", more=True), body(b"b", more=True), body(b"")))
    assert (client.length, client.body, client.complete) == (None, b"ab", True)
    assert client.calls == ["respond", "send", "finish"]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
async def test_answers_without_a_body(tasks: Tasks, method: bytes, status: int) -> None:
    """Whatever the application sends for one, and it hears that nobody waits for more."""
    heard: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({**START, "status": status, "headers": [(b"content-length", b"5")]})
        await send(body(b"he", more=True))
        heard.append(await receive())
        await send(body(b"llo"))

    client = await ask(tasks, app, make_request(method))
    assert (client.status, client.has_body, client.body, client.complete) == (status, False, b"", True)
    assert heard == [{"type": "http.disconnect"}]


async def test_the_body_reaches_the_application_in_pieces(tasks: Tasks) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        await send(START)
        await send(body(b"", more=True))
        assert (await receive())["type"] == "http.disconnect"

    page = Page(tasks, app, make_request(b"POST", framing=CHUNKED))
    page.call.begin(b"", complete=False)
    await asyncio.sleep(0)
    assert page.messages == []
    page.call.client_data(b"one", complete=False)
    await asyncio.sleep(0)
    page.call.client_data(b"two", complete=False)
    page.call.client_data(b"three", complete=True)
    await asyncio.sleep(0)
    assert [message["body"] for message in page.messages] == [b"one", b"twothree"]
    assert [message["more_body"] for message in page.messages] == [True, False]
    page.call.client_left()
    await page.over()


async def test_who_expects_it_is_told_to_go_on(tasks: Tasks) -> None:
    request = make_request(b"POST", framing=CHUNKED, expects_continue=True)
    client = await ask(tasks, answering(START, body(b"")), request)
    assert client.interims == [(100, [])]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("when", ["before an answer", "after its head", "in its body", "after it"])
async def test_an_application_that_fails(
    tasks: Tasks, caplog: pytest.LogCaptureFixture, method: bytes, when: str
) -> None:
    """The log has the traceback. The client gets an error if that is still possible, else a broken answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if when != "before an answer":
            await send(START)
        if when == "in its body":
            await send(body(b"a", more=True))
        if when == "after it":
            await send(body(b"a"))
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        client = await ask(tasks, app, make_request(method))
    assert "ZeroDivisionError" in caplog.text
    if when == "after it" or (when == "in its body" and method == b"HEAD"):
        assert client.complete
    elif when == "in its body":
        assert client.broken
    else:
        assert (client.status, client.complete, client.has_body) == (500, True, method != b"HEAD")
        assert (b'"proxy_error"' in client.body) is (method != b"HEAD")


async def test_an_application_that_does_not_answer(tasks: Tasks) -> None:
    for app in (answering(), answering(START)):
        client = await ask(tasks, app)
        assert (client.status, client.complete) == (500, True)


async def test_an_application_that_does_not_finish_its_answer(tasks: Tasks) -> None:
    client = await ask(tasks, answering(START, body(b"a", more=True)))
    assert client.broken


async def test_messages_that_we_do_not_know_mean_nothing(tasks: Tasks) -> None:
    client = await ask(tasks, answering({"type": "http.response.debug"}, START, body(b"a")))
    assert (client.status, client.body) == (200, b"a")


@pytest.mark.parametrize("answered", [False, True])
async def test_a_body_over_the_limit(tasks: Tasks, answered: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if answered:
            await send(START)
            await send(body(b"a", more=True))
        while (await receive())["type"] != "http.disconnect":
            pass
        await send(body(b"b"))

    page = Page(tasks, app, make_request(b"POST", framing=CHUNKED))
    page.call.begin(b"x", complete=False)
    await asyncio.sleep(0)
    page.call.client_data(b"x" * (MAX_BODY_BYTES + 1), complete=False)
    page.call.client_failed(too_large(1))  # what else goes wrong changes nothing
    await page.over()
    if answered:
        assert page.client.broken
    else:
        assert (page.client.status, page.client.complete) == (413, True)


async def test_a_client_that_leaves(tasks: Tasks) -> None:
    """The application hears of it, and what it sends goes nowhere."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        await send(START)
        await send(body(b"a"))

    page = Page(tasks, app, make_request())
    page.call.begin(b"", complete=True)
    await asyncio.sleep(0)
    page.call.client_left()
    await page.over()
    assert page.messages[-1] == {"type": "http.disconnect"}
    assert page.client.calls == []


async def test_a_client_that_does_not_read_holds_the_application(tasks: Tasks) -> None:
    page = Page(tasks, answering(START, body(b"a", more=True), body(b"b")), make_request())
    page.client.on_send = lambda: setattr(page.client, "write_paused", True)
    page.call.begin(b"", complete=True)
    await asyncio.sleep(0.01)
    assert page.client.calls == ["respond"]
    page.client.write_paused = False
    page.call.client_writable()
    await page.over()
    assert (page.client.body, page.client.complete) == (b"ab", True)


async def test_a_client_that_does_not_read_and_leaves(tasks: Tasks) -> None:
    page = Page(tasks, answering(START, body(b"a", more=True), body(b"b")), make_request())
    page.client.on_send = lambda: setattr(page.client, "write_paused", True)
    page.call.begin(b"", complete=True)
    await asyncio.sleep(0.01)
    page.call.client_left()
    await page.over()
    assert page.client.calls == ["respond"]


@pytest.mark.parametrize("answered", [False, True])
async def test_the_end_of_the_server_breaks_off(answered: bool) -> None:
    tasks = Tasks("test")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if answered:
            await send(START)
            await send(body(b"a"))
        await asyncio.Event().wait()

    page = Page(tasks, app, make_request())
    page.call.begin(b"", complete=True)
    await asyncio.sleep(0.01)
    await tasks.aclose()
    assert page.client.broken is not answered
