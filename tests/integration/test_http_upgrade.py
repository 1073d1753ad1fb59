"""Connections that change to another protocol: bytes both ways, with the ends and the limits of either side."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable

import pytest
from pydantic import SecretStr

from tests.helpers.curl import curl
from tests.helpers.raw import Handler
from tests.helpers.stage import Stage, always, next_head, next_request, ok, until
from tests.helpers.steady import Steady
from tests.helpers.talk import Talk, get, post
from tests.helpers.uv import BOTH_LOOPS
from tests.helpers.wire import Message
from vastproxy.settings.model import ServerSettings, UpstreamSettings

pytestmark = BOTH_LOOPS

OFFER = ("Connection: keep-alive, Upgrade", "Upgrade: Echo/2")
SWITCHED = b"\r\n".join(
    [
        b"HTTP/1.1 101 Switching Protocols",
        b"connection: Upgrade, x-hop",
        b"upgrade: Echo/2",
        b"x-hop: 1",
        b"x-a: 1",
        b"\r\n",
    ]
)
Pipe = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

#: The promise is 100 ms. A machine that runs other tests at the same time gets more.
LIMIT_S = 0.5


def switching(pipe: Pipe, *, heads: list[bytes] | None = None) -> Handler:
    """An engine that agrees to another protocol and then speaks `pipe`."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await next_head(reader)
        if heads is not None:
            heads.append(head)
        writer.write(SWITCHED)
        await pipe(reader, writer)

    return handler


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def switch(talk: Talk, *lines: str) -> bytes:
    """Offer the protocol; the head that agrees to it."""
    talk.write(get("/pipe", *OFFER, *lines))
    return await talk.until(b"\r\n\r\n")


# ── the change ─────────────────────────────────────────────────────────────────────────────────


async def test_a_protocol_of_any_name_is_offered_and_taken() -> None:
    heads: list[bytes] = []
    async with Stage(switching(echo, heads=heads)) as stage, Talk(stage.port) as talk:
        head = await switch(talk, "sec-websocket-key: x", "te: trailers")
        assert head.splitlines()[0] == b"HTTP/1.1 101 Switching Protocols"
        assert [
            line for line in head.splitlines() if line.startswith((b"conn", b"upgr", b"x-a", b"x-hop"))
        ] == [
            b"x-a: 1",
            b"connection: upgrade",
            b"upgrade: Echo/2",
        ]
        assert b"x-vastproxy-instance: 1\r\n" in head
        assert b"\r\nconnection: upgrade\r\nupgrade: echo/2\r\n" in heads[0]
        assert b"\r\nsec-websocket-key: x\r\n" in heads[0]
        assert b"content-length" not in head + heads[0]
        for data in (b"\x00\xff GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n"):
            talk.write(data)
            assert await talk.until(data) == data
        assert stage.backend.in_flight == 1
        talk.finish()
        assert await talk.rest() == b""
        await stage.idle()


