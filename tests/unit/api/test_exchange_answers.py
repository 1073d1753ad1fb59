"""Answers on their way through an exchange: what the client gets, in which pieces, and what becomes of connections."""

import json
from collections.abc import Callable

import pytest

from tests.helpers.exchanging import Scene, gathered
from vastproxy.services.http1.framing import CHUNKED, Framing
from vastproxy.settings.model import ServerSettings

pytestmark = pytest.mark.virtual_time

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_a_request_and_its_answer_in_one_write_each(scene: Scene) -> None:
    asked = await scene.ask(b"POST", b"/v1/x?y", body=b"hello", headers=[(b"accept", b"a")])
    head, _, body = asked.stream.written.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    assert (line, body) == (b"POST /v1/x?y HTTP/1.1", b"hello")
    assert sorted(headers) == [
        b"accept: a",
        b"authorization: Bearer token-1",
        b"content-length: 5",
        b"host: 127.0.0.1:18000",
        b"x-forwarded-for: 203.0.113.7",
        b"x-forwarded-host: proxy.test",
        b"x-forwarded-proto: http",
        b"x-request-id: r1",
    ]
    asked.stream.feed(b"HTTP/1.1 200 OK\r\nx-a: a\r\nset-cookie: c\r\nx-a: b\r\ncontent-length: 2\r\n\r\nok")
    assert asked.client.calls == ["respond"]
    assert (asked.client.status, asked.client.body, asked.client.complete) == (200, b"ok", True)
    assert asked.client.headers == [
        (b"x-a", b"a"),
        (b"x-a", b"b"),
        (b"content-length", b"2"),
        (b"x-request-id", b"r1"),
        (b"x-vastproxy-instance", b"1"),
    ]
    scene.assert_idle()
    assert scene.access.lines == [(200, 1, 2, 5, 1)]
    assert scene.backends[0].ways[0].idle == 1


async def test_one_connection_serves_one_request_after_another(scene: Scene) -> None:
    for _ in range(3):
        asked = await scene.ask()
        asked.stream.feed(OK)
        assert asked.client.body == b"ok"
    assert len(scene.streams) == 1
    assert scene.backends[0].requests == 3
    scene.assert_idle()


async def test_a_pin_chooses(scene: Scene) -> None:
    asked = await scene.ask(pin=2)
    asked.stream.feed(OK)
    assert asked.client.header(b"x-vastproxy-instance") == b"2"


async def test_each_token_goes_out_in_the_call_that_brought_it(scene: Scene) -> None:
    asked = await scene.ask()
    asked.stream.feed(CHUNKS)
    for piece in (b"a", b"bc", b"def"):
        asked.stream.feed(b"%x\r\n%b\r\n" % (len(piece), piece))
        assert asked.client.body.endswith(piece)
    asked.stream.feed(b"0\r\n\r\n")
    assert (asked.client.body, asked.client.complete, asked.client.length) == (b"abcdef", True, None)
    assert asked.client.calls == ["respond", "send", "send", "send", "finish"]
    assert scene.access.lines == [(200, 1, 6, 0, 1)]


async def test_trailers_are_passed_on(scene: Scene) -> None:
    asked = await scene.ask(takes_trailers=True)
    assert b"\r\nconnection: te\r\nte: trailers\r\n" in asked.stream.written
    asked.stream.feed(CHUNKS + b"2\r\nok\r\n0\r\nx-sum: 1\r\ncontent-length: 9\r\n\r\n")
    assert (asked.client.body, asked.client.trailers) == (b"ok", [(b"x-sum", b"1")])


@pytest.mark.parametrize(
    ("method", "head", "length"),
    [
        (b"HEAD", b"200 OK\r\ncontent-length: 5", b"5"),
        (b"HEAD", b"200 OK\r\ntransfer-encoding: chunked", None),
        (b"GET", b"304 Not Modified\r\ncontent-length: 5", b"5"),
        (b"GET", b"204 No Content\r\ncontent-length: 5", None),
        (b"GET", b"204 No Content", None),
    ],
)
async def test_answers_without_a_body(scene: Scene, method: bytes, head: bytes, length: bytes | None) -> None:
    asked = await scene.ask(method)
    asked.stream.feed(b"HTTP/1.1 %b\r\n\r\n" % head)
    assert (asked.client.has_body, asked.client.complete) == (False, True)
    assert asked.client.header(b"content-length") == length
    assert asked.client.header(b"transfer-encoding") is None
    assert scene.backends[0].ways[0].idle == 1
    scene.assert_idle()


async def test_a_body_that_ends_with_the_connection(scene: Scene) -> None:
    asked = await scene.ask()
    asked.stream.feed(b"HTTP/1.0 200 OK\r\n\r\nall of")
    asked.stream.feed(b" it")
    assert not asked.client.ended
    asked.stream.feed_eof()
    assert (asked.client.body, asked.client.complete, asked.client.length) == (b"all of it", True, None)
    assert scene.backends[0].ways[0].idle == 0
    assert asked.stream.is_closing()


