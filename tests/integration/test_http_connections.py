"""How long connections live, on both sides: keep-alive, pipelining, HTTP/1.0, reuse of the engine's."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from tests.helpers.raw import Handler
from tests.helpers.stage import Stage, always, next_request, ok, until
from tests.helpers.talk import Reply, Talk, ask, get, post
from tests.helpers.uv import BOTH_LOOPS
from tests.helpers.wire import Message
from vastproxy.settings.model import ServerSettings, UpstreamSettings

pytestmark = BOTH_LOOPS

#: Of an engine that closes with its answers.
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n"


def echo(seen: list[Message] | None = None) -> Handler:
    """An engine that says what it was asked."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            message = await next_request(reader)
            if seen is not None:
                seen.append(message)
            said = f"{message.method} {message.target} {message.body.decode('latin-1')}".encode("latin-1")
            head_only = message.method == "HEAD"
            writer.write(ok(said)[: -len(said)] if head_only else ok(said))
            await writer.drain()

    return handler


# ── keep-alive ─────────────────────────────────────────────────────────────────────────────────


async def test_one_connection_on_each_side_serves_many_requests() -> None:
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage, Talk(stage.port) as talk:
        for number in range(50):
            answer = await talk.ask(post(b"x" * number) if number % 2 else get())
            assert (answer.status, answer.header("connection")) == (200, None)
        assert (len(seen), stage.accepted) == (50, 1)
        await stage.idle()


async def test_our_own_pages_keep_the_connection_too() -> None:
    async with Stage(always(ok())) as stage, Talk(stage.port) as talk:
        for path in ("/healthz", "/x", "/v1/models", "/vastproxy/v1/backends", "/nowhere", "/flush_cache"):
            for method in ("GET", "HEAD"):
                assert (await talk.ask(get(path, method=method))).complete


@pytest.mark.parametrize("path", ["/x", "/healthz", "/flush_cache"])
@pytest.mark.parametrize("header", ["connection: close", "Connection: x, CLOSE"])
async def test_close_is_said_and_done(path: str, header: str) -> None:
    async with Stage(always(ok())) as stage, Talk(stage.port) as talk:
        answer = await talk.ask(get(path, header))
        assert (answer.complete, answer.header("connection")) == (True, "close")
        assert await talk.rest() == b""


async def test_an_engine_that_closes_costs_the_client_nothing() -> None:
    """`Connection: close` and bodies that end with the connection are matters of the engine's side."""
    answers = [ok(b"a", b"connection: close"), UNTIL_CLOSE + b"b"]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(answers[0])
        answers.reverse()

    async with Stage(script) as stage, Talk(stage.port) as talk:
        bodies = [(await talk.ask(get())).body for _ in range(4)]
        assert (bodies, stage.accepted) == ([b"a", b"b", b"a", b"b"], 4)
        await stage.idle()


async def test_an_engines_connection_that_was_idle_for_long_is_not_used_again() -> None:
    upstream = UpstreamSettings(pool_idle_s=0.05)
    async with Stage(always(ok()), upstream=upstream) as stage, Talk(stage.port) as talk:
        talk.write(2 * get())  # in one write: between the two no machine can stand still
        assert [(await talk.answer()).status for _ in range(2)] == [200, 200]
        assert stage.accepted == 1
        await until(lambda: not stage.script.open_connections)  # the proxy closes it by itself
        await talk.ask(get())
        assert stage.accepted == 2


async def test_as_many_connections_as_requests_and_all_are_used_again() -> None:
    gate = asyncio.Barrier(5)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await next_request(reader)
            await gate.wait()
            writer.write(ok())

    async with Stage(script) as stage:
        for _ in range(3):
            answers = await asyncio.gather(*(ask(stage.port, get()) for _ in range(5)))
            assert {answer.status for answer in answers} == {200}
        assert stage.accepted == 5
        await stage.idle()


async def test_what_an_engine_sends_unasked_spoils_its_connection_and_no_answer() -> None:
    """Bytes behind an answer must never be taken for the next one: whoever put them there chose them."""
    planted = ok(b"planted")

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await next_request(reader)
            writer.write(ok(b"true") + planted)

    async with Stage(script) as stage, Talk(stage.port) as talk:
        assert [(await talk.ask(get())).body for _ in range(3)] == [b"true"] * 3
        assert stage.accepted == 3


# ── pipelining ─────────────────────────────────────────────────────────────────────────────────


async def answers_of(talk: Talk, methods: Sequence[str]) -> list[Reply]:
    return [await talk.answer(method) for method in methods]