async def test_bytes_right_behind_the_handshake_arrive_both_ways() -> None:
    """In the same write as the offer, and in the same write as the 101; more than is read ahead, too."""
    early = b"early " * 30_000

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        writer.write(SWITCHED + b"hello ")
        writer.write(await reader.readexactly(len(early)))
        await reader.read()

    async with Stage(script) as stage, Talk(stage.port) as talk:
        talk.write(get("/pipe", *OFFER) + early)
        assert (await talk.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await talk.until(b"hello " + early) == b"hello " + early


async def test_hints_may_come_before_the_change() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + SWITCHED + b"hi")

    async with Stage(script) as stage, Talk(stage.port) as talk:
        assert await switch(talk) == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        assert (await talk.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await talk.rest() == b"hi"


@pytest.mark.parametrize("status", [200, 403, 426, 503])
async def test_an_engine_that_declines_gives_an_ordinary_answer(status: int) -> None:
    """Both connections go on with ordinary requests. One that says that it is busy is probed at once, besides."""
    declined = b"HTTP/1.1 %d X\r\ncontent-length: 2\r\nupgrade: other\r\n\r\nno" % status
    async with Stage(always(declined, ok(b"next"))) as stage, Talk(stage.port) as talk:
        answer = await talk.ask(get("/pipe", *OFFER))
        assert (answer.status, answer.body, answer.header("upgrade")) == (status, b"no", None)
        assert (await talk.ask(get("/x"))).body == b"next"
        assert stage.accepted == 1 or status == 503
        await stage.idle()


async def test_offers_of_http2_are_ignored() -> None:
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage, Talk(stage.port) as talk:
        lines = ("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQ")
        assert (await talk.ask(get("/x", *lines))).status == 200
        mixed = ("connection: upgrade", "upgrade: h2c, websocket", "Upgrade: H2C")
        assert (await talk.ask(get("/x", *mixed))).status == 200
        assert await curl("--http2", "-d", "body", f"{stage.url}/x") == b"ok"
        assert await curl("--http2", f"{stage.url}/x") == b"ok"
        assert [message.header("upgrade") for message in seen] == [None, "websocket", None, None]
        assert [message.header("http2-settings") for message in seen] == [None] * 4
        assert seen[2].body == b"body"


async def test_an_offer_with_a_body_or_without_connection_or_of_old_is_an_ordinary_request() -> None:
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage, Talk(stage.port) as talk:
        requests = [
            post(b"body", *OFFER),
            get("/x", *OFFER, "transfer-encoding: chunked", method="POST") + b"4\r\nbody\r\n0\r\n\r\n",
            get("/x", "upgrade: echo"),
            get("/x", "connection: keep-alive, upgrade", "upgrade: echo", version="1.0"),
        ]
        for request in requests:
            assert (await talk.ask(request)).status == 200
        assert [message.header("upgrade") for message in seen] == [None] * 4
        assert [message.body for message in seen] == [b"body", b"body", b"", b""]


async def test_keys_and_refused_paths_hold_for_offers_too() -> None:
    server = ServerSettings(api_keys=(SecretStr("sk-right"),))
    async with Stage(switching(echo), server=server) as stage, Talk(stage.port) as talk:
        assert (await talk.ask(get("/pipe", *OFFER))).status == 401
        assert (await talk.ask(get("/pipe", *OFFER, "authorization: Bearer wrong"))).status == 401
        right = "authorization: Bearer sk-right"
        assert (await talk.ask(get("/flush_cache", *OFFER, right))).status == 403
        assert (await talk.ask(get("/healthz", *OFFER))).status == 200
        assert (await talk.ask(get("/vastproxy/x", *OFFER, right))).status == 404
        assert stage.accepted == 0
        assert (await switch(talk, right)).startswith(b"HTTP/1.1 101 ")


async def test_a_kept_connection_can_change_too() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(ok())
        await switching(echo)(reader, writer)

    async with Stage(script) as stage, Talk(stage.port) as talk:
        assert (await talk.ask(get())).status == 200
        assert (await switch(talk)).startswith(b"HTTP/1.1 101 ")
        talk.write(b"hi")
        assert await talk.until(b"hi")
        assert stage.accepted == 1


# ── ends ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_client_that_ends_its_half_still_gets_everything() -> None:
    """What comes after the end of the client's half is the engine's affair, for as long as it takes."""
    got: list[bytes] = []

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read())
        for _ in range(50):
            writer.write(bytes(100_000))
            await writer.drain()

    async with Stage(switching(collect)) as stage, Talk(stage.port) as talk:
        await switch(talk)
        talk.write(bytes(3_000_000))
        talk.finish()
        assert len(await talk.rest()) == 5_000_000
        assert len(got[0]) == 3_000_000
        await stage.idle()


async def test_an_engine_that_ends_the_connection_ends_the_clients_after_the_last_byte() -> None:
    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(5_000_000))

    async with Stage(switching(pipe)) as stage, Talk(stage.port) as talk:
        await switch(talk)
        assert len(await talk.rest()) == 5_000_000
        await stage.idle()


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_client_that_dies_ends_the_engines_connection_at_once(how: str) -> None:
    ended: list[float] = []
    began = asyncio.Event()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began.set()
        try:
            await reader.read()
        finally:
            ended.append(time.monotonic())

    async with Stage(switching(pipe)) as stage, Talk(stage.port) as talk, Steady() as steady:
        await switch(talk)
        await began.wait()
        left_at = time.monotonic()
        if how == "fin":
            talk.writer.close()
        else:
            talk.reset()
        await until(lambda: ended)
        assert await steady.took_s(left_at, ended[0]) < LIMIT_S
        await stage.idle()
        await until(lambda: not stage.client_connections)


