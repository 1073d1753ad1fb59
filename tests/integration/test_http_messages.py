"""Heads and bodies on their way through: what may be changed is changed, everything else arrives byte for byte."""

import asyncio
import gzip
import socket
from collections.abc import Sequence

import pytest

from tests.helpers.curl import curl
from tests.helpers.stage import Stage, always, next_head, next_request, ok
from tests.helpers.talk import Talk, ask, get, post
from tests.helpers.uv import BOTH_LOOPS
from tests.helpers.wire import Message
from vastproxy.settings.model import ServerSettings, UpstreamSettings

pytestmark = BOTH_LOOPS


# ── answers without a body ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("frame", [b"content-length: 1234", b"transfer-encoding: chunked", b"x-none: 1"])
async def test_head_has_the_engines_length_and_both_connections_go_on(frame: bytes) -> None:
    script = always(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % frame, ok(b"got"))
    async with Stage(script) as stage, Talk(stage.port) as talk:
        head = await talk.ask(get(method="HEAD"))
        assert (head.status, head.body, head.complete) == (200, b"", True)
        assert head.header("content-length") == ("1234" if frame.endswith(b"1234") else None)
        assert head.header("connection") is None
        assert (await talk.ask(get())).body == b"got"
        assert stage.accepted == 1
        await stage.idle()


@pytest.mark.parametrize("path", ["/healthz", "/vastproxy/nothing", "/flush_cache"])
async def test_head_of_what_we_answer_ourselves_says_what_get_would(path: str) -> None:
    async with Stage(always(ok())) as stage, Talk(stage.port) as talk:
        head = await talk.ask(get(path, method="HEAD"))
        body = (await talk.ask(get(path))).body
        assert (head.body, head.header("content-length")) == (b"", str(len(body)))


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", [b"", b"content-length: 0\r\n", b"content-length: 99\r\n"])
async def test_answers_without_a_body_leave_both_connections_usable(status: int, length: bytes) -> None:
    """304 says how long the body would be, 204 must not say anything of one (RFC 9110 §8.6)."""
    script = always(b'HTTP/1.1 %d X\r\netag: "a"\r\n%b\r\n' % (status, length), ok(b"got"))
    async with Stage(script) as stage, Talk(stage.port) as talk:
        answer = await talk.ask(get())
        assert (answer.status, answer.header("etag"), answer.body) == (status, '"a"', b"")
        expected = length[16:-2].decode() if length and status == 304 else None
        assert answer.header("content-length") == expected
        assert answer.header("transfer-encoding") is None
        assert (await talk.ask(get())).body == b"got"
        assert stage.accepted == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_an_empty_body_ends_and_both_connections_go_on(raw: bytes) -> None:
    async with Stage(always(raw)) as stage, Talk(stage.port) as talk:
        for _ in range(3):
            answer = await talk.ask(get())
            assert (answer.status, answer.body, answer.complete) == (200, b"", True)
        assert stage.accepted == 1


async def test_requests_without_a_body_announce_none_or_nothing() -> None:
    """An engine must never wait for a body that does not come, nor take what follows for one."""
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage, Talk(stage.port) as talk:
        for request in (
            get(method="GET"),
            get(method="DELETE"),
            get(method="POST"),
            post(b""),
            get("/x", "transfer-encoding: chunked", method="POST") + b"0\r\n\r\n",
        ):
            assert (await talk.ask(request)).status == 200
        lengths = [message.header("content-length") for message in seen]
        assert lengths == [None, None, "0", "0", "0"]
        assert [message.header("transfer-encoding") for message in seen] == [None] * 5
        assert stage.accepted == 1


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH", "QUERY", "PROPFIND", "X-ODD"])
async def test_any_method_may_have_a_body(method: str) -> None:
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage:
        assert (await ask(stage.port, post(b"\x00\xff body", method=method))).status == 200
        assert (seen[0].method, seen[0].body) == (method, b"\x00\xff body")


