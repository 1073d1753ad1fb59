"""Each limit by itself, small: what happens when it is reached, who is blamed, and that nothing stays behind."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.helpers.raw import Handler
from tests.helpers.stage import Stage, always, next_head, next_request, ok, until
from tests.helpers.talk import Reply, Talk, ask, get, post
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.settings.model import ServerSettings, UpstreamSettings

pytestmark = BOTH_LOOPS

#: The limit under test; others stay at theirs, which are longer than a test may take.
LIMIT_S = 0.15
#: The same where something is to happen again and again within the limit: longer than a busy machine stands still.
PATIENT_S = 1.0
BEGUN = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n"


def code_of(answer: Reply) -> str:
    return answer.body.decode().partition('"code": "')[2].partition('"')[0]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes everything and says nothing."""
    while await reader.read(1 << 16):
        pass


def saying(*pieces: bytes, every_s: float = 0.0) -> Handler:
    """An engine that says this and then nothing more."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every_s)
        await silent(reader, writer)

    return handler


class _Stopwatch:
    def __enter__(self) -> "_Stopwatch":
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.took_s = time.monotonic() - self._began


# ── the engine's side ──────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port that takes no connection and refuses none: its queue is full."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield listener.getsockname()[1]


async def test_connect() -> None:
    """A tunnel that accepts the wish for a stream and says nothing. Nothing was sent, and there is nobody else."""
    upstream = UpstreamSettings(connect_timeout_s=LIMIT_S)
    async with Stage(always(ok()), upstream=upstream) as stage, Talk(stage.port) as talk:
        with deaf_port() as port, _Stopwatch() as watch:
            stage.lead_to(port)
            answer = await talk.ask(post(b"body"))
        assert (answer.status, code_of(answer)) == (503, "no_backend_available")
        assert 0.9 * LIMIT_S <= watch.took_s < LIMIT_S + 5
        assert (await talk.ask(get("/livez"))).status == 200
        await stage.idle(failures=1)


async def test_connect_and_the_client_leaves_meanwhile() -> None:
    async with Stage(always(ok())) as stage, Talk(stage.port) as talk:
        with deaf_port() as port:
            stage.lead_to(port)
            talk.write(get())
            await until(lambda: stage.backend.in_flight == 1)
            talk.reset()
            await stage.idle()


@pytest.mark.parametrize(
    "beginning", [b"", b"HTTP/1.1 200 OK\r\ncontent-", b"HTTP/1.1 103 Early Hints\r\n\r\n"]
)
async def test_headers(beginning: bytes) -> None:
    """Interim answers and a part of a head are none."""
    upstream = UpstreamSettings(headers_timeout_s=LIMIT_S)
    async with Stage(saying(beginning), upstream=upstream) as stage, Talk(stage.port) as talk:
        answer = await talk.ask(post(b"body"))
        assert (answer.status, code_of(answer)) == (504, "backend_timeout")
        assert b"upstream.headers_timeout_s" in answer.body or b"headers" in answer.body
        await until(lambda: not stage.script.open_connections)
        assert (await talk.ask(get("/livez"))).status == 200
        await stage.idle(failures=1)


async def test_idle_is_a_silence_and_not_a_duration() -> None:
    """Pieces that come in time may go on for longer than the limit; then the silence counts."""
    pieces = [BEGUN, *[b"1\r\n.\r\n"] * 9]
    script = saying(*pieces, every_s=PATIENT_S / 6)
    async with Stage(script, upstream=UpstreamSettings(idle_timeout_s=PATIENT_S)) as stage:
        with _Stopwatch() as watch:
            answer = await ask(stage.port, get())
        assert (answer.body, answer.complete) == (b"ab.........", False)
        assert watch.took_s > 2 * PATIENT_S
        await until(lambda: not stage.script.open_connections)
        await stage.idle(failures=1)


async def test_idle_does_not_count_while_the_client_is_the_slow_one() -> None:
    """Nothing comes from an engine that is told to wait. That is not its silence."""
    total = 60_000_000

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        for _ in range(total // 100_000):
            writer.write(bytes(100_000))
            await writer.drain()

    upstream = UpstreamSettings(idle_timeout_s=PATIENT_S)
    async with Stage(script, upstream=upstream) as stage, Talk(stage.port, receive_bytes=1 << 16) as talk:
        talk.write(get())
        talk.put_back(await talk.until(b"\r\n\r\n"))
        await asyncio.sleep(1.5 * PATIENT_S)  # the subject is that time passes
        answer = await talk.answer()
        assert (len(answer.body), answer.complete) == (total, True)
        await stage.idle()


@pytest.mark.parametrize("begun", [True, False])
async def test_total(begun: bool) -> None:
    """However much comes. It is the operator's limit, so nobody is blamed."""
    limit_s = PATIENT_S if begun else LIMIT_S
    script = saying(BEGUN, *[b"1\r\n.\r\n"] * 1000, every_s=0.01) if begun else saying(b"")
    async with (
        Stage(script, upstream=UpstreamSettings(total_timeout_s=limit_s)) as stage,
        Talk(stage.port) as talk,
    ):
        with _Stopwatch() as watch:
            answer = await talk.ask(get())
        assert 0.9 * limit_s <= watch.took_s < limit_s + 5
        if begun:
            assert (answer.status, answer.complete) == (200, False)
        else:
            assert (answer.status, code_of(answer)) == (504, "backend_timeout")
            assert b"upstream.total_timeout_s" in answer.body
            assert (await talk.ask(get("/livez"))).status == 200
        await until(lambda: not stage.script.open_connections)
        await stage.idle()


