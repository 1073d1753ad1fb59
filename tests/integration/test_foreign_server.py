"""The application in somebody else's server: plain uvicorn with h11, which knows ASGI and nothing of us."""

import asyncio
import json
import logging
import time
from pathlib import Path

import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.helpers.prompt import PromptServer, listen
from tests.helpers.proxy_process import FAST
from tests.helpers.raw import ask as ask_plainly
from tests.helpers.scene import CHAT, chat, open_scene
from tests.helpers.stage import Stage, always, next_head, next_request, ok, until
from tests.helpers.steady import Steady
from tests.helpers.talk import Talk, ask, get, post
from tests.helpers.uv import BOTH_LOOPS
from tests.helpers.wire import Message
from vastproxy.api.app import create_app
from vastproxy.settings.model import ServerSettings, UpstreamSettings

pytestmark = BOTH_LOOPS

#: The promise is 100 ms. A machine that runs other tests at the same time gets more.
LIMIT_S = 0.5
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def plain_config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app, http="h11", ws="websockets-sansio", lifespan="on", log_config=None, access_log=False
    )


class Foreign(Stage):
    """A stage whose server is plain uvicorn."""

    def _config(self, app: Starlette) -> uvicorn.Config:
        return plain_config(app)


# ── messages ───────────────────────────────────────────────────────────────────────────────────


async def test_requests_go_through_as_they_are() -> None:
    seen: list[Message] = []
    lines = (b"x-v: a", b"x-a: 1", b"x-v: b", b"set-cookie: c")
    async with Foreign(always(ok(b"body", *lines), seen=seen)) as stage, Talk(stage.port) as talk:
        for request in (
            get("/a%2Fb//c?x=%26&y?", "X-B: 1", "x-b: 2", "cookie: a", "x-c: \xe9"),
            post(b"\x00\xff", target="/p"),
            get("/c", "transfer-encoding: chunked", method="PUT") + b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n",
            get("/d", method="DELETE"),
            post(b"", target="/e"),
        ):
            answer = await talk.ask(request)
            assert (answer.status, answer.body, answer.complete) == (200, b"body", True)
            assert answer.values("x-v") == ["a", "b"]
            assert answer.values("set-cookie") == []
            assert answer.header("x-vastproxy-instance") == "1"
        assert [(m.method, m.target, m.body) for m in seen] == [
            ("GET", "/a%2Fb//c?x=%26&y?", b""),
            ("POST", "/p", b"\x00\xff"),
            ("PUT", "/c", b"abcd"),
            ("DELETE", "/d", b""),
            ("POST", "/e", b""),
        ]
        assert [value for name, value in seen[0].headers if name == "x-b"] == ["1", "2"]
        assert (seen[0].header("cookie"), seen[0].header("x-c")) == (None, "\xe9")
        assert seen[0].header("x-forwarded-for") == "127.0.0.1"
        assert seen[0].header("authorization") == "Bearer token-of-1"
        assert stage.accepted == 1
        await stage.idle()


@pytest.mark.parametrize("status", [200, 204, 304])
async def test_answers_without_a_body(status: int) -> None:
    raw = b"HTTP/1.1 %d X\r\netag: a\r\n%b\r\n" % (status, b"content-length: 9\r\n" if status != 204 else b"")
    async with Foreign(always(raw)) as stage, Talk(stage.port) as talk:
        method = "HEAD" if status == 200 else "GET"
        for _ in range(2):
            answer = await talk.ask(get(method=method))
            assert (answer.status, answer.body, answer.complete) == (status, b"", True)
            assert answer.header("etag") == "a"
        assert stage.accepted == 1


