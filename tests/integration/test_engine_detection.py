"""Engines that really listen are found, watched and listed, over plain loopback TCP."""

import asyncio
import json

import pytest

from tests.helpers.engines import EngineProcess, FakeEngine
from tests.helpers.http_fetch import fetch
from tests.helpers.ports import closed_port
from vastproxy.services.backends.engines import (
    EngineKind,
    HealthStatus,
    ProbeResponse,
    abort_request,
    check_health,
    detect,
    list_models,
)

STREAM = json.dumps({"messages": [], "stream": True}).encode()
STREAM_REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(STREAM)
STREAM_REQUEST += STREAM
KINDS = [kind.value for kind in EngineKind]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_is_found_healthy_and_listed(kind: str) -> None:
    async with FakeEngine(kind, models=("a", "b")) as engine, FakeEngine("jupyter") as decoy:
        ports = (closed_port(), decoy.port, engine.port)
        found = await detect(fetch, ports, token="t", timeout_s=5.0)
        assert found is not None
        assert (found.kind, found.port, found.problem, found.needs_token) == (kind, engine.port, None, False)
        report = await check_health(fetch, found, token="t", timeout_s=5.0)
        assert report.status is HealthStatus.HEALTHY, report
        assert await list_models(fetch, found, token="t", timeout_s=5.0) == ("a", "b")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ollama"])
async def test_an_engine_that_loads_and_then_serves(kind: str) -> None:
    async with FakeEngine(kind) as engine:
        engine.loading()
        found = await detect(fetch, (engine.port,), token=None, timeout_s=5.0)
        assert found is not None
        assert found.kind == kind
        before = await check_health(fetch, found, token=None, timeout_s=5.0)
        engine.healthy()
        after = await check_health(fetch, found, token=None, timeout_s=5.0)
        # vLLM and TGI open their port when they are ready; a bare 503 of theirs is no loading.
        loads = kind in ("sglang", "llamacpp")
        assert before.status is (HealthStatus.LOADING if loads else HealthStatus.UNHEALTHY)
        assert after.status is HealthStatus.HEALTHY


async def test_a_token_opens_what_is_closed_without() -> None:
    async with FakeEngine("sglang", token="right") as engine:
        for token in (None, "wrong"):
            shut = await detect(fetch, (engine.port,), token=token, timeout_s=5.0)
            assert shut is not None
            assert shut.problem is HealthStatus.UNAUTHORIZED
        found = await detect(fetch, (engine.port,), token="right", timeout_s=5.0)
        assert found is not None
        assert (found.kind, found.needs_token, found.problem) == (EngineKind.SGLANG, True, None)
        report = await check_health(fetch, found, token="wrong", timeout_s=5.0)
        assert report.status is HealthStatus.UNAUTHORIZED


@pytest.mark.parametrize("decoy", ["jupyter", "caddy"])
async def test_a_decoy_is_no_engine(decoy: str) -> None:
    async with FakeEngine(decoy) as page:
        assert await detect(fetch, (page.port,), token="t", timeout_s=5.0) is None


async def test_something_that_does_not_speak_http_is_no_engine() -> None:
    """An SSH server, say: it speaks first and hangs up."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await detect(fetch, (port,), token=None, timeout_s=5.0) is None


async def test_a_dead_engine_is_closed_and_a_returning_one_healthy() -> None:
    async with FakeEngine("vllm") as engine:
        found = await detect(fetch, (engine.port,), token=None, timeout_s=5.0)
        assert found is not None
        await engine.stop()
        assert (await check_health(fetch, found, token=None, timeout_s=5.0)).status is HealthStatus.CLOSED
        assert await list_models(fetch, found, token=None, timeout_s=5.0) is None
        await engine.start()
        assert (await check_health(fetch, found, token=None, timeout_s=5.0)).status is HealthStatus.HEALTHY


async def test_a_frozen_engine_is_unhealthy_after_the_limit_and_a_killed_one_closed() -> None:
    with EngineProcess("sglang") as engine:
        found = await detect(fetch, (engine.port,), token=None, timeout_s=10.0)
        assert found is not None
        engine.freeze()
        report = await check_health(fetch, found, token=None, timeout_s=0.3)
        assert report.status is HealthStatus.UNHEALTHY
        assert report.latency_s >= 0.3
        engine.thaw()
        assert (await check_health(fetch, found, token=None, timeout_s=10.0)).status is HealthStatus.HEALTHY
        engine.kill()
        assert (await check_health(fetch, found, token=None, timeout_s=10.0)).status is HealthStatus.CLOSED


async def test_an_abort_by_its_id_ends_a_running_request() -> None:
    abort = abort_request(EngineKind.SGLANG)
    assert abort is not None
    path, body = abort
    async with FakeEngine("sglang") as engine:
        engine.pause_after(2)
        asked = json.dumps({"model": "m", "rid": "vp-1", "messages": [], "stream": True}).encode()

        async def talk() -> ProbeResponse:
            return await fetch(engine.port, "/v1/chat/completions", method="POST", body=asked, timeout_s=30.0)

        async with asyncio.TaskGroup() as group:
            talking = group.create_task(talk())
            await engine.paused.wait()
            assert engine.active == 1
            (request,) = await engine.wait_for_requests(1, path="/v1/chat/completions")
            done = await fetch(engine.port, path, method="POST", body=body("vp-1"), timeout_s=5.0)
        assert done.status == 200
        assert list(engine.aborted) == ["vp-1"]
        assert talking.result().body.count(b'"content": "t') == 2
        assert b'"finish_reason": "abort"' in talking.result().body
        await request.ended.wait()  # the caller may have the answer before
        assert engine.active == 0


async def test_the_stand_in_notices_a_caller_that_leaves() -> None:
    """Other tests rely on it."""
    async with FakeEngine("sglang") as engine:
        engine.pause_after(1)
        reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
        asked = json.dumps({"messages": [], "stream": True}).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(asked)
        )
        writer.write(asked)
        assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
        (request,) = await engine.wait_for_requests(1, path="/v1/chat/completions")
        assert not request.disconnected.is_set()
        writer.transport.abort()
        await request.disconnected.wait()
        await request.ended.wait()
        assert engine.active == 0


async def test_the_stand_in_can_die_in_the_middle_of_a_stream() -> None:
    async with FakeEngine("sglang") as engine:
        engine.die_after_tokens = 2
        reader, writer = await asyncio.open_connection("127.0.0.1", engine.port)
        asked = json.dumps({"messages": [], "stream": True}).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(asked)
        )
        writer.write(asked)
        body = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert body.count(b'"content": "t') == 2
    assert b"[DONE]" not in body
    assert not body.endswith(b"0\r\n\r\n")


async def test_the_stand_in_echoes_what_it_got() -> None:
    async with FakeEngine("vllm") as engine:
        path, headers, body = "/echo?a=%20b", {"X-Mine": "1"}, b"\x00\xff"
        answer = await fetch(engine.port, path, method="PUT", headers=headers, body=body, timeout_s=5.0)
        large = await fetch(engine.port, "/large?bytes=70000", timeout_s=5.0)
    seen = json.loads(answer.body)
    assert (seen["method"], seen["path"], seen["query"]) == ("PUT", "/echo", "a=%20b")
    assert seen["body"] == "\x00\xff"
    assert ["x-mine", "1"] in seen["headers"]
    assert len(large.body) == 70_000
