"""A rented machine may lie: whatever it answers, it costs a bounded amount and harms nobody else."""

import asyncio
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.engines import FakeEngine
from tests.helpers.memory_use import Growth
from tests.helpers.proxying import Proxying
from tests.helpers.raw import Handler, ScriptedServer
from tests.helpers.stage import Stage, always, next_head, next_request, ok, until
from tests.helpers.talk import Talk, ask, get, post

MB = 1 << 20
#: What an answer without end is tried with, and what of it may be in memory: buffers on the way, not the answer.
SENT_BYTES = 96 * MB
KEPT_BYTES = 24 * MB
PIECE = b"x" * 65_536
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


async def _take(talk: Talk, growth: Growth) -> int:
    """Read to the end of the connection; returns how much came."""
    total = looked = 0
    while data := await talk.some():
        total += len(data)
        if total - looked > 4 * MB:
            looked = total
            growth.look()
    return total


def _flood(begin: bytes, piece: bytes) -> Handler:
    """An engine that sends `begin` and then pieces, and hangs up."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_request(reader)
        writer.write(begin)
        for _ in range(SENT_BYTES // len(piece)):
            writer.write(piece)
            await writer.drain()

    return handler


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\ndata: " % (2 * SENT_BYTES), PIECE),
        (
            HEAD + b"transfer-encoding: chunked\r\n\r\n",
            b"%x\r\n%b\r\n" % (len(PIECE), PIECE),
        ),
        (HEAD + b"content-length: %d\r\n\r\n" % (2 * SENT_BYTES), PIECE),
        (HEAD + b"\r\n", PIECE),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", b'{"usage":' * 1024),
    ],
    ids=["one chunk", "many chunks", "announced", "to the end", "json"],
)
async def test_an_event_without_end_is_passed_on_and_not_kept(begin: bytes, piece: bytes) -> None:
    body = b'{"model": "m", "stream": true}'
    async with Stage(_flood(begin, piece)) as stage, Talk(stage.port) as talk:
        talk.write(
            post(body, "content-type: application/json", "connection: close", target="/v1/chat/completions")
        )
        growth = Growth()
        try:
            total = await _take(talk, growth)
        except ConnectionResetError:  # an answer that breaks off does not look whole
            total = SENT_BYTES
        assert total >= 0.9 * SENT_BYTES
        assert growth.most_bytes < KEPT_BYTES
        assert (await ask(stage.port, get("/livez"))).status == 200


def _endless(begin: bytes, piece: bytes, counted: list[int]) -> Handler:
    """Sends until nobody takes it any more."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        writer.write(begin)
        while True:
            writer.write(piece)
            await writer.drain()
            counted.append(len(piece))

    return handler


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x-more: %b\r\n" % (b"y" * 1000)),
        (b"HTTP/1.1 200 OK\r\n", b"a:\r\n" * 100),
        (b"HTTP/1.1 200 OK\r\nx-long: ", PIECE),
        (b"HTTP/1.1 200 ", PIECE),
        (b"", PIECE),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (b"", b"\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", PIECE),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"0" * 65_536),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x-trailer: y\r\n" * 1000),
    ],
)
async def test_what_is_no_answer_and_never_ends_is_given_up_at_once(begin: bytes, piece: bytes) -> None:
    """Headers, interim answers, lines of chunks and trailers: a megabyte or two is taken at most, by all buffers on
    the way, and the client is told."""
    counted: list[int] = []
    async with Stage(_endless(begin, piece, counted)) as stage, Talk(stage.port) as talk:
        talk.write(post(b"{}", "content-type: application/json"))
        growth = Growth()
        try:
            answer = await talk.answer("POST")
        except (ConnectionError, AssertionError):
            pass  # broken off, so that it is not taken for whole
        else:
            assert answer.status == 502 or not answer.complete
        await until(lambda: not stage.script.open_connections)
        growth.look()
        assert sum(counted) < 32 * MB
        assert growth.most_bytes < KEPT_BYTES
        assert (await ask(stage.port, get("/livez"))).status == 200


async def test_the_answer_of_an_engine_cannot_begin_a_second_one() -> None:
    """Bytes behind an answer, in the shape of another answer, reach nobody."""
    second = ok(b"evil", b"x-evil: 1")
    async with Stage(always(ok(b"good") + second)) as stage, Talk(stage.port) as talk:
        for _ in range(3):
            answer = await talk.ask(get())
            assert (answer.status, answer.body) == (200, b"good")
            assert answer.header("x-evil") is None


# ── redirects ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_never_followed(status: int) -> None:
    """Not on behalf of a client, and not by our own questions: models, health and load."""

    async def trap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        writer.write(ok(b"caught"))

    async with ScriptedServer(trap) as caught, Proxying([FakeEngine("vllm"), FakeEngine("vllm")]) as proxy:
        where = b"location: http://127.0.0.1:%d/v1/models" % caught.port
        redirect = b"HTTP/1.1 %d X\r\n%b\r\ncontent-length: 0\r\n\r\n" % (status, where)
        async with ScriptedServer(always(redirect)) as liar:
            proxy.tunnels.ports[(2, 18000)] = liar.port
            await proxy.wait_for_healthy(1)
            asked = liar.connections
            await until(lambda: liar.connections > asked + 3)
        async with Stage(always(redirect)) as stage:
            assert (await ask(stage.port, get())).status == status
            assert stage.accepted == 1
        assert caught.connections == 0