async def test_total_does_not_count_against_what_has_ended() -> None:
    upstream = UpstreamSettings(total_timeout_s=PATIENT_S)
    async with Stage(always(ok()), upstream=upstream) as stage, Talk(stage.port) as talk:
        await talk.ask(get())
        await asyncio.sleep(1.5 * PATIENT_S)  # the subject is that time passes
        assert (await talk.ask(get())).status == 200
        await stage.idle()


# ── the client's side ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/x", "/livez", "/flush_cache"])
async def test_client_idle(path: str) -> None:
    """Between two requests: a plain end, no answer to what was not asked."""
    settings = ServerSettings(client_idle_timeout_s=LIMIT_S)
    async with Stage(always(ok()), server=settings) as stage, Talk(stage.port) as talk:
        with _Stopwatch() as watch:  # from before the answer, after which the limit begins to count
            await talk.ask(get(path))
            assert await talk.rest() == b""
        assert watch.took_s > LIMIT_S * 0.9
        await until(lambda: not stage.client_connections)


async def test_client_idle_does_not_count_while_an_answer_is_made() -> None:
    go_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        await go_on.wait()
        writer.write(ok())

    settings = ServerSettings(
        client_idle_timeout_s=PATIENT_S, client_header_timeout_s=PATIENT_S, client_body_timeout_s=PATIENT_S
    )
    async with Stage(script, server=settings) as stage, Talk(stage.port) as talk:
        talk.write(post(b"body"))
        await asyncio.sleep(1.5 * PATIENT_S)  # the subject is that time passes
        go_on.set()
        assert (await talk.answer("POST")).body == b"ok"


async def test_a_client_that_connects_and_says_nothing_is_closed_without_an_answer() -> None:
    settings = ServerSettings(client_header_timeout_s=LIMIT_S)
    async with Stage(always(ok()), server=settings) as stage, Talk(stage.port) as talk:
        assert await talk.rest() == b""
        await until(lambda: not stage.client_connections)


@pytest.mark.parametrize("before", ["first", "kept", "pipelined"])
async def test_client_header_slow_loris(before: str) -> None:
    """A byte now and then does not move the limit, on a new connection or on a kept one."""
    settings = ServerSettings(client_header_timeout_s=LIMIT_S)
    async with Stage(always(ok()), server=settings) as stage, Talk(stage.port) as talk:
        loris = get("/x", "x-slow: " + "z" * 10_000)
        if before == "kept":
            await talk.ask(get())
        elif before == "pipelined":
            talk.write(get() + loris[:3])
            assert (await talk.answer()).status == 200

        async def trickle() -> None:
            for byte in loris[3:]:
                talk.write(bytes([byte]))
                await asyncio.sleep(0.03)

        with _Stopwatch() as watch:
            task = asyncio.get_running_loop().create_task(trickle())
            answer = await talk.answer()
        task.cancel()
        assert (answer.status, code_of(answer)) == (408, "request_timeout")
        assert b"server.client_header_timeout_s" in answer.body
        assert answer.header("connection") == "close"
        assert watch.took_s < LIMIT_S + 5
        assert await talk.rest() == b""
        await stage.idle()