async def test_pipelined_requests_of_all_sorts_are_answered_in_their_order() -> None:
    requests = [
        get("/1"),
        get("/2", method="HEAD"),
        post(b"three", target="/3"),
        get("/livez"),
        get("/5", "transfer-encoding: chunked", method="PUT") + b"2\r\nfi\r\n2\r\nve\r\n0\r\n\r\n",
        get("/flush_cache"),
        b"\r\n" + get("/7", method="DELETE"),
        get("/8", "connection: close"),
    ]
    async with Stage(echo()) as stage, Talk(stage.port) as talk:
        talk.write(b"".join(requests))
        replies = await answers_of(talk, ["GET", "HEAD", "POST", "GET", "PUT", "GET", "DELETE", "GET"])
        bodies = [reply.body for reply in replies]
        assert bodies[:3] == [b"GET /1 ", b"", b"POST /3 three"]
        assert bodies[4] == b"PUT /5 five"
        assert bodies[6:] == [b"DELETE /7 ", b"GET /8 "]
        assert [reply.status for reply in replies] == [200, 200, 200, 200, 200, 403, 200, 200]
        assert await talk.rest() == b""
        assert stage.accepted == 1


async def test_a_malformed_request_in_the_middle_ends_the_answers_with_400() -> None:
    seen: list[Message] = []
    async with Stage(echo(seen)) as stage, Talk(stage.port) as talk:
        talk.write(get("/1") + get("/2") + b"GET /3 HTTP/1.1\r\nhost : a\r\n\r\n" + get("/4"))
        replies = await answers_of(talk, ["GET", "GET", "GET"])
        assert [reply.status for reply in replies] == [200, 200, 400]
        assert replies[2].header("connection") == "close"
        assert await talk.rest() == b""
        assert [message.target for message in seen] == ["/1", "/2"]
        await stage.idle()


async def test_a_thousand_tiny_requests_in_one_write() -> None:
    async with Stage(echo()) as stage, Talk(stage.port) as talk:
        talk.write(b"".join(get(f"/{number}") for number in range(1000)))
        for number in range(1000):
            assert (await talk.answer()).body == b"GET /%d " % number
        assert stage.accepted == 1
        await stage.idle()


async def test_more_than_is_read_ahead_is_answered_all_the_same() -> None:
    """More than 64 KiB of further requests wait in the kernel meanwhile."""
    async with Stage(echo()) as stage, Talk(stage.port) as talk:
        pad = "x-pad: " + 1000 * "p"
        talk.write(b"".join(get(f"/{number}", pad) for number in range(300)))
        for number in range(300):
            assert (await talk.answer()).body == b"GET /%d " % number


@pytest.mark.parametrize("whole", [True, False])
async def test_what_comes_in_the_moment_of_an_answer_stays_behind_what_came_before(whole: bool) -> None:
    """The engine's answer and more of the client's bytes arrive in the same turn of the event loop."""
    second, third = get("/second"), get("/third")
    first_part, more = (second, third) if whole else (second[:9], second[9:] + third)
    asked = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []
    seen: list[str] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            message = await next_request(reader)
            seen.append(message.target)
            if message.target == "/first":
                writers.append(writer)
                asked.set()
            else:
                writer.write(ok(message.target.encode()))

    async with Stage(script) as stage, Talk(stage.port) as talk:
        talk.write(get("/first") + first_part)
        await asked.wait()
        # One after the other without a turn of the loop between them: both are readable when it looks.
        writers[0].write(ok(b"/first"))
        talk.write(more)
        bodies = [reply.body for reply in await answers_of(talk, ["GET"] * 3)]
        assert bodies == [b"/first", b"/second", b"/third"]
        assert seen == ["/first", "/second", "/third"]


async def test_who_does_not_read_his_answers_gets_no_more_of_them_made() -> None:
    """Otherwise answers would pile up here without a bound, and the engine would work for nobody."""
    count = 0
    body = bytes(60_000)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while True:
            await next_request(reader)
            count += 1
            writer.write(ok(body))
            await writer.drain()

    async with Stage(script) as stage, Talk(stage.port, receive_bytes=4096) as talk:
        talk.write(b"".join(get(f"/{number}") for number in range(1000)))
        await stage.idle()
        stuck_at = -1
        while stuck_at != count:  # other requests go their way, that one's engine stands still
            stuck_at = count
            for _ in range(10):
                assert (await ask(stage.port, get("/healthz"))).status == 200
            await stage.idle()
        assert stuck_at < 200  # what the kernel takes on both sides: 12 MB at most
        for _ in range(1000):
            assert (await talk.answer()).body == body