@pytest.mark.parametrize(("status", "passed_on"), [(302, True), (303, True), (307, False), (308, False)])
async def test_a_request_is_not_sent_to_where_an_engine_wants_it(status: int, passed_on: bool) -> None:
    """307 and 308 let clients repeat the request with its body, and its key where the target is this proxy: an instance
    could drain its neighbours so."""
    where = b"/vastproxy/v1/backends/2/drain"
    redirect = b"HTTP/1.1 %d X\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % (status, where)
    async with Stage(always(redirect)) as stage:
        answer = await ask(stage.port, post(b"{}"))
        assert answer.status == status
        assert (answer.header("location") == where.decode()) is passed_on


# ── what it says of itself ─────────────────────────────────────────────────────────────────────

ODD = (
    "good",
    'quo"te',
    "back\\slash",
    "<script>alert(1)</script>",
    "line\nbreak",
    "carriage\r\nx-evil: 1",
    "nul\0",
    "bell\x07\x1b[31mred",
    "right\u202eleft",
    "surrogate\ud800",
    "x" * 300,
    "",
    " ",
    "é" * 200,
    "{label}",
    "%s%n",
    "${jndi:ldap://evil}",
)


async def _pages(proxy: Proxying) -> dict[str, str]:
    pages = {}
    for path in ("/v1/models", "/metrics", "/healthz", "/vastproxy/v1/backends", "/vastproxy/v1/requests"):
        answer = await ask(proxy.port, get(path))
        assert answer.status == 200, (path, answer.body)
        assert answer.header("x-evil") is None
        pages[path] = answer.body.decode()
    return pages


async def test_names_of_models_are_names_wherever_they_turn_up(caplog: pytest.LogCaptureFixture) -> None:
    """Control characters, line ends, surrogates and endless names are no names; the others are escaped."""
    caplog.set_level("DEBUG")
    async with Proxying([FakeEngine("vllm", models=ODD)]) as proxy:
        await until(lambda: bool(proxy.fleet.models()))
        for name in ODD:
            body = json.dumps({"model": name, "messages": []}).encode()
            asked = await ask(
                proxy.port, post(body, "content-type: application/json", target="/v1/chat/completions")
            )
            assert asked.header("x-evil") is None
            assert asked.status in (200, 404)
        pages = await _pages(proxy)
    served = {row["id"] for row in json.loads(pages["/v1/models"])["data"]}
    assert "good" in served
    assert all(name.isprintable() and 0 < len(name) <= 256 for name in served)
    assert served <= set(ODD)
    list(text_string_to_metric_families(pages["/metrics"]))
    told = pages.pop("/vastproxy/v1/requests")
    assert json.loads(told)["requests"], "what clients have asked for is told as data"
    assert not any(character < " " for character in told)
    for name in ODD:
        if not name.isprintable():
            for page, text in pages.items():
                assert name not in text, page
    for record in caplog.records:
        assert "\x1b" not in record.getMessage()
        assert "x-evil: 1\n" not in record.getMessage()


async def test_an_absurd_list_of_models_is_cut() -> None:
    """Thousands of names are cut to 512, a list of more than a megabyte is none; the proxy goes on."""
    many = FakeEngine("vllm", models=tuple(f"model-{number}" for number in range(5_000)))
    far_too_many = FakeEngine("vllm", models=tuple(f"model-{number}" for number in range(100_000)))
    async with Proxying([FakeEngine("vllm", models=("m",)), many, far_too_many]) as proxy:
        growth = Growth()
        await until(lambda: len(proxy.fleet.models()) > 100)
        pages = await _pages(proxy)
        assert growth.look() < 2 * KEPT_BYTES
        rows = json.loads(pages["/v1/models"])["data"]
        assert len(rows) == 513
        assert len(pages["/metrics"]) < 1 * MB
        asked = post(b'{"model": "m"}', "content-type: application/json", target="/v1/chat/completions")
        assert (await ask(proxy.port, asked)).status == 200


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
    ],
)
async def test_answers_without_end_to_our_own_questions_cost_little(begin: bytes) -> None:
    """Health, load and models are asked again and again; whoever answers them without end is not well, and nobody
    else notices."""
    taken: list[int] = []
    piece = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if b"chunked" in begin else PIECE
    engines = [FakeEngine("vllm", models=("m",)) for _ in range(2)]
    async with Proxying(engines) as proxy, ScriptedServer(_endless(begin, piece, taken)) as liar:
        growth = Growth()
        proxy.tunnels.ports[(2, 18000)] = liar.port
        await proxy.wait_for_healthy(1)
        asked = liar.connections
        await until(lambda: liar.connections > asked + 5, limit_s=30)
        assert growth.look() < 2 * KEPT_BYTES
        assert sum(taken) / liar.connections < 16 * MB
        body = b'{"model": "m", "messages": []}'
        for _ in range(5):
            assert (await ask(proxy.port, post(body, target="/v1/chat/completions"))).status == 200
        await _pages(proxy)