# ── bodies ─────────────────────────────────────────────────────────────────────────────────────

#: "hello" for each decoder of curl's: deflated; one stored block of brotli (RFC 7932 §9.2); one raw block (RFC 8878).
COMPRESSED = {
    "gzip": gzip.compress(b"hello"),
    "br": b"\x0b\x02\x80hello\x03",
    "zstd": b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello",
}


@pytest.mark.parametrize("coding", COMPRESSED)
@pytest.mark.parametrize("framed", ["length", "chunks", "close"])
async def test_compressed_bodies_are_not_touched(coding: str, framed: str) -> None:
    data = COMPRESSED[coding]
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\n" % coding.encode()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        if framed == "length":
            writer.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(data), data))
        elif framed == "chunks":
            pieces = b"".join(b"1\r\n%b\r\n" % data[at : at + 1] for at in range(len(data)))
            writer.write(head + b"transfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
        else:
            writer.write(head + b"\r\n" + data)

    async with Stage(script) as stage:
        answer = await ask(stage.port, get())
        assert (answer.body, answer.header("content-encoding"), answer.complete) == (data, coding, True)
        assert await curl("--compressed", f"{stage.url}/x") == b"hello"


async def test_a_compressed_request_is_not_touched() -> None:
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen), kind="sglang") as stage:
        data = gzip.compress(b'{"model": "m", "messages": []}')
        await ask(stage.port, post(data, "content-encoding: gzip", target="/v1/chat/completions"))
        assert seen[0].body == data


async def test_a_body_of_every_byte_goes_both_ways_in_any_framing() -> None:
    data = bytes(range(256)) * 300
    seen: list[Message] = []
    pieces = [data[at : at + 7001] for at in range(0, len(data), 7001)]
    chunks = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"000\r\n\r\n"
    async with Stage(always(ok(data), seen=seen)) as stage, Talk(stage.port) as talk:
        for request in (post(data), get("/x", "transfer-encoding: Chunked", method="POST") + chunks):
            assert (await talk.ask(request)).body == data
        assert [message.body for message in seen] == [data, data]


# ── targets ────────────────────────────────────────────────────────────────────────────────────

TARGETS = [
    b"/",
    b"//",
    b"///v1//x/",
    b"/a/./b/../c",
    b"/..;/x",
    b"/%2e%2E/%2F%5c%00%0d%0a%ff%zz%",
    b'/"<>[]{}|^`\\',
    b"/;a=b;c?;d",
    b"/a?",
    b"/a??b?c=/d//e",
    b"/a?x=%26&y&&=z&+",
    "/\N{LATIN SMALL LETTER E WITH ACUTE}\N{SNOWMAN}".encode(),
    b"/\x80\xff",
    b"/" + b"long/" * 4000,
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target)[:30])
async def test_paths_arrive_byte_for_byte(target: bytes) -> None:
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ok())

    async with Stage(script) as stage:
        request = b"GET %b HTTP/1.1\r\nhost: a\r\n\r\n" % target
        assert (await ask(stage.port, request)).status == 200
        assert heads[0].startswith(b"GET %b HTTP/1.1\r\n" % target)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://other.test/a?b", "/a?b"),
        ("HTTPS://other.test:8080//a", "//a"),
        ("http://other.test", "/"),
        ("http://other.test?q", "/?q"),
    ],
)
async def test_an_absolute_target_becomes_a_path_and_its_host_counts(target: str, expected: str) -> None:
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage:
        await ask(stage.port, get(target))
        assert seen[0].target == expected
        assert (seen[0].header("x-forwarded-host") or "").startswith("other.test")


async def test_options_of_the_whole_server_goes_on() -> None:
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage:
        assert (await ask(stage.port, get("*", method="OPTIONS"))).status == 200
        assert (seen[0].method, seen[0].target) == ("OPTIONS", "*")


# ── headers ────────────────────────────────────────────────────────────────────────────────────


