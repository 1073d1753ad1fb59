"""What the access log is told of requests that really ran, and what it is never told."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.helpers.exchanging import Scene
from tests.helpers.recording_client import make_request
from vastproxy.api.access import NAME_LIMIT_CHARS, AccessLog
from vastproxy.services.access.callers import Callers
from vastproxy.services.metrics.requests import RequestMetrics

pytestmark = pytest.mark.virtual_time

CHAT = b"/v1/chat/completions"
BODY = b'{"model": "%b", "stream": true, "messages": [{"role": "user", "content": "a prompt of mine"}]}'
USAGE = (
    b'{"choices": [{"text": "an answer of its"}], "usage": {"prompt_tokens": 12, "completion_tokens": 34}}'
)


class Logged:
    """A scene whose access log is written, and what it wrote."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.lines: list[bytes] = []
        self.scene.tools.access_log = AccessLog(form="json", sink=self.lines.append)

    @property
    def last(self) -> dict[str, Any]:
        entry: dict[str, Any] = json.loads(self.lines[-1])
        return entry


@pytest.fixture
async def logged(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Logged]:
    caplog.set_level("INFO", logger="vastproxy.access")
    logged = Logged()
    yield logged
    await logged.scene.aclose()


async def test_a_stream_and_its_tokens(logged: Logged) -> None:
    asked = await logged.scene.ask(b"POST", CHAT, body=BODY % b"m")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    asked.stream.feed(head)
    asked.stream.feed(b"%x\r\n%b\r\n" % (len(USAGE), USAGE))
    asked.stream.feed(b"0\r\n\r\n")
    told = logged.last
    assert (told["status"], told["streamed"], told["error"]) == (200, True, None)
    assert (told["tokens_in"], told["tokens_out"], told["sent_bytes"]) == (12, 34, len(USAGE))
    assert (told["instance_id"], told["via"], told["attempts"]) == (1, "direct", 1)
    assert (told["method"], told["path"], told["model"]) == ("POST", CHAT.decode(), "m")
    assert b"prompt of mine" not in logged.lines[0]
    assert b"answer of its" not in logged.lines[0]


async def test_an_answer_in_one_piece_is_no_stream(logged: Logged) -> None:
    asked = await logged.scene.ask(b"POST", CHAT, body=BODY % b"m")
    asked.stream.feed(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(USAGE), USAGE))
    assert (logged.last["streamed"], logged.last["tokens_in"], logged.last["tokens_out"]) == (False, 12, 34)


async def test_the_log_and_the_metrics_are_told_the_same(logged: Logged) -> None:
    """The end of an answer is looked at once, for both."""
    metrics = RequestMetrics()
    logged.scene.tools.finished = metrics.finished
    asked = await logged.scene.ask(b"POST", CHAT, body=BODY % b"m")
    asked.stream.feed(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(USAGE), USAGE))
    (counted,) = metrics.series()
    told = logged.last
    assert (counted.tokens_in, counted.tokens_out) == (told["tokens_in"], told["tokens_out"]) == (12, 34)
    assert (counted.sent_bytes, counted.received_bytes) == (told["sent_bytes"], told["received_bytes"])
    assert counted.seconds == pytest.approx(told["took_s"], abs=1e-6)


async def test_the_query_is_not_logged(logged: Logged) -> None:
    """Some put tokens there."""
    asked = await logged.scene.ask(b"GET", b"/v1/x?key=secret")
    asked.stream.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert b"secret" not in logged.lines[0]
    assert (logged.last["path"], logged.last["model"]) == ("/v1/x", None)


async def test_the_key_is_told_by_its_name(logged: Logged) -> None:
    caller = Callers(["sk-very-secret-key-of-the-client"]).find([b"Bearer sk-very-secret-key-of-the-client"])
    request = make_request(b"GET", b"/v1/x")
    request.facts.admitted_by = caller
    asked = logged.scene.start(request)
    asked.exchange.client_left()
    assert (logged.last["key"], logged.last["status"]) == ("env-1", 499)
    assert b"very-secret" not in logged.lines[0]


async def test_a_model_that_nobody_serves_is_cut(logged: Logged) -> None:
    asked = await logged.scene.ask(b"POST", CHAT, body=BODY % (b"x" * 2_000))
    asked.exchange.client_left()
    assert logged.last["model"] == "x" * NAME_LIMIT_CHARS + "…"


async def test_each_attempt_before_the_last_is_told(logged: Logged) -> None:
    logged.scene.tunnels[0].refuse()
    asked = await logged.scene.ask(b"POST", CHAT, body=BODY % b"m")
    asked.stream.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    told = logged.last
    assert (told["instance_id"], told["attempts"], told["status"]) == (2, 2, 200)
    (first,) = told["tried"]
    assert (first["instance_id"], first["outcome"]) == (1, "failed")
    assert "18000" in first["error"]


async def test_a_request_that_nobody_can_serve_says_why(logged: Logged) -> None:
    for tunnel in logged.scene.tunnels:
        tunnel.refuse()
    await logged.scene.ask(b"POST", CHAT, body=BODY % b"m")
    assert logged.last["status"] >= 500
    assert logged.last["error"] in {"backend_unreachable", "no_backend_available"}