@pytest.mark.parametrize("path", ["/x", "/vastproxy/x"])
@pytest.mark.parametrize("sent", [b"", b"part"])
async def test_client_body(path: str, sent: bytes) -> None:
    """The engine may have the beginning already. It is not to blame, and its connection is not used again."""
    settings = ServerSettings(client_body_timeout_s=LIMIT_S)
    async with Stage(silent, server=settings) as stage, Talk(stage.port) as talk:
        talk.write(get(path, "content-length: 1000", method="POST") + sent)
        answer = await talk.answer("POST")
        assert answer.status == (408 if path == "/x" else answer.status)
        if answer.status == 408:
            assert b"server.client_body_timeout_s" in answer.body
        assert answer.header("connection") == "close"
        await until(lambda: not stage.script.open_connections)
        await stage.idle()


async def test_client_body_is_a_silence_and_not_a_duration() -> None:
    settings = ServerSettings(client_body_timeout_s=PATIENT_S, client_body_min_rate=0)
    async with Stage(always(ok()), server=settings) as stage, Talk(stage.port) as talk:
        talk.write(get("/x", "content-length: 12", method="POST"))
        for _ in range(12):
            await asyncio.sleep(PATIENT_S / 8)
            talk.write(b".")
        assert (await talk.answer("POST")).status == 200


async def test_client_body_slow_loris() -> None:
    """A byte now and then does not hold a place at an engine: it has to come at a certain rate."""
    settings = ServerSettings(client_body_timeout_s=LIMIT_S, client_body_min_rate=1_000)
    async with Stage(always(ok()), server=settings) as stage, Talk(stage.port) as talk:
        talk.write(get("/x", "content-length: 100000", method="POST"))

        async def trickle() -> None:
            while True:
                talk.write(b".")
                await asyncio.sleep(LIMIT_S / 5)

        with _Stopwatch() as watch:
            task = asyncio.get_running_loop().create_task(trickle())
            answer = await talk.answer("POST")
        task.cancel()
        assert (answer.status, code_of(answer)) == (408, "request_timeout")
        assert watch.took_s < LIMIT_S + 5
        await stage.idle()


async def test_client_body_does_not_count_while_the_engine_is_the_slow_one() -> None:
    may_read = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        await may_read.wait()
        await reader.readexactly(total)
        writer.write(ok())

    total = 30_000_000
    settings = ServerSettings(client_body_timeout_s=PATIENT_S)
    async with Stage(script, server=settings) as stage, Talk(stage.port) as talk:
        talk.write(get("/x", f"content-length: {total}", method="POST") + bytes(total))
        await asyncio.sleep(1.5 * PATIENT_S)  # the subject is that time passes
        may_read.set()
        assert (await talk.answer("POST")).status == 200
        await stage.idle()


@pytest.mark.parametrize("total", [8_000_000, 60_000_000])
async def test_client_write(total: int) -> None:
    """A client that takes no byte of its answer counts as gone; its engine and its place are free."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        writer.write(bytes(total))
        await writer.drain()
        await silent(reader, writer)

    settings = ServerSettings(client_write_timeout_s=LIMIT_S)
    async with Stage(script, server=settings) as stage, Talk(stage.port, receive_bytes=4096) as talk:
        talk.write(get())
        await until(lambda: stage.client_connections == 1)
        await until(lambda: stage.client_connections == 0)
        await stage.idle()
        with pytest.raises(ConnectionResetError):
            await talk.rest()


async def test_client_write_does_not_end_who_reads_slowly() -> None:
    total = 3_000_000
    settings = ServerSettings(client_write_timeout_s=PATIENT_S)
    async with (
        Stage(always(ok(bytes(total))), server=settings) as stage,
        Talk(stage.port, receive_bytes=1 << 16) as talk,
    ):
        talk.write(get())
        with _Stopwatch() as watch:
            answer = await talk.answer(pause_s=0.05)
        assert (len(answer.body), answer.complete) == (total, True)
        assert watch.took_s > 1.5 * PATIENT_S
        await stage.idle()


async def test_pool_idle() -> None:
    """The engine's connection is closed when it has been idle for that long, and never used after that."""
    upstream = UpstreamSettings(pool_idle_s=LIMIT_S)
    async with Stage(always(ok()), upstream=upstream) as stage, Talk(stage.port) as talk:
        with _Stopwatch() as watch:
            talk.write(5 * get())  # in one write: between two of them no machine can stand still
            for _ in range(5):
                assert (await talk.answer()).status == 200
            assert stage.accepted == 1
            await until(lambda: not stage.script.open_connections)
        assert watch.took_s > LIMIT_S * 0.9
        await talk.ask(get())
        assert stage.accepted == 2


async def test_pool_off() -> None:
    upstream = UpstreamSettings(pool_max_idle=0)
    async with Stage(always(ok()), upstream=upstream) as stage, Talk(stage.port) as talk:
        for number in range(1, 4):
            await talk.ask(get())
            assert stage.accepted == number
