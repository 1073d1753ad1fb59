"""Answers that come while the request is still being sent, and clients that go on sending after them."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.helpers.curl import curl
from tests.helpers.raw import Handler
from tests.helpers.stage import Stage, always, next_head, ok, until
from tests.helpers.talk import Talk, ask, get
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.settings.model import ServerSettings

pytestmark = BOTH_LOOPS

REFUSAL = b"HTTP/1.1 413 Too Large\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\ntoo large"
SIZE = 100_000_000


def refusing(*, reads_on: bool) -> Handler:
    """An engine that refuses as soon as it has seen the head, and then reads the rest or nothing."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        writer.write(REFUSAL)
        while reads_on and await reader.read(1 << 20):
            pass
        if not reads_on:
            await writer.wait_closed()

    return handler


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


def pieces() -> Iterator[bytes]:
    """A body of unknown length."""
    piece = bytes(1 << 20)
    for _ in range(SIZE // len(piece)):
        yield piece


UPLOADS = {
    "length": ("-H", "Expect:"),
    "chunks": ("-H", "Expect:", "-H", "transfer-encoding: chunked"),
}


@pytest.mark.parametrize("framing", UPLOADS)
@pytest.mark.parametrize("who", ["we", "an engine that reads on", "an engine that stops reading"])
async def test_curl_sees_the_refusal_of_a_large_upload(who: str, framing: str, large: Path) -> None:
    """No reset destroys the answer, whether the size was announced or not."""
    limit = 1 << 20 if who == "we" else 1 << 30
    script = always(ok()) if who == "we" else refusing(reads_on=who.endswith("reads on"))
    async with Stage(script, server=ServerSettings(max_body_bytes=limit)) as stage:
        out = await curl(*UPLOADS[framing], "-T", str(large), "-w", " %{http_code}", f"{stage.url}/x")
        assert out.endswith(b" 413")
        assert (b"request_too_large" if who == "we" else b"too large") in out
        await stage.idle()
        assert (await ask(stage.port, get("/healthz"))).status == 200


@pytest.mark.parametrize("framing", UPLOADS)
@pytest.mark.parametrize("who", ["we", "an engine that stops reading"])
async def test_requests_sees_the_refusal_of_a_large_upload(who: str, framing: str, large: Path) -> None:
    """It reads nothing before it has sent everything."""
    limit = 1 << 20 if who == "we" else 1 << 30
    script = always(ok()) if who == "we" else refusing(reads_on=False)

    def upload(url: str) -> tuple[int, bytes]:
        with requests.Session() as session, large.open("rb") as file:
            session.trust_env = False
            answer = session.post(url, data=file if framing == "length" else pieces(), timeout=20)
            return answer.status_code, answer.content

    async with Stage(script, server=ServerSettings(max_body_bytes=limit)) as stage:
        status, body = await asyncio.to_thread(upload, f"{stage.url}/x")
        assert status == 413
        assert (b"request_too_large" if who == "we" else b"too large") in body
        await stage.idle()


async def test_an_upload_that_never_stops_is_not_kept() -> None:
    """What comes after the refusal is thrown away: memory does not grow, and the engine hears nothing of it."""
    async with Stage(refusing(reads_on=False)) as stage, Talk(stage.port) as talk:
        talk.write(get("/x", "content-length: 60000000", method="POST"))
        assert (await talk.answer("POST")).body == b"too large"
        await until(lambda: not stage.fleet.snapshot().backends[0].in_flight)
        talk.write(bytes(59_000_000))
        await talk.drain()
        assert await talk.rest() == b""
        await stage.idle()


async def test_the_engines_connection_is_not_used_again_when_its_request_was_not_sent_whole() -> None:
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await next_head(reader))
        writer.write(ok())
        await reader.read()

    async with Stage(script) as stage:
        async with Talk(stage.port) as talk:
            talk.write(get("/first", "content-length: 1000", method="POST") + b"part")
            answer = await talk.answer("POST")
            assert (answer.status, answer.header("connection")) == (200, "close")
        assert (await ask(stage.port, get("/second"))).status == 200
        assert [head.split()[1] for head in heads] == [b"/first", b"/second"]
        await stage.idle()


async def test_both_directions_flow_at_the_same_time() -> None:
    """An answer may begin before the request has ended, and both go on to their ends."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await next_head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                piece = (await reader.readexactly(size + 2))[:-2]
                writer.write(b"%x\r\n%b\r\n" % (size, piece.upper()))
            await reader.readuntil(b"\r\n")
            writer.write(b"0\r\n\r\n")

    async with Stage(script) as stage:
        for _ in range(2):
            async with Talk(stage.port) as talk:
                talk.write(get("/x", "transfer-encoding: chunked", method="POST"))
                talk.put_back(await talk.until(b"\r\n\r\n"))
                for piece in (b"one", b"two", b"three"):
                    talk.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    talk.put_back(await talk.until(piece.upper()))
                talk.write(b"0\r\n\r\n")
                answer = await talk.answer("POST")
                assert (answer.body, answer.complete) == (b"ONETWOTHREE", True)
                assert await talk.rest() == b""
        assert stage.accepted == 1
        await stage.idle()


async def test_a_malformed_rest_of_a_request_breaks_the_answer_that_has_begun() -> None:
    begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n"

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        writer.write(begun)
        await reader.read()

    async with Stage(script) as stage, Talk(stage.port) as talk:
        talk.write(get("/x", "transfer-encoding: chunked", method="POST"))
        talk.put_back(await talk.until(b"2\r\nab\r\n"))
        talk.write(b"not a size\r\n")
        answer = await talk.answer("POST")
        assert (answer.status, answer.body, answer.complete) == (200, b"ab", False)
        await until(lambda: not stage.script.open_connections)
        await stage.idle()


async def test_a_slow_reader_of_an_early_answer_gets_all_of_it() -> None:
    """While the rest of its request is thrown away, for as long as it reads at all."""
    body = bytes(1_000_000)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        writer.write(ok(body))
        await reader.read()

    async with Stage(script) as stage, Talk(stage.port, receive_bytes=4096) as talk:
        talk.write(get("/x", "content-length: 1000000", method="POST") + bytes(999_000))
        answer = await talk.answer("POST", pause_s=0.001)
        assert (len(answer.body), answer.complete) == (len(body), True)
        assert await talk.rest() == b""
        await stage.idle()


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_refused_client_that_falls_silent_is_not_waited_for() -> None:
    """Five seconds without a byte, as in nginx."""
    async with (
        Stage(always(ok()), server=ServerSettings(max_body_bytes=1024)) as stage,
        Talk(stage.port) as talk,
    ):
        began = time.monotonic()
        talk.write(get("/x", "content-length: 5000", method="POST"))
        assert (await talk.answer("POST")).status == 413
        assert await talk.rest() == b""  # our half is closed at once
        await until(lambda: stage.client_connections == 0, limit_s=15)
        assert 4 < time.monotonic() - began < 15
