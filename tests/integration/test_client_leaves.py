"""A client leaves, at any moment: its engine stops at once, its place is free, and nobody is to blame.

The SGLang here is the worst there has been: it goes on generating when a stream is closed, and ignores an abort that
comes after that (0.5.18). So whenever it stops, it was told to, by an id of ours, before its stream was closed.
"""

import asyncio
import json
import logging
import re
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.helpers.engines import FakeEngine, RecordedRequest
from tests.helpers.proxying import Proxying
from tests.helpers.raw import Client, ask
from tests.helpers.steady import Steady
from vastproxy.services.backends.rids import RID_CHARS
from vastproxy.settings.model import FleetSettings

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
QUIET = FleetSettings(label="none", probe_interval_s=3600)
KINDS = pytest.mark.parametrize("kind", ["sglang", "vllm"])

#: The promise is 100 ms. A machine that runs other tests at the same time gets more, and where it stands still the
#: clock does so too.
LIMIT_S = 0.5
#: How often each departure is repeated for the median that is printed.
TIMES = 5


def chat(*, stream: bool = True, tokens: int = 100_000, text: str = "hi", **more: Any) -> bytes:
    wanted = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": tokens}
    return json.dumps({**wanted, "stream": stream, **more}).encode()


@asynccontextmanager
async def serving(kind: str) -> AsyncIterator[tuple[Proxying, FakeEngine, Steady]]:
    engine = FakeEngine(kind)
    async with Proxying([engine], fleet=QUIET) as proxying, Steady() as steady:
        engine.ignores_closed_streams = kind == "sglang"
        yield proxying, engine, steady
        await idle(proxying)