async def test_bodies_that_end_with_their_connection_and_old_clients() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")

    async with Foreign(script) as stage:
        assert (await ask(stage.port, get())).body == b"until the end"
        async with Talk(stage.port) as talk:
            talk.write(b"GET /x HTTP/1.0\r\nhost: a\r\n\r\n")
            assert (await talk.rest()).endswith(b"\r\n\r\nuntil the end")


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_large_upload_streams(chunked: bool) -> None:
    """The engine has the beginning before the client has sent the end."""
    piece = bytes(range(256)) * 256
    count = 300
    seen: list[bytes] = []
    begun = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await next_head(reader)
        seen.append(await reader.read(100))
        begun.set()
        while not seen[-1].endswith(b"0\r\n\r\n") and (chunked or sum(map(len, seen)) < count * len(piece)):
            seen.append(await reader.read(1 << 16))
        assert (b"chunked" in head) is chunked
        writer.write(ok())

    async with Foreign(script) as stage, Talk(stage.port) as talk:
        framing = "transfer-encoding: chunked" if chunked else f"content-length: {count * len(piece)}"
        talk.write(get("/x", framing, method="POST"))
        for number in range(count):
            talk.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await talk.drain()
            if number == 10:
                await asyncio.wait_for(begun.wait(), 5)
        talk.write(b"0\r\n\r\n" if chunked else b"")
        assert (await talk.answer("POST")).status == 200
        if not chunked:
            assert b"".join(seen) == piece * count
        await stage.idle()


async def test_a_body_over_the_limit_is_refused_announced_or_not() -> None:
    server = ServerSettings(max_body_bytes=2000)
    async with Foreign(always(ok()), server=server) as stage:
        assert (await ask(stage.port, post(b"x" * 2001))).status == 413
        chunked = get("/x", "transfer-encoding: chunked", method="POST") + b"800\r\n" + b"x" * 2048 + b"\r\n"
        assert (await ask(stage.port, chunked)).status == 413
        assert (await ask(stage.port, post(b"x" * 2000))).status == 200
        await stage.idle()


# ── streams ────────────────────────────────────────────────────────────────────────────────────


async def test_each_token_goes_out_when_it_comes_in() -> None:
    asked = asyncio.Event()
    writers: list[asyncio.StreamWriter] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(CHUNKED)
        writers.append(writer)
        asked.set()
        await reader.read()

    async with Foreign(script) as stage, Talk(stage.port) as talk:
        talk.write(get())
        await asked.wait()
        talk.put_back(await talk.until(b"\r\n\r\n"))
        for number in range(50):
            event = b"data: %d\n\n" % number
            writers[0].write(b"%x\r\n%b\r\n" % (len(event), event))
            talk.put_back(await talk.until(event))
        writers[0].write(b"0\r\n\r\n")
        assert (await talk.answer()).body == b"".join(b"data: %d\n\n" % number for number in range(50))
        await stage.idle()


async def test_an_engine_that_dies_in_mid_stream_is_told_and_the_connection_breaks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)  # uvicorn complains about the answer that is not ended

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(CHUNKED + b"9\r\ndata: a\n\n\r\n")

    async with Foreign(script) as stage:
        answer = await ask(stage.port, get())
        assert (answer.status, answer.complete) == (200, False)
        assert answer.body.startswith(b"data: a\n\nevent: error\ndata: ")
        assert json.loads(answer.body.split(b"data: ")[2])["error"]["code"] == "backend_interrupted"
        await stage.idle(failures=1)


async def test_a_slow_reader_stops_its_engine() -> None:
    total = 100_000_000
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await next_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while sent < total:
            writer.write(bytes(100_000))
            await writer.drain()
            sent += 100_000

    async with Foreign(script) as stage, Talk(stage.port, receive_bytes=1 << 19) as talk:
        talk.write(get())
        talk.put_back(await talk.until(b"\r\n\r\n"))
        before = -1
        while before != sent:
            before = sent
            for _ in range(20):
                assert (await ask(stage.port, get("/livez"))).status == 200
        assert sent < total // 2
        assert len((await talk.answer()).body) == total
        await stage.idle()