async def test_a_client_that_waits_for_each_answer_is_not_hurried() -> None:
    """Head and body in pieces, at any border, one request after another on one connection."""
    request = post(b"body", target="/pieces")
    async with Stage(echo()) as stage, Talk(stage.port) as talk:
        for cut in range(1, len(request)):
            talk.write(request[:cut])
            await talk.drain()
            await asyncio.sleep(0)
            talk.write(request[cut:])
            assert (await talk.answer("POST")).body == b"POST /pieces body"


async def test_the_last_answer_is_not_lost_to_what_comes_behind_its_request() -> None:
    """A close with bytes unread would be a reset, which destroys what the client has not read (RFC 9112 §9.6)."""
    body = bytes(3_000_000)
    seen: list[Message] = []
    behind = get("/never", "x-pad: " + 1000 * "p") * 1000
    async with Stage(always(ok(body), seen=seen)) as stage, Talk(stage.port, receive_bytes=4096) as talk:
        talk.write(get("/last", "connection: close") + behind)
        await stage.idle()
        answer = await talk.answer(pause_s=0.0001)
        assert (len(answer.body), answer.complete) == (len(body), True)
        assert await talk.rest() == b""
        assert [message.target for message in seen] == ["/last"]


# ── HTTP/1.0 ───────────────────────────────────────────────────────────────────────────────────


def old(*lines: str, target: str = "/x", method: str = "GET") -> bytes:
    """As ab and health checkers ask."""
    head = [f"{method} {target} HTTP/1.0", *lines]
    return "".join(f"{line}\r\n" for line in (*head, "")).encode()


@pytest.mark.parametrize("target", ["/x", "/livez"])
async def test_an_old_client_is_kept_when_it_asks_for_that(target: str) -> None:
    async with Stage(always(ok())) as stage, Talk(stage.port) as talk:
        for _ in range(3):
            answer = await talk.ask(old("Connection: Keep-Alive", "Host: a", target=target))
            assert (answer.status, answer.header("connection")) == (200, "keep-alive")
        answer = await talk.ask(old(target=target))  # without Host, and no wish to be kept
        assert (answer.status, answer.header("connection"), answer.version) == (200, "close", "1.1")
        assert await talk.rest() == b""


CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\nx-sum: 1\r\n\r\n"


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("raw", [CHUNKS, UNTIL_CLOSE + b"abcd"])
async def test_an_old_client_gets_no_chunks_but_an_end(keep: bool, raw: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(raw)

    async with Stage(script) as stage, Talk(stage.port) as talk:
        talk.write(old(*(("connection: keep-alive, te", "te: trailers") if keep else ())))
        head, _, body = (await talk.rest()).partition(b"\r\n\r\n")
        assert body == b"abcd"
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        await stage.idle()


async def test_an_old_client_sees_that_its_answer_was_cut() -> None:
    """Only the end of the connection ends such a body. So an untimely end must be none: it is a reset."""
    got = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        await got.wait()

    async with Stage(script) as stage, Talk(stage.port) as talk:
        talk.write(old())
        await talk.until(b"\r\n\r\nab")
        got.set()
        assert not await talk.ended()
        await stage.idle(failures=1)


async def test_an_old_clients_body_and_head_requests() -> None:
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage:
        assert (await ask(stage.port, old("content-length: 4", method="POST") + b"body")).status == 200
        assert seen[0].body == b"body"
        async with Talk(stage.port) as talk:
            talk.write(old("connection: keep-alive", target="/livez", method="HEAD"))
            assert b"\r\nconnection: keep-alive\r\n" in await talk.until(b"\r\n\r\n")
            assert (await talk.ask(get())).status == 200


async def test_an_old_client_hears_nothing_interim() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + ok())

    async with Stage(script) as stage, Talk(stage.port) as talk:
        talk.write(old())
        assert (await talk.rest()).startswith(b"HTTP/1.1 200 ")


# ── the server's end ───────────────────────────────────────────────────────────────────────────


async def test_a_server_that_stops_ends_idle_connections_and_lets_answers_end() -> None:
    go_on = asyncio.Event()
    asked = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        asked.set()
        await go_on.wait()
        writer.write(ok(b"late"))

    settings = ServerSettings(client_idle_timeout_s=3600)
    async with Stage(script, server=settings) as stage, Talk(stage.port) as idle, Talk(stage.port) as busy:
        assert json.loads((await idle.ask(get("/healthz"))).body)
        busy.write(get() + get("/livez"))
        await asked.wait()
        stage.shut_down_connections()
        assert await idle.rest() == b""
        go_on.set()
        answer = await busy.answer()
        assert (answer.body, answer.header("connection")) == (b"late", "close")
        assert await busy.rest() == b""