async def until(condition: Any, *, limit_s: float = 20.0) -> None:
    """Bounded wait for something that another peer brings about and does not announce."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.002)


async def idle(proxying: Proxying) -> None:
    """Every lease is given back, no backend is blamed, all can serve."""
    await until(lambda: all(each.in_flight == 0 for each in proxying.fleet.snapshot().backends))
    assert [each.failures for each in proxying.fleet.snapshot().backends] == [0] * len(proxying.engines)
    assert proxying.fleet.snapshot().counts()["healthy"] == len(proxying.engines)


def leave(client: Client, how: str) -> float:
    """The client is gone from this moment: by a reset, or by a FIN as browsers and SDKs do."""
    now = time.monotonic()
    if how == "fin":
        client.writer.close()
    else:
        client.writer.transport.abort()
    return now


async def stopped(request: RecordedRequest, left_at: float, steady: Steady) -> float:
    """Seconds until nothing worked on the request any more."""
    async with asyncio.timeout(20):
        await request.ended.wait()
    assert request.ended_at is not None
    took_s = await steady.took_s(left_at, request.ended_at)
    assert took_s < LIMIT_S, f"the engine stopped {took_s * 1000:.0f} ms after the client had left"
    return took_s


def check_abort(engine: FakeEngine, request: RecordedRequest) -> None:
    """SGLang was told, by the id in its request, before the stream was closed; nobody else was told anything."""
    if engine.kind != "sglang":
        assert list(engine.aborted) == []
        return
    rid = request.json["rid"]
    assert (request.rid, len(rid)) == (rid, RID_CHARS)
    assert request.was_aborted_first
    assert engine.aborted.count(rid) == 1


def told(title: str, kind: str, times_s: list[float]) -> None:
    median_ms = statistics.median(times_s) * 1000
    text = f"{title}, {kind}: engine stopped after {median_ms:.1f} ms (median of {len(times_s)})"
    print(text)  # noqa: T201 - shown by pytest -rP


async def logged(caplog: pytest.LogCaptureFixture, name: str) -> None:
    """The request that the client called `name` is in the access log with the status 499, once, and is no failure."""

    def lines() -> list[logging.LogRecord]:
        return [each for each in caplog.records if name in each.getMessage()]

    await until(lines)
    (line,) = lines()
    assert re.search(r"\bstatus=499\b", line.getMessage())
    # In debug mode asyncio tells of callbacks that took long, which is a matter of the machine.
    ours = [each for each in caplog.records if each.name != "asyncio"]
    assert [each for each in ours if each.levelno >= logging.WARNING] == []


@KINDS
@pytest.mark.parametrize("how", ["reset", "fin"])
@pytest.mark.parametrize("stream", [True, False])
async def test_before_the_headers(
    kind: str, how: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    times_s = []
    async with serving(kind) as (proxying, engine, steady):
        engine.header_delay_s = 30
        for number in range(1, TIMES + 1):
            async with Client(proxying.port) as client:
                await client.send("POST", CHAT, {**JSON, "x-request-id": f"me-{number}"}, chat(stream=stream))
                request = (await engine.wait_for_requests(number, path=CHAT))[-1]
                times_s.append(await stopped(request, leave(client, how), steady))
                check_abort(engine, request)
            await logged(caplog, f"me-{number}")
    told("before the headers", kind, times_s)


@KINDS
@pytest.mark.parametrize("how", ["reset", "fin"])
async def test_between_two_tokens(kind: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    times_s = []
    async with serving(kind) as (proxying, engine, steady):
        for number in range(1, TIMES + 1):
            async with Client(proxying.port) as client:
                engine.pause_after(2)
                await client.send("POST", CHAT, {**JSON, "x-request-id": f"me-{number}"}, chat())
                assert (await client.head()).status == 200
                request = (await engine.wait_for_requests(number, path=CHAT))[-1]
                await asyncio.wait_for(engine.paused.wait(), 5)
                times_s.append(await stopped(request, leave(client, how), steady))
                check_abort(engine, request)
            await logged(caplog, f"me-{number}")
    told("between two tokens", kind, times_s)


@KINDS
async def test_while_tokens_flow(kind: str) -> None:
    times_s = []
    async with serving(kind) as (proxying, engine, steady):
        for number in range(1, TIMES + 1):
            async with Client(proxying.port) as client:
                await client.send("POST", CHAT, JSON, chat())
                await client.head()
                assert await client.piece()
                request = (await engine.wait_for_requests(number, path=CHAT))[-1]
                times_s.append(await stopped(request, leave(client, "reset"), steady))
                check_abort(engine, request)
    told("while tokens flow", kind, times_s)


@KINDS
@pytest.mark.parametrize("framing", ["content-length", "chunked"])
async def test_during_its_upload(kind: str, framing: str, caplog: pytest.LogCaptureFixture) -> None:
    """The engine has not begun: the end of the stream is all that it needs."""
    caplog.set_level(logging.INFO)
    times_s = []
    async with serving(kind) as (proxying, engine, steady):
        fields = (
            {"content-length": "100000"} if framing == "content-length" else {"transfer-encoding": "chunked"}
        )
        for number in range(1, TIMES + 1):
            async with Client(proxying.port) as client:
                await client.send("POST", CHAT, {**JSON, **fields, "x-request-id": f"me-{number}"})
                await client.send_data(chat()[:20])
                request = (await engine.wait_for_begun(number, path=CHAT))[-1]
                times_s.append(await stopped(request, leave(client, "reset"), steady))
                assert request.disconnected.is_set()
            await logged(caplog, f"me-{number}")
        assert [each for each in engine.requests if each.path == CHAT] == []
    told(f"during its upload ({framing})", kind, times_s)


@KINDS
@pytest.mark.parametrize("how", ["reset", "fin"])
async def test_with_another_request_behind_the_one_that_is_answered(kind: str, how: str) -> None:
    """Pipelining: what was asked last is not begun for a client that is gone."""
    async with serving(kind) as (proxying, engine, steady), Client(proxying.port) as client:
        engine.pause_after(1)
        request_bytes = (
            b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        )
        body = chat()
        client.writer.write(2 * (request_bytes % (CHAT.encode(), len(body), body)))
        (request,) = await engine.wait_for_requests(1, path=CHAT)
        await asyncio.wait_for(engine.paused.wait(), 5)
        told("pipelined", kind, [await stopped(request, leave(client, how), steady)])
        check_abort(engine, request)
        await idle(proxying)
        assert sum(each.path == CHAT for each in engine.begun) == 1


@pytest.mark.parametrize("size", [100_000, 600_000, 3_000_000])
async def test_a_long_prompt_can_be_aborted_too(size: int) -> None:
    """Also one that is sent on while it comes in. The engine gets what was sent, and the id."""
    async with serving("sglang") as (proxying, engine, steady), Client(proxying.port) as client:
        engine.pause_after(1)
        body = chat(text="a long prompt " * (size // 14))
        await client.send("POST", CHAT, JSON, body)
        (request,) = await engine.wait_for_requests(1, path=CHAT)
        await asyncio.wait_for(engine.paused.wait(), 5)
        usage = {"stream_options": {"include_usage": True}} if "stream_options" in request.json else {}
        assert request.json == json.loads(body) | {"rid": request.rid} | usage
        told(
            f"with a prompt of {size} bytes",
            "sglang",
            [await stopped(request, leave(client, "reset"), steady)],
        )
        check_abort(engine, request)


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
async def test_many_leave_at_once_and_the_others_go_on(kind: str) -> None:
    async with serving(kind) as (proxying, engine, steady), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(proxying.port)) for _ in range(40)]
        engine.pause_after(1)
        for client in clients:
            await client.send("POST", CHAT, JSON, chat(tokens=3))
        answers = [await client.head() for client in clients]
        await until(lambda: engine.active == 40)
        left_at = time.monotonic()
        for client in clients[::2]:
            leave(client, "reset")
        await until(lambda: engine.active == 20)
        gone = [each for each in engine.requests if each.path == CHAT and each.ended.is_set()]
        times_s = [await stopped(request, left_at, steady) for request in gone]
        for request in gone:
            check_abort(engine, request)
        engine.resume()
        for client, answer in list(zip(clients, answers, strict=True))[1::2]:
            assert (await client.rest(answer)).complete
        assert len(set(engine.aborted)) == len(engine.aborted) == (20 if kind == "sglang" else 0)
        told("twenty of forty", kind, times_s)


async def test_who_stays_to_the_end_ends_nothing() -> None:
    """A client that has its answer and leaves then aborts nothing, on a kept connection neither."""
    async with serving("sglang") as (proxying, engine, _):
        async with Client(proxying.port) as client:
            for _ in range(3):
                answer = await client.ask("POST", CHAT, JSON, chat(tokens=2, stream=False))
                assert json.loads(answer.body)["choices"][0]["finish_reason"] == "length"
        streamed = await ask(proxying.port, "POST", CHAT, headers=JSON, body=chat(tokens=2))
        assert streamed.complete
        await idle(proxying)
        assert list(engine.aborted) == []
        ids = [each.json["rid"] for each in engine.requests if each.path == CHAT]
        assert len(set(ids)) == 4


async def test_what_must_not_carry_an_id_arrives_as_it_was() -> None:
    """Old versions refuse one id for several answers; a client's own id stays."""
    own = "chosen-by-the-client-and-long-enough"
    bodies = [
        chat(tokens=1, stream=False, n=2),
        chat(tokens=1, stream=False, rid=own),
        b'{"model": "m", "n": 3}',
    ]
    async with serving("sglang") as (proxying, engine, _):
        for body in bodies:
            assert (await ask(proxying.port, "POST", CHAT, headers=JSON, body=body)).status == 200
        assert [each.body for each in engine.requests if each.path == CHAT] == bodies


async def test_a_clients_own_id_is_the_one_to_abort_by() -> None:
    own = "chosen-by-the-client-and-long-enough"
    async with serving("sglang") as (proxying, engine, steady), Client(proxying.port) as client:
        engine.pause_after(1)
        await client.send("POST", CHAT, JSON, chat(rid=own))
        (request,) = await engine.wait_for_requests(1, path=CHAT)
        await asyncio.wait_for(engine.paused.wait(), 5)
        await stopped(request, leave(client, "reset"), steady)
        assert list(engine.aborted) == [own]


@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "openai"])
async def test_no_other_engine_gets_an_id(kind: str) -> None:
    async with serving(kind) as (proxying, engine, _):
        body = chat(tokens=1, stream=False)
        assert (await ask(proxying.port, "POST", CHAT, headers=JSON, body=body)).status == 200
        (request,) = (each for each in engine.requests if each.path == CHAT)
        assert request.body == body
