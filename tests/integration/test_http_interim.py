"""Interim answers: the invitation to send a body, hints before the answer, and who gets to see them."""

import asyncio
from pathlib import Path

import pytest

from tests.helpers.curl import curl
from tests.helpers.raw import Handler
from tests.helpers.stage import Stage, always, next_head, next_request, ok, until
from tests.helpers.talk import Talk, ask, get
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.settings.model import ServerSettings

pytestmark = BOTH_LOOPS

EXPECT = "Expect: 100-Continue"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LENGTH = "content-length: 8"
CHUNKS = "transfer-encoding: chunked"
BODIES = {LENGTH: b"the body", CHUNKS: b"4\r\nthe \r\n4\r\nbody\r\n0\r\n\r\n"}


def inviting(heads: list[bytes], bodies: list[bytes]) -> Handler:
    """An engine that wants the body, and says so before it has seen any of it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await next_head(reader)
            heads.append(head)
            if b"\r\nexpect: 100-continue\r\n" in head:
                writer.write(CONTINUE)
            bodies.append(await body_of(head, reader))
            writer.write(ok())

    return handler


async def body_of(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if b"chunked" not in head:
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        return await reader.readexactly(length)
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


@pytest.mark.parametrize("framing", BODIES)
async def test_the_engine_invites_before_the_client_sends(framing: str) -> None:
    heads: list[bytes] = []
    bodies: list[bytes] = []
    async with Stage(inviting(heads, bodies)) as stage, Talk(stage.port) as talk:
        for _ in range(2):
            talk.write(get("/x", EXPECT, framing, method="POST"))
            assert await talk.until(b"\r\n\r\n") == CONTINUE
            assert len(bodies) < len(heads)
            talk.write(BODIES[framing])
            answer = await talk.answer("POST")
            assert (answer.status, answer.header("connection")) == (200, None)
        assert bodies == [b"the body"] * 2
        assert stage.accepted == 1
        await stage.idle()


@pytest.mark.parametrize("framing", BODIES)
@pytest.mark.parametrize("waits_ms", [0, 1])
async def test_a_client_that_does_not_wait_is_served(framing: str, waits_ms: int) -> None:
    bodies: list[bytes] = []
    async with Stage(inviting([], bodies)) as stage, Talk(stage.port) as talk:
        for _ in range(2):
            talk.write(get("/x", EXPECT, framing, method="POST"))
            if waits_ms:
                await asyncio.sleep(0)
            talk.write(BODIES[framing])
            assert (await talk.answer("POST")).status == 200
        assert bodies == [b"the body"] * 2


async def test_a_client_that_has_waited_enough_is_served_by_an_engine_that_never_invites() -> None:
    """RFC 9110 §10.1.1: a client must not wait for ever."""
    asked = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await next_head(reader)
        asked.set()
        writer.write(ok(await body_of(head, reader)))

    async with Stage(script) as stage, Talk(stage.port) as talk:
        talk.write(get("/x", EXPECT, LENGTH, method="POST"))
        await asked.wait()
        talk.write(b"the body")
        answer = await talk.answer("POST")
        assert (answer.body, answer.interim) == (b"the body", [])


@pytest.mark.parametrize("status", [403, 413])
@pytest.mark.parametrize("framing", BODIES)
async def test_an_engine_refuses_without_an_invitation(status: int, framing: str) -> None:
    """The client need not send its body then; neither connection can serve another request."""
    refusal = b"HTTP/1.1 %d No\r\ncontent-length: 2\r\nwww-authenticate: Basic\r\n\r\nno" % status

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        writer.write(refusal)
        await reader.read()

    async with Stage(script) as stage, Talk(stage.port) as talk:
        talk.write(get("/x", EXPECT, framing, method="POST"))
        answer = await talk.answer("POST")
        assert (answer.status, answer.body, answer.complete) == (status, b"no", True)
        assert (answer.interim, answer.header("connection")) == ([], "close")
        assert await talk.rest() == b""
        await until(lambda: not stage.script.open_connections)
        await stage.idle()


async def test_a_refused_client_that_sends_all_the_same_keeps_its_answer() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        writer.write(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
        await reader.read()

    async with Stage(script) as stage, Talk(stage.port) as talk:
        talk.write(get("/x", EXPECT, "content-length: 10000000", method="POST"))
        await talk.until(b"\r\n\r\n")
        talk.write(bytes(10_000_000))
        await talk.drain()
        assert await talk.rest() == b"no"


async def test_our_own_refusals_come_without_an_invitation() -> None:
    settings = ServerSettings(max_body_bytes=1024)
    async with Stage(always(ok()), server=settings) as stage:
        for target, length, status in (
            ("/x", 1025, 413),
            ("/flush_cache", 9, 403),
            ("/vastproxy/no", 9, 404),
        ):
            async with Talk(stage.port) as talk:
                talk.write(get(target, EXPECT, f"content-length: {length}", method="POST"))
                answer = await talk.answer("POST")
                assert answer.status == status
                if status != 404:
                    assert answer.interim == []
        assert stage.accepted == 0


async def test_other_expectations_are_refused_and_old_clients_have_none() -> None:
    heads: list[bytes] = []
    async with Stage(inviting(heads, [])) as stage:
        answer = await ask(stage.port, get("/x", "expect: tea", LENGTH, method="POST"))
        assert (answer.status, answer.header("connection")) == (417, "close")
        request = b"POST /x HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nab"
        assert (await ask(stage.port, request)).interim == []
        assert b"expect" not in heads[0]
        answer = await ask(stage.port, get("/x", EXPECT))  # nothing is to come
        assert (answer.status, answer.interim) == (200, [])
        assert b"expect" not in heads[1]


async def test_hints_go_to_the_client_when_they_come() -> None:
    hinted = asyncio.Event()
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b>\r\n%b\r\n"
    hop = b"connection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\ncontent-length: 5\r\nx-request-id: fake\r\n"

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await next_request(reader)
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" + hint % hop)
            await hinted.wait()
            writer.write(hint % b"" + ok())

    async with Stage(script) as stage, Talk(stage.port) as talk:
        for _ in range(2):
            hinted.clear()
            talk.write(get())
            first = await talk.until(b"\r\n\r\n")
            second = await talk.until(b"\r\n\r\n")
            hinted.set()
            assert first == b"HTTP/1.1 102 Processing\r\n\r\n"
            assert second.splitlines() == [
                b"HTTP/1.1 103 Early Hints",
                b"link: </a.css>; rel=preload",
                b"link: </b>",
                *second.splitlines()[3:],
            ]
            for name in (b"hop", b"keep-alive", b"content-length", b"fake"):
                assert name not in second
            answer = await talk.answer()
            assert [status for status, _ in answer.interim] == [103]
            assert (answer.status, answer.body) == (200, b"ok")
        assert stage.accepted == 1


@pytest.mark.parametrize("asked", [True, False])
async def test_an_invitation_is_for_who_asked_for_one_and_once(asked: bool) -> None:
    script = always(CONTINUE + CONTINUE + ok(b"1") if not asked else CONTINUE * 3 + ok(b"1"))
    async with Stage(script) as stage, Talk(stage.port) as talk:
        for _ in range(2):
            talk.write(get("/x", *([EXPECT] if asked else []), LENGTH, method="POST") + b"the body")
            answer = await talk.answer("POST")
            assert (answer.status, answer.body) == (200, b"1")
            assert len(answer.interim) <= (1 if asked else 0)
        assert stage.accepted == 1


async def test_endless_hints_and_a_change_of_protocol_that_nobody_asked_for_are_errors() -> None:
    answers = [
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40 + ok(),
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(answers.pop())
        await reader.read()

    async with Stage(script) as stage:
        for failures in (1, 2):
            answer = await ask(stage.port, get())
            assert (answer.status, b"backend_protocol_error" in answer.body) == (502, True)
            await stage.idle(failures=failures)


async def test_curl_waits_for_the_invitation_to_send_a_large_body(tmp_path: Path) -> None:
    """It would wait for a minute without one, which is more than the test may take."""
    body = bytes(range(256)) * 12_000
    file = tmp_path / "body"
    file.write_bytes(body)
    heads: list[bytes] = []
    bodies: list[bytes] = []
    async with Stage(inviting(heads, bodies)) as stage:
        url = f"{stage.url}/x"
        patient = ("--expect100-timeout", "60")
        assert await curl(*patient, "--data-binary", f"@{file}", url) == b"ok"
        assert (
            await curl(*patient, "-T", str(file), "-H", "transfer-encoding: chunked", "-H", EXPECT, url)
            == b"ok"
        )
    assert bodies == [body, body]
    assert all(b"expect: 100-continue" in head for head in heads)