async def test_an_engine_that_is_killed_ends_the_clients_connection() -> None:
    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"one")
        await writer.drain()
        await reader.readexactly(2)
        writer.transport.abort()

    async with Stage(switching(pipe)) as stage, Talk(stage.port) as talk:
        await switch(talk)
        await talk.until(b"one")
        talk.write(b"go")
        assert await talk.rest() == b""
        await until(lambda: not stage.client_connections)
        await stage.idle()


async def test_a_lost_tunnel_ends_the_clients_connection() -> None:
    async with Stage(switching(silent)) as stage, Talk(stage.port) as talk:
        await switch(talk)
        stage.tunnels.lose(1)
        await talk.ended(limit_s=5)
        await until(lambda: not stage.client_connections)


async def test_a_pipe_that_both_sides_have_left_silent_is_ended_and_nobody_is_blamed() -> None:
    upstream = UpstreamSettings(idle_timeout_s=0.1)
    async with Stage(switching(silent), upstream=upstream) as stage, Talk(stage.port) as talk:
        await switch(talk)
        assert await talk.rest() == b""
        await until(lambda: not stage.script.open_connections)
        await stage.idle()


@pytest.mark.parametrize("who", ["client", "engine"])
async def test_a_pipe_on_which_one_side_speaks_is_not_silent(who: str) -> None:
    """Twice the limit, in steps so short that a machine may stand still between two of them."""
    limit_s, step_s, steps = 1.0, 0.1, 20
    got = 0

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        if who == "engine":
            for _ in range(steps):
                await asyncio.sleep(step_s)
                writer.write(b".")
        while await reader.read(1):
            got += 1

    upstream = UpstreamSettings(idle_timeout_s=limit_s)
    async with Stage(switching(pipe), upstream=upstream) as stage, Talk(stage.port) as talk:
        await switch(talk)
        for number in range(steps):
            if who == "engine":
                assert await talk.until(b".")
            else:
                await asyncio.sleep(step_s)
                talk.write(b".")
                await until(functools.partial(lambda before: got > before, number))


# ── backpressure ───────────────────────────────────────────────────────────────────────────────

#: What kernel buffers may take on both sides of the proxy (Linux lets one that is read from grow to 32 MiB), and what
#: it holds itself.
BOUND_BYTES = 48_000_000
PIECE = bytes(range(256)) * 256


async def test_an_engine_is_stopped_by_a_client_that_does_not_read() -> None:
    total = 2 * BOUND_BYTES // len(PIECE) * len(PIECE)
    sent = 0

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < total:
            writer.write(PIECE)
            await writer.drain()
            sent += len(PIECE)

    async with Stage(switching(pipe)) as stage, Talk(stage.port, receive_bytes=1 << 19) as talk:
        await switch(talk)
        await stands_still(stage, lambda: sent)
        assert 0 < sent < BOUND_BYTES
        data = await talk.rest()
        assert len(data) == total
        assert data == PIECE * (total // len(PIECE))
        await stage.idle()


async def test_a_client_is_stopped_by_an_engine_that_does_not_read() -> None:
    total = 2 * BOUND_BYTES // len(PIECE) * len(PIECE)
    may_read = asyncio.Event()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ready")
        await may_read.wait()
        data = await reader.readexactly(total)
        writer.write(b"same" if data == PIECE * (total // len(PIECE)) else b"other")

    async with Stage(switching(pipe)) as stage, Talk(stage.port) as talk:
        await switch(talk)
        await talk.until(b"ready")
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent < total:
                talk.write(PIECE)
                await talk.writer.drain()
                sent += len(PIECE)

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            await until(lambda: sent)
            await stands_still(stage, lambda: sent)
            assert sent < BOUND_BYTES
            may_read.set()
        assert await talk.rest() == b"same"
        await stage.idle()


async def stands_still(stage: Stage, count: Callable[[], int]) -> None:
    """Wait until others are served and `count` does not grow meanwhile."""
    before = -1
    while before != count():
        before = count()
        async with Talk(stage.port) as other:
            for _ in range(50):
                assert (await other.ask(get("/livez"))).status == 200