def values(message: Message, *names: str) -> list[tuple[str, str]]:
    return [pair for pair in message.headers if pair[0].lower() in names]


async def test_repeated_headers_keep_their_order_both_ways() -> None:
    seen: list[Message] = []
    lines = (b"x-a: 1", b"set-cookie: a=1; Path=/", b"X-A: 2", b"Set-Cookie: b=2, c", b"x-a: ")
    upstream = UpstreamSettings(pass_credentials=("cookie",))
    async with Stage(always(ok(b"", *lines), seen=seen), upstream=upstream) as stage:
        answer = await ask(stage.port, get("/x", "X-B: 1", "cookie: a", "x-b: 2, 3", "Cookie: b", "X-b:"))
        assert values(seen[0], "x-b", "cookie") == [
            ("x-b", "1"),
            ("x-b", "2, 3"),
            ("x-b", ""),
            ("cookie", "a"),
            ("cookie", "b"),
        ]
        assert [pair for pair in answer.headers if pair[0] in ("x-a", "set-cookie")] == [
            ("x-a", "1"),
            ("set-cookie", "a=1; Path=/"),
            ("x-a", "2"),
            ("set-cookie", "b=2, c"),
            ("x-a", ""),
        ]


async def test_values_above_ascii_and_tabs_go_both_ways() -> None:
    seen: list[Message] = []
    value = "caf\xe9 \xff\x80\tx"
    async with Stage(always(ok(b"", b"x-a: " + value.encode("latin-1")), seen=seen)) as stage:
        async with Talk(stage.port) as talk:
            talk.write(get("/x", f"x-b:\t {value} \t"))
            assert b"x-a: %b\r\n" % value.encode("latin-1") in await talk.until(b"\r\n\r\n")
        assert seen[0].header("x-b") == value


async def test_what_connection_names_stays_on_its_connection_both_ways() -> None:
    seen: list[Message] = []
    hop = (
        "connection: x-hop, Keep-Alive",
        "Connection: X-Other",
        "x-hop: 1",
        "x-other: 2",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "proxy-authorization: Basic eA==",
        "te: gzip",
        "x-end: 3",
    )
    script = always(ok(b"", *(line.encode() for line in hop)), seen=seen)
    async with Stage(script) as stage, Talk(stage.port) as talk:
        answer = await talk.ask(get("/x", *hop))
        gone = {line.split(":")[0].lower() for line in hop} - {"x-end"}
        for headers in (answer.headers, seen[0].headers):
            assert not {name for name, _ in headers} & gone
            assert ("x-end", "3") in headers
        assert (await talk.ask(get())).status == 200
        assert stage.accepted == 1


@pytest.mark.parametrize("token", ["host", "content-length", "authorization", "x-request-id"])
async def test_connection_cannot_take_away_what_the_engine_needs(token: str) -> None:
    """Naming an end-to-end field in Connection is an old trick to strip it on the way."""
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage:
        assert (await ask(stage.port, post(b"body", f"connection: {token}"))).status == 200
        assert seen[0].header(token) is not None
        assert seen[0].body == b"body"


