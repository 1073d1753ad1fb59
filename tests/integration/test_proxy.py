"""What a client sees through the proxy, with real servers on both sides and tunnels of plain TCP."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from tests.helpers.engines import FakeEngine
from tests.helpers.proxying import Proxying
from tests.helpers.raw import Answer, Client, ScriptedServer, ask
from vastproxy.settings.model import FleetSettings, ServerSettings, UpstreamSettings

CHAT = "/v1/chat/completions"
KEY = {"content-type": "application/json"}


def chat(*, tokens: int = 3, stream: bool = False) -> bytes:
    wanted = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps({**wanted, "max_tokens": tokens, "stream": stream}).encode()


def error_of(answer: Answer) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return error


async def until(condition: Any, *, limit_s: float = 5.0) -> None:
    """Bounded wait for something that another task or peer brings about and does not announce."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxying]:
    async with Proxying([FakeEngine("vllm"), FakeEngine("vllm"), FakeEngine("vllm")]) as proxying:
        yield proxying


async def idle(proxying: Proxying) -> None:
    """Every lease is given back and no backend is blamed."""
    await until(lambda: all(b.in_flight == 0 for b in proxying.fleet.snapshot().backends))
    assert [b.failures for b in proxying.fleet.snapshot().backends] == [0] * len(proxying.engines)
    assert proxying.fleet.snapshot().counts()["healthy"] == len(proxying.engines)


# ── what is sent on ────────────────────────────────────────────────────────────────────────────


async def test_method_path_query_headers_and_body_arrive_as_they_were(proxy: Proxying) -> None:
    answer = await ask(
        proxy.port,
        "PUT",
        "/echo/a%2Fb%20c;d=1/../e?x=%26&y&&z=1?",
        headers={"x-one": "1, 2", "accept-encoding": "zstd", "x-request-id": "mine-1"},
        body=b"\x00\xffbody",
    )
    seen = json.loads(answer.body)
    assert (seen["method"], seen["query"]) == ("PUT", "x=%26&y&&z=1?")
    assert seen["path"] == "/echo/a%2Fb%20c;d=1/../e"
    assert seen["body"] == "\x00\xffbody"
    headers = dict(seen["headers"])
    assert headers["x-one"] == "1, 2"
    assert headers["accept-encoding"] == "zstd"
    assert headers["x-request-id"] == answer.header("x-request-id") == "mine-1"
    assert headers["content-length"] == "6"


async def test_the_engine_gets_the_instances_token_and_nothing_of_ours(proxy: Proxying) -> None:
    answer = await ask(
        proxy.port,
        "GET",
        "/echo",
        headers={
            "authorization": "Bearer client-secret",
            "x-vastproxy-instance": "2",
            "connection": "x-hop, close",
            "x-hop": "1",
            "te": "trailers",
        },
    )
    headers = dict(json.loads(answer.body)["headers"])
    assert headers["authorization"] == "Bearer token-of-2"
    assert not {"x-vastproxy-instance", "x-hop"} & headers.keys()
    assert (headers["connection"], headers["te"]) == (
        "te",
        "trailers",
    )  # trailers can be passed on, so they may come


async def test_a_request_id_that_could_hurt_a_log_is_replaced(proxy: Proxying) -> None:
    answer = await ask(proxy.port, "GET", "/echo", headers={"x-request-id": "a b<script>"})
    made = answer.header("x-request-id") or ""
    assert len(made) == 20
    assert made.isalnum()


async def test_a_body_in_chunks_of_unknown_length_arrives_whole(proxy: Proxying) -> None:
    async with Client(proxy.port) as client:
        await client.send("POST", "/echo", {"transfer-encoding": "chunked"})
        for piece in (b"one ", b"two ", b"three"):
            await client.send_data(piece)
        await client.send_data(b"", last=True)
        answer = await client.rest(await client.head())
    assert json.loads(answer.body)["body"] == "one two three"


async def test_a_long_body_streams_up(proxy: Proxying) -> None:
    body = bytes(range(256)) * (3 << 12)  # 3 MiB: more than is held for a second try
    answer = await ask(proxy.port, "POST", "/echo", body=body)
    assert json.loads(answer.body)["body"].encode("latin-1") == body