# ── clients that leave ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["fin", "reset"])
@pytest.mark.parametrize("when", ["during its upload", "before the headers", "between chunks"])
async def test_a_client_that_leaves_stops_the_engine_and_blames_nobody(when: str, how: str) -> None:
    asked = asyncio.Event()
    ended: list[float] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        if when == "between chunks":
            writer.write(CHUNKED + b"2\r\nab\r\n")
        asked.set()
        try:
            while await reader.read(1 << 16):
                pass
        finally:
            ended.append(time.monotonic())

    async with Foreign(script) as stage, Talk(stage.port) as talk, Steady() as steady:
        talk.write(get("/x", "content-length: 100", method="POST") + b"x" * (9 if "upload" in when else 100))
        await asked.wait()
        if when == "between chunks":
            await talk.until(b"ab\r\n")
        left_at = time.monotonic()
        if how == "fin":
            talk.writer.close()
        else:
            talk.reset()
        await until(lambda: bool(ended))
        assert await steady.took_s(left_at, ended[0]) < LIMIT_S
        await stage.idle()


async def test_an_engine_that_does_not_answer_in_time() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        Foreign(script, upstream=UpstreamSettings(headers_timeout_s=0.1)) as stage,
        Talk(stage.port) as talk,
    ):
        answer = await talk.ask(get())
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (504, "backend_timeout")
        assert (await talk.ask(get("/livez"))).status == 200
        await stage.idle(failures=1)


# ── keys, pages, other protocols ───────────────────────────────────────────────────────────────


async def test_keys_pages_and_refused_paths() -> None:
    server = ServerSettings(api_keys=(SecretStr("sk-right"),))
    right = "authorization: Bearer sk-right"
    async with Foreign(always(ok()), server=server) as stage, Talk(stage.port) as talk:
        for path in ("/x", CHAT, "/v1/models", "/vastproxy/v1/backends", "/flush_cache"):
            answer = await talk.ask(get(path))
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (401, "invalid_api_key")
        for path in ("/healthz", "/livez", "/readyz"):
            assert (await talk.ask(get(path))).status == 200
        assert (await talk.ask(get("/v1/models", right))).status == 200
        assert (await talk.ask(get("/vastproxy/nothing", right))).status == 404
        assert (await talk.ask(get("/flush_cache", right))).status == 403
        assert stage.accepted == 0
        assert (await talk.ask(get("/x", right))).status == 200


async def test_websocket_is_declined_and_other_offers_are_not_made() -> None:
    """ASGI could not pass them on as they are."""
    seen: list[Message] = []
    async with Foreign(always(ok(), seen=seen)) as stage:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(f"ws://127.0.0.1:{stage.port}/v1/realtime", proxy=None):
                pass
        assert caught.value.response.status_code == 403
        assert seen == []
        answer = await ask(stage.port, get("/x", "connection: upgrade", "upgrade: echo/2"))
        assert answer.status == 200
        assert seen[0].header("upgrade") is None


# ── the lifespan ───────────────────────────────────────────────────────────────────────────────


async def test_the_factory_serves_an_account_for_as_long_as_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`uvicorn --factory vastproxy.api.app:create_app`: the fleet begins and ends with the server."""
    async with open_scene(tmp_path) as scene:
        await scene.rent(102)
        variables = {
            "HOME": str(tmp_path),
            "VAST_URL": scene.api.url,
            "VAST_API_KEY": scene.api.account.api_key,
            "SSH_KEY_PATH": str(scene.key_path),
            "VASTPROXY_TUNNELS__STATE_DIR": str(tmp_path / "state"),
        }
        for name, value in (FAST | variables).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        async with PromptServer(plain_config(create_app()), listen()) as server:
            await scene.api.until(lambda: scene.api.labels() == {102: "proxied"})
            answer = await ask_plainly(server.port, "POST", CHAT, **chat(stream=True))
            assert (answer.status, answer.complete) == (200, True)
            assert answer.body.endswith(b"data: [DONE]\n\n")
            health = json.loads((await ask_plainly(server.port, "GET", "/healthz")).body)
            assert health["status"] == "healthy"
        assert scene.api.labels() == {102: ""}