# ── trailers ───────────────────────────────────────────────────────────────────────────────────

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
TRAILERS = b"x-sum: 1\r\nset-cookie: no=1\r\ncontent-length: 3\r\nX-Sum: 2\r\n\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [CHUNKED + b"2\r\nok\r\n0\r\n" + TRAILERS],
        [CHUNKED + b"2\r\nok\r\n", b"0\r\n" + TRAILERS],
        [CHUNKED, b"2\r\nok\r\n0\r\n" + TRAILERS],
        [CHUNKED + b"0\r\n" + TRAILERS],
    ],
    ids=["at once", "after the body", "after the head", "no body"],
)
@pytest.mark.parametrize("wanted", [True, False])
async def test_trailers_go_to_who_takes_them(pieces: Sequence[bytes], wanted: bool) -> None:
    """However they come in; fields that would change how the message is read do not."""
    seen: list[Message] = []
    go_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await next_request(reader))
            writer.write(pieces[0])
            for piece in pieces[1:]:
                await go_on.wait()
                writer.write(piece)

    async with Stage(script) as stage, Talk(stage.port) as talk:
        for _ in range(2):
            go_on.clear()
            talk.write(get("/x", *(("TE: trailers", "connection: te") if wanted else ())))
            if len(pieces) > 1:
                beginning = await talk.until(b"\r\n\r\n" if pieces[0] == CHUNKED else b"2\r\nok\r\n")
                talk.put_back(beginning)
                go_on.set()
            answer = await talk.answer()
            assert answer.complete
            assert answer.body == (b"ok" if b"\r\nok\r\n" in b"".join(pieces) else b"")
            assert answer.trailers == ([("x-sum", "1"), ("x-sum", "2")] if wanted else [])
        assert [message.header("te") for message in seen] == 2 * ["trailers" if wanted else None]
        assert stage.accepted == 1
        await stage.idle()


async def test_trailers_of_a_request_are_dropped() -> None:
    seen: list[Message] = []
    async with Stage(always(ok(), seen=seen)) as stage, Talk(stage.port) as talk:
        head = get("/x", "transfer-encoding: chunked", "trailer: authorization", method="POST")
        answer = await talk.ask(head + b"2\r\nab\r\n0\r\nauthorization: Bearer x\r\nx-evil: 1\r\n\r\n")
        assert answer.status == 200
        assert (await talk.ask(get())).status == 200
        assert seen[0].body == b"ab"
        names = {name.lower() for name, _ in seen[0].headers}
        assert not names & {"x-evil", "trailer"}
        assert seen[0].header("authorization") == "Bearer token-of-1"


# ── what the engine is told of the client ──────────────────────────────────────────────────────

CLAIMED = (
    "x-forwarded-for: 192.0.2.1",
    "X-Forwarded-For: 192.0.2.2, 192.0.2.3",
    "x-forwarded-proto: https",
    "x-forwarded-host: first.test",
    "forwarded: for=192.0.2.1",
)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


HOSTS = ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"))]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("mode", ["append", "replace", "remove"])
@pytest.mark.parametrize("claims", [True, False])
async def test_the_engine_is_told_of_the_client_as_it_is_set(mode: str, host: str, claims: bool) -> None:
    seen: list[Message] = []
    server = ServerSettings(forwarded=mode)
    async with Stage(always(ok(), seen=seen), server=server, host=host) as stage:
        await ask(stage.port, get("/x", *(CLAIMED if claims else ())), host=host)
    told = {name: value for name, value in seen[0].headers if "forwarded" in name}
    assert len(told) == sum("forwarded" in name for name, _ in seen[0].headers)  # none twice
    node = host if ":" not in host else f'"[{host}]"'
    expected = {"x-forwarded-for": host, "x-forwarded-proto": "http", "x-forwarded-host": "proxy.test"}
    if mode == "remove":
        expected = {}
    elif mode == "append" and claims:
        expected = {
            "x-forwarded-for": f"192.0.2.1, 192.0.2.2, 192.0.2.3, {host}",
            "x-forwarded-proto": "https",
            "x-forwarded-host": "first.test",
            "forwarded": f"for=192.0.2.1, for={node};proto=http",
        }
    assert told == expected


async def test_the_head_is_the_engines_own_dialect() -> None:
    """Names in lower case, our host, its own token: nothing that the client wrote for us."""
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await next_head(reader))
        writer.write(ok())

    async with Stage(script) as stage:
        await ask(stage.port, get("/x", "Authorization: Bearer client", "X-Vastproxy-Instance: 1"))
    assert b"\r\nhost: 127.0.0.1:18000\r\n" in heads[0]
    assert b"\r\nauthorization: bearer token-of-1\r\n" in heads[0]
    assert b"client" not in heads[0]
    assert b"x-vastproxy" not in heads[0]