async def test_the_engine_gets_the_beginning_before_the_client_sends_the_end(proxy: Proxying) -> None:
    got = asyncio.Event()

    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"begin")
        got.set()
        await reader.readuntil(b"end")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()

    async with ScriptedServer(answer_early) as server, Client(proxy.port) as client:
        proxy.tunnels.ports[(1, 18000)] = server.port
        await client.send("POST", "/x", {"content-length": "8", "x-vastproxy-instance": "1"})
        await client.send_data(b"begin")
        await asyncio.wait_for(got.wait(), 5)
        await client.send_data(b"end", last=True)
        assert (await client.rest(await client.head())).body == b"ok"


async def test_a_connection_whose_request_was_not_sent_whole_is_not_used_again() -> None:
    """An engine may answer before it has read the body. What follows on that connection would be taken for its rest."""

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await reader.read()

    async with Proxying([FakeEngine("vllm")], fleet=QUIET) as proxying, ScriptedServer(hasty) as server:
        proxying.tunnels.ports[(1, 18000)] = server.port
        async with Client(proxying.port) as client:
            await client.send("POST", "/x", {"content-length": "1000"})
            await client.send_data(b"part")
            assert (await client.rest(await client.head())).body == b"ok"
        assert (await ask(proxying.port, "GET", "/x")).body == b"ok"
        assert server.connections == 2
        await idle(proxying)


async def test_head_has_headers_and_no_body(proxy: Proxying) -> None:
    answer = await ask(proxy.port, "HEAD", "/echo")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.header("content-length") or 0) > 0


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_leave_the_connection_usable(proxy: Proxying, status: int) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 %d X\r\netag: "a"\r\n\r\n' % status)
        await reader.read()

    async with ScriptedServer(handler) as server:
        proxy.tunnels.ports[(1, 18000)] = server.port
        async with Client(proxy.port) as client:
            answer = await client.ask("GET", "/x", {"x-vastproxy-instance": "1"})
            assert (answer.status, answer.header("etag")) == (status, '"a"')
            assert (await client.ask("GET", "/healthz")).status == 200


# ── who serves ─────────────────────────────────────────────────────────────────────────────────


async def test_requests_take_turns_in_the_order_of_ids_and_say_who_served(proxy: Proxying) -> None:
    served = [(await ask(proxy.port, "GET", "/echo")).header("x-vastproxy-instance") for _ in range(6)]
    assert served == ["1", "2", "3", "1", "2", "3"]


async def test_a_pin_is_followed_if_it_can_be(proxy: Proxying) -> None:
    for pin, expected in (
        ("3", {"3"}),
        ("99", {"1", "2", "3"}),
        ("x", {"1", "2", "3"}),
        ("9" * 30, {"1", "2", "3"}),
    ):
        answer = await ask(proxy.port, "GET", "/echo", headers={"x-vastproxy-instance": pin})
        assert answer.header("x-vastproxy-instance") in expected


async def test_one_connection_to_the_engine_serves_many_requests() -> None:
    seen = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while True:
            await reader.readuntil(b"\r\n\r\n")
            seen += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async with Proxying([FakeEngine("vllm")], fleet=QUIET) as proxying, ScriptedServer(handler) as server:
        proxying.tunnels.ports[(1, 18000)] = server.port
        for _ in range(10):
            assert (await ask(proxying.port, "GET", "/x")).body == b"ok"
        assert (seen, server.connections) == (10, 1)


QUIET = FleetSettings(label="none", probe_interval_s=3600)


async def test_models_are_the_union_of_what_is_served() -> None:
    engines = [FakeEngine("vllm", models=("a", "b")), FakeEngine("sglang", models=("b",))]
    async with Proxying(engines) as proxying:
        answer = await ask(proxying.port, "GET", "/v1/models")
        rows = json.loads(answer.body)["data"]
        assert {row["id"]: row["instances"] for row in rows} == {"a": [1], "b": [1, 2]}


# ── streams ────────────────────────────────────────────────────────────────────────────────────