async def test_a_length_that_a_connection_token_names_is_passed_on_all_the_same(scene: Scene) -> None:
    asked = await scene.ask()
    asked.stream.feed(
        b"HTTP/1.1 200 OK\r\nconnection: content-length, x-hop\r\nx-hop: 1\r\ncontent-length: 2\r\n\r\nok"
    )
    assert asked.client.header(b"content-length") == b"2"
    assert asked.client.header(b"x-hop") is None


# ── interim answers ────────────────────────────────────────────────────────────────────────────


async def test_an_expectation_is_met_by_the_engine_once(scene: Scene) -> None:
    """The body is not waited for, and a second 100 is the engine's own affair."""
    framing = Framing(chunked=False, length=5)
    asked = await scene.ask(b"POST", expects_continue=True, complete=False, framing=framing)
    assert b"\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n" in asked.stream.written
    for _ in range(2):
        asked.stream.feed(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert asked.client.interims == [(100, [])]
    asked.exchange.client_data(b"hello", complete=True)
    assert asked.stream.written.endswith(b"\r\n\r\nhello")
    asked.stream.feed(OK)
    assert asked.client.status == 200
    assert scene.backends[0].ways[0].idle == 1


async def test_an_expectation_may_be_refused(scene: Scene) -> None:
    asked = await scene.ask(b"POST", expects_continue=True, complete=False, framing=CHUNKED)
    asked.stream.feed(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n")
    assert (asked.client.status, asked.client.complete) == (417, True)
    assert asked.stream.aborted  # what the client sends next would be taken for another request
    scene.assert_idle()


async def test_a_100_that_nobody_asked_for_is_dropped_and_hints_are_passed(scene: Scene) -> None:
    asked = await scene.ask()
    asked.stream.feed(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nconnection: close\r\nlink: </a>\r\n\r\n"
        + OK
    )
    assert asked.client.interims == [(103, [(b"link", b"</a>")])]
    assert asked.client.body == b"ok"


# ── answers that come early ────────────────────────────────────────────────────────────────────


async def test_an_answer_may_come_before_the_whole_request(scene: Scene) -> None:
    """It is passed on at once. The connection is not used again: the engine still waits for the rest."""
    asked = await scene.ask(b"POST", body=b"part", complete=False, framing=Framing(chunked=False, length=100))
    await gathered()
    asked.stream.feed(b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\n")
    asked.exchange.client_data(b"more", complete=False)  # the answer's body may depend on it
    assert asked.stream.written.endswith(b"partmore")
    asked.stream.feed(b"gone")
    assert (asked.client.status, asked.client.body, asked.client.complete) == (413, b"gone", True)
    assert asked.stream.aborted
    scene.assert_idle()


async def test_an_upload_that_ends_during_the_answer_leaves_the_connection_usable(scene: Scene) -> None:
    asked = await scene.ask(b"POST", body=b"part", complete=False, framing=CHUNKED)
    await gathered()
    asked.stream.feed(OK[:-1])
    asked.exchange.client_data(b"", complete=True)
    assert asked.stream.written.endswith(b"0\r\n\r\n")
    asked.stream.feed(OK[-1:])
    assert asked.client.complete
    assert scene.backends[0].ways[0].idle == 1


# ── what is not proxied ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_refused_paths_reach_no_engine(scene: Scene, method: bytes) -> None:
    asked = await scene.ask(method, b"/flush_cache")
    assert (asked.client.status, asked.client.complete) == (403, True)
    assert scene.streams == []
    assert scene.access.lines[0][:2] == (403, 0)
    if method == b"HEAD":
        assert (asked.client.has_body, asked.client.body) == (False, b"")
        assert int(asked.client.header(b"content-length") or 0) > 0
    else:
        assert json.loads(asked.client.body)["error"]["code"] == "path_not_allowed"
    assert asked.client.header(b"x-request-id") == b"r1"
    assert asked.client.header(b"x-vastproxy-instance") is None


async def test_an_announced_body_over_the_limit_is_refused_before_it_comes(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene(server=ServerSettings(max_body_bytes=1024))
    asked = await scene.ask(b"POST", complete=False, framing=Framing(chunked=False, length=1025))
    assert (asked.client.status, asked.error) == (413, "request_too_large")
    assert scene.streams == []
    fits = await scene.ask(b"POST", body=b"x" * 1024)
    assert fits.stream.written.endswith(b"x" * 1024)
    fits.exchange.client_left()


async def test_without_backends(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(backends=0)
    asked = await scene.ask()
    assert (asked.client.status, asked.error) == (503, "no_backend_available")
    assert int(asked.client.header(b"retry-after") or 0) > 0
    assert scene.access.lines == [(503, 0, len(asked.client.body), 0, None)]
