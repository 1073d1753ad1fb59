"""Clients that mean harm: what each can make the proxy hold, and that the others are answered meanwhile."""

import asyncio
import contextlib
import json
import resource
import socket
import time
from pathlib import Path

import pytest

from tests.helpers.memory_use import Growth
from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.scene import Scene, open_scene
from tests.helpers.stage import Stage, always, ok, until
from tests.helpers.talk import Talk, ask, get, post
from tests.helpers.wire import Message
from vastproxy.settings.model import ServerSettings

MB = 1 << 20
CONNECTIONS = 5_000
#: What a connection that says nothing may cost, buffers of the loop included.
EACH_BYTES = 24 * 1024
AT_ONCE_S = 1.0


@pytest.fixture
def open_files() -> None:
    """As many as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 500:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _resident(proxy: ProxyProcess) -> int:
    return int(json.loads((await proxy.ask("GET", "/vastproxy/v1/process")).body)["rss_bytes"])


async def test_thousands_of_idle_connections_cost_little_and_delay_nobody(
    tmp_path: Path, open_files: None
) -> None:
    """Half of them say nothing, half have begun a request and stop. All are closed when their time is over."""
    async with contextlib.AsyncExitStack() as stack:
        scene: Scene = await stack.enter_async_context(open_scene(tmp_path))
        proxy = await scene.serve(healthy=0, VASTPROXY_SERVER__CLIENT_HEADER_TIMEOUT_S="20")
        before = await _resident(proxy)
        clients = []
        for number in range(CONNECTIONS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=30))
            if number % 2:
                client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
            clients.append(client)
            if number % 100 == 0:
                await asyncio.sleep(0)
        took_s = []
        for _ in range(5):
            began = time.monotonic()
            assert (await proxy.ask("GET", "/livez")).status == 200
            took_s.append(time.monotonic() - began)
        assert min(took_s) < AT_ONCE_S
        grown = await _resident(proxy) - before
        assert grown / CONNECTIONS < EACH_BYTES

        def answers() -> set[bytes]:
            found = set()
            for client in clients:
                client.setblocking(True)
                client.settimeout(30)
                found.add(client.recv(12))
            return found

        assert await asyncio.to_thread(answers) == {b"", b"HTTP/1.1 408"}


# ── bodies ─────────────────────────────────────────────────────────────────────────────────────

LIMIT = ServerSettings(max_body_bytes=1 * MB)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/webhooks/vastai"])
@pytest.mark.parametrize(
    "piece", [b"%x\r\n%b\r\n" % (65_536, b"x" * 65_536), b"1\r\nx\r\n" * 4096], ids=["large", "tiny"]
)
async def test_a_body_in_chunks_without_end_is_refused_at_the_limit(path: str, piece: bytes) -> None:
    async with Stage(always(ok()), server=LIMIT) as stage, Talk(stage.port) as talk:
        growth = Growth()
        talk.write(get(path, "transfer-encoding: chunked", "content-type: application/json", method="POST"))

        async def pour() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    talk.write(piece)
                    await asyncio.sleep(0)

        pouring = asyncio.get_running_loop().create_task(pour())
        try:
            answer = await talk.answer("POST")
        finally:
            pouring.cancel()
        assert 400 <= answer.status < 500
        assert answer.header("connection") == "close"
        growth.look()
        assert growth.most_bytes < 32 * MB
        await stage.idle()


@pytest.mark.parametrize(
    "sent",
    [
        b"f" * 2_000,
        b"1;" + b"x" * 70_000,
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"-1\r\n",
        b"0\r\n" + b"x-trailer: y\r\n" * 5_000,
    ],
)
async def test_what_stands_around_chunks_is_bounded(sent: bytes) -> None:
    async with Stage(always(ok())) as stage, Talk(stage.port) as talk:
        talk.write(get("/v1/x", "transfer-encoding: chunked", method="POST") + sent)
        answer = await talk.answer("POST")
        assert answer.status in (400, 413)
        assert await talk.ended() in (True, False)
        await stage.idle()


@pytest.mark.parametrize("length", [b"99999999999999999999", b"1099511627776"])
async def test_an_absurd_length_is_refused_before_anything_of_it_comes(length: bytes) -> None:
    async with Stage(always(ok())) as stage, Talk(stage.port) as talk:
        talk.write(get("/v1/x", f"content-length: {length.decode()}", method="POST"))
        assert (await talk.answer("POST")).status in (400, 413)
        assert stage.accepted == 0


# ── heads ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("begin", "piece", "status"),
    [
        (b"GET /v1/x HTTP/1.1\r\nhost: h\r\nx: ", b"y" * 65_536, 431),
        (b"GET /v1/x HTTP/1.1\r\nhost: h\r\n", b"a: b\r\n" * 10_000, 431),
        (b"GET /v1/x HTTP/1.1\r\nhost: h\r\n", b"authorization: Bearer z\r\n" * 2_000, 431),
        (b"GET /", b"a" * 65_536, 414),
        (b"", b"A" * 65_536, 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 1000, 400),
    ],
)
async def test_a_head_without_end_is_refused_and_little_of_it_kept(
    begin: bytes, piece: bytes, status: int
) -> None:
    async with Stage(always(ok())) as stage, Talk(stage.port) as talk:
        talk.write(begin)
        for _ in range(4):
            talk.write(piece)
        answer = await talk.answer()
        assert answer.status in (status, 400, 414)
        assert stage.accepted == 0
        assert (await ask(stage.port, get("/livez"))).status == 200


# ── paths and values ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "target",
    [
        "/flush_cache",
        "//flush_cache",
        "/FLUSH_CACHE",
        "/%66lush_cache",
        "/%2566lush_cache",
        "/v1/../flush_cache",
        "/v1/%2e%2e/flush_cache",
        "/v1/..;/flush_cache",
        "/v1%2f..%2fflush_cache",
        "/flush_cache;x=1",
        "/flush_cache/",
        "/flush_cache%00",
        "/./flush_cache?x",
        "\\flush_cache",
        "/v1\\..\\flush_cache",
        "/abort_request",
        "/server_info",
        "http://localhost/flush_cache",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_way_of_writing_a_denied_path_reaches_an_engine(target: str, method: str) -> None:
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage:
        answer = await ask(stage.port, get(target, "content-length: 0", method=method))
        assert answer.status in (400, 403)
        assert seen == []


@pytest.mark.parametrize(
    "value", ['a"b', "a\\b", "a b", "\t", "\x1b[31m", "a\xa0b", "%0d%0ax-evil: 1", "{}", "a" * 5000]
)
async def test_values_that_are_copied_cannot_end_a_line(value: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of the id, the pin, the priority, the model and the path: in answers, logs and what the proxy tells of itself."""
    caplog.set_level("DEBUG")
    seen: list[Message] = []
    lines = [f"{name}: {value}" for name in ("x-request-id", "x-vastproxy-instance", "x-vastproxy-priority")]
    body = json.dumps({"model": value, "messages": []}).encode()
    async with Stage(always(ok(), seen=seen)) as stage:
        with contextlib.suppress(ConnectionError):
            answer = await ask(
                stage.port,
                post(body, *lines, "content-type: application/json", target="/v1/chat/completions"),
            )
            assert answer.header("x-evil") is None
            assert "x-evil" not in str(answer.header("x-request-id"))
        told = await ask(stage.port, get("/vastproxy/v1/requests"))
        assert told.status == 200
        assert json.loads(told.body)
        assert (await ask(stage.port, get("/metrics"))).status == 200
    for record in caplog.records:
        if record.name == "vastproxy.access":
            assert record.getMessage().isprintable()


async def test_nothing_is_unpacked() -> None:
    """A body that says it is compressed stays as it is: no bomb goes off here."""
    seen: list[Message] = []
    body = b"\x1f\x8b\x08\x00" + b"\x00" * 100
    async with Stage(always(ok(), seen=seen)) as stage:
        answer = await ask(stage.port, post(body, "content-encoding: gzip", "content-type: application/json"))
        assert answer.status == 200
        assert seen[0].body == body
        await until(lambda: stage.backend.in_flight == 0)