async def test_each_token_goes_out_when_it_comes_in() -> None:
    """The client has the tokens that the engine made, while the engine holds the rest back."""
    engine = FakeEngine("vllm")
    async with Proxying([engine]) as proxying, Client(proxying.port) as client:
        engine.pause_after(2)
        await client.send("POST", CHAT, KEY, chat(tokens=4, stream=True))
        answer = await client.head()
        got = b""
        while got.count(b"data: ") < 2:
            async with asyncio.timeout(5):
                got += await client.piece() or b""
        await asyncio.wait_for(engine.paused.wait(), 5)
        engine.resume()
        await client.rest(answer)
        assert answer.complete
        assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_dies_ends_with_an_error_event_and_a_broken_connection() -> None:
    engine = FakeEngine("vllm")
    async with Proxying([engine]) as proxying:
        engine.die_after_tokens = 2
        answer = await ask(proxying.port, "POST", CHAT, headers=KEY, body=chat(tokens=9, stream=True))
        assert not answer.complete
        assert b"t2 " in answer.body
        last = answer.body.split(b"event: error\ndata: ")[1]
        assert json.loads(last)["error"]["code"] == "backend_interrupted"
        await until(lambda: proxying.fleet.snapshot().backends[0].in_flight == 0)
        assert proxying.fleet.snapshot().backends[0].failures == 1


async def test_a_plain_answer_that_breaks_off_is_not_completed(proxy: Proxying) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await writer.drain()

    async with ScriptedServer(handler) as server:
        proxy.tunnels.ports[(1, 18000)] = server.port
        answer = await ask(proxy.port, "GET", "/x", headers={"x-vastproxy-instance": "1"})
        assert (answer.status, answer.body, answer.complete) == (200, b"half", False)


async def test_a_client_that_does_not_read_stops_its_engine_and_nobody_else() -> None:
    """Backpressure: what is held of a 200 MB answer is bounded, and another stream runs at its own speed."""
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 200000000\r\n\r\n")
        while sent < 200_000_000:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    two = [FakeEngine("vllm"), FakeEngine("vllm")]
    async with Proxying(two, fleet=QUIET) as proxy, ScriptedServer(endless) as server:
        proxy.tunnels.ports[(1, 18000)] = server.port
        async with Client(proxy.port) as slow:
            await slow.send("GET", "/x", {"x-vastproxy-instance": "1"})
            await slow.head()
            before = -1
            while before != sent:
                before = sent
                for _ in range(5):
                    other = await ask(
                        proxy.port, "POST", CHAT, headers={"x-vastproxy-instance": "2"}, body=chat()
                    )
                    assert other.complete
            # Socket buffers on both sides of the proxy: Linux lets one that is read from grow to 32 MiB.
            assert sent < 48_000_000
            slow.writer.transport.abort()


# ── clients that leave ─────────────────────────────────────────────────────────────────────────


async def leave(client: Client) -> None:
    client.writer.transport.abort()


@pytest.mark.parametrize("when", ["before headers", "between tokens"])
async def test_a_client_that_leaves_stops_the_engine_and_blames_nobody(when: str) -> None:
    engine = FakeEngine("vllm")
    async with Proxying([engine]) as proxying, Client(proxying.port) as client:
        if when == "before headers":
            engine.header_delay_s = 30
        else:
            engine.pause_after(1)
        await client.send("POST", CHAT, KEY, chat(tokens=1000, stream=True))
        (request,) = await engine.wait_for_requests(1, path=CHAT)
        if when == "between tokens":
            await engine.paused.wait()
        await leave(client)
        await asyncio.wait_for(request.disconnected.wait(), 10)
        await idle(proxying)


async def test_a_client_that_leaves_during_its_upload_blames_nobody(proxy: Proxying) -> None:
    async with Client(proxy.port) as client:
        await client.send("POST", "/echo", {"content-length": "1000"})
        await client.send_data(b"part")
        await until(lambda: sum(b.in_flight for b in proxy.fleet.snapshot().backends) == 1)
        await leave(client)
        await idle(proxy)


# ── backends that fail ─────────────────────────────────────────────────────────────────────────


async def test_a_closed_port_is_passed_by_without_the_client_noticing() -> None:
    engines = [FakeEngine("vllm"), FakeEngine("vllm")]
    async with Proxying(engines, fleet=QUIET) as proxying:
        await engines[0].stop()
        answers = [await ask(proxying.port, "POST", CHAT, headers=KEY, body=chat()) for _ in range(4)]
        assert {(a.status, a.header("x-vastproxy-instance")) for a in answers} == {(200, "2")}


async def test_a_lost_tunnel_takes_the_backend_out_at_once_and_its_return_brings_it_back() -> None:
    async with Proxying([FakeEngine("vllm"), FakeEngine("vllm")]) as proxying:
        proxying.tunnels.lose(1)
        await proxying.wait_for_healthy(1)
        answers = [await ask(proxying.port, "GET", "/echo") for _ in range(3)]
        assert {a.header("x-vastproxy-instance") for a in answers} == {"2"}
        health = json.loads((await ask(proxying.port, "GET", "/healthz")).body)
        assert (health["status"], health["reason"]) == ("degraded", "1 of 2 backends can serve")
        assert "connection re" in (proxying.fleet.snapshot().backends[0].error or "")
        proxying.tunnels.unreachable.clear()
        await proxying.wait_for_healthy(2)


async def test_a_kept_connection_that_died_is_replaced_before_the_client_notices() -> None:
    """Engines close idle connections. The request that meets the closing one is sent again, once, on a new one."""
    heads: list[bytes] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await reader.readexactly(1)  # the next request has begun: too late for it

    async with Proxying([FakeEngine("vllm")], fleet=QUIET) as proxying, ScriptedServer(once) as server:
        proxying.tunnels.ports[(1, 18000)] = server.port
        for _ in range(3):
            answer = await ask(proxying.port, "GET", "/x")
            assert (answer.status, answer.body) == (200, b"ok")
        assert server.connections == 3
        await idle(proxying)


async def test_a_new_connection_that_dies_silently_is_not_tried_again() -> None:
    """The engine may have begun. Nobody sends a second copy."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with Proxying([FakeEngine("vllm")], fleet=QUIET) as proxying, ScriptedServer(hang_up) as server:
        proxying.tunnels.ports[(1, 18000)] = server.port
        answer = await ask(proxying.port, "POST", CHAT, headers=KEY, body=chat())
        assert (answer.status, error_of(answer)["code"]) == (502, "backend_interrupted")
        assert server.connections == 1


async def test_garbage_from_an_engine_is_a_502() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()

    async with Proxying([FakeEngine("vllm")], fleet=QUIET) as proxying, ScriptedServer(garbage) as server:
        proxying.tunnels.ports[(1, 18000)] = server.port
        answer = await ask(proxying.port, "GET", "/x")
        assert (answer.status, error_of(answer)["code"]) == (502, "backend_protocol_error")


async def test_an_engine_that_sends_no_headers_in_time_is_a_504() -> None:
    engine = FakeEngine("vllm")
    async with Proxying([engine], upstream=UpstreamSettings(headers_timeout_s=0.1)) as proxying:
        engine.header_delay_s = 30
        answer = await ask(proxying.port, "POST", CHAT, headers=KEY, body=chat())
        assert (answer.status, error_of(answer)["code"]) == (504, "backend_timeout")


async def test_an_engine_that_falls_silent_ends_the_stream_with_an_error() -> None:
    engine = FakeEngine("vllm")
    async with Proxying([engine], upstream=UpstreamSettings(idle_timeout_s=0.1)) as proxying:
        engine.pause_after(1)
        answer = await ask(proxying.port, "POST", CHAT, headers=KEY, body=chat(stream=True))
        assert not answer.complete
        assert b'"code": "backend_timeout"' in answer.body


async def test_errors_of_the_engine_are_its_own() -> None:
    engine = FakeEngine("vllm")
    async with Proxying([engine]) as proxying:
        engine.fail_status = 429
        answer = await ask(proxying.port, "POST", CHAT, headers=KEY, body=chat())
        assert (answer.status, answer.header("x-vastproxy-instance")) == (429, "1")


async def test_nobody_there() -> None:
    async with Proxying([]) as proxying:
        answer = await ask(proxying.port, "POST", CHAT, headers=KEY, body=chat())
        assert (answer.status, error_of(answer)["code"]) == (503, "no_backend_available")
        assert int(answer.header("retry-after") or 0) > 0
        assert (await ask(proxying.port, "GET", "/livez")).status == 200
        for path in ("/healthz", "/readyz"):
            assert (await ask(proxying.port, "GET", path)).status == 503


async def test_an_engine_that_loads_gets_no_requests_until_it_is_ready() -> None:
    engine = FakeEngine("llamacpp")
    async with Proxying([engine]) as proxying:
        engine.loading()
        await proxying.wait_for_healthy(0)
        assert (await ask(proxying.port, "POST", CHAT, headers=KEY, body=chat())).status == 503
        engine.healthy()
        await proxying.wait_for_healthy(1)
        assert (await ask(proxying.port, "POST", CHAT, headers=KEY, body=chat())).status == 200


async def test_a_drained_backend_finishes_its_streams_and_gets_no_new_ones() -> None:
    engines = [FakeEngine("vllm"), FakeEngine("vllm")]
    async with Proxying(engines) as proxying, Client(proxying.port) as client:
        engines[0].pause_after(1)
        await client.send("POST", CHAT, {"x-vastproxy-instance": "1", **KEY}, chat(tokens=3, stream=True))
        answer = await client.head()
        await engines[0].paused.wait()
        proxying.fleet.drain(1)
        others = [await ask(proxying.port, "GET", "/echo") for _ in range(3)]
        assert {other.header("x-vastproxy-instance") for other in others} == {"2"}
        engines[0].resume()
        assert (await client.rest(answer)).complete
        proxying.fleet.undrain(1)
        await proxying.wait_for_healthy(2)


async def test_an_instance_that_leaves_the_account_ends_its_streams_in_peace() -> None:
    engine = FakeEngine("vllm")
    async with Proxying([engine]) as proxying, Client(proxying.port) as client:
        engine.pause_after(1)
        await client.send("POST", CHAT, KEY, chat(tokens=3, stream=True))
        answer = await client.head()
        await engine.paused.wait()
        proxying.see([])
        assert list(proxying.fleet.backend_ids) == [1]
        proxying.see([])
        assert list(proxying.fleet.backend_ids) == []
        engine.resume()
        assert (await client.rest(answer)).complete
        await until(lambda: not any(tunnel.is_alive for tunnel in proxying.tunnels.tunnels[1]))


# ── what the proxy refuses ─────────────────────────────────────────────────────────────────────


async def test_a_body_over_the_limit_is_refused_announced_or_not() -> None:
    async with Proxying([FakeEngine("vllm")], server=ServerSettings(max_body_bytes=2000)) as proxying:
        announced = await ask(proxying.port, "POST", "/echo", body=b"x" * 2001)
        assert (announced.status, error_of(announced)["code"]) == (413, "request_too_large")
        async with Client(proxying.port) as client:
            await client.send("POST", "/echo", {"transfer-encoding": "chunked"})
            await client.send_data(b"x" * 2001)
            assert (await client.head()).status == 413
        await idle(proxying)
        assert (await ask(proxying.port, "POST", "/echo", body=b"x" * 2000)).status == 200


@pytest.mark.parametrize("path", ["/server_info", "/flush_cache", "//FLUSH_cache", "/%66lush_cache"])
async def test_paths_that_leak_or_change_an_engine_are_refused(proxy: Proxying, path: str) -> None:
    answer = await ask(proxy.port, "POST", path, body=b"{}")
    assert (answer.status, error_of(answer)["code"]) == (403, "path_not_allowed")


async def test_our_own_paths_never_reach_an_engine(proxy: Proxying) -> None:
    answer = await ask(proxy.port, "GET", "/vastproxy/no-such-thing")
    assert answer.status == 404
    assert answer.header("x-vastproxy-instance") is None


async def test_a_key_is_needed_for_everything_but_health() -> None:
    keys = ServerSettings(api_keys=(SecretStr("sk-right"),))
    async with Proxying([FakeEngine("vllm")], server=keys) as proxying:
        for headers in ({}, {"authorization": "Bearer sk-wrong"}, {"authorization": "Basic sk-right"}):
            answer = await ask(proxying.port, "POST", CHAT, headers=headers, body=chat())
            assert (answer.status, error_of(answer)["code"]) == (401, "invalid_api_key")
            assert (await ask(proxying.port, "GET", "/v1/models", headers=headers)).status == 401
            assert (await ask(proxying.port, "GET", "/vastproxy/v1/backends", headers=headers)).status == 401
        right = {"authorization": "bearer sk-right", **KEY}
        assert (await ask(proxying.port, "POST", CHAT, headers=right, body=chat())).status == 200
        assert (await ask(proxying.port, "GET", "/healthz")).status == 200
