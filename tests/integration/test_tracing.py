"""Traces of a running proxy, as a collector gets them over OTLP/HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.engines import FakeEngine
from tests.helpers.otlp_receiver import OtlpReceiver
from tests.helpers.proxying import Proxying
from tests.helpers.raw import Client, ask
from tests.helpers.scene import CHAT, CLIENT_KEY, chat
from vastproxy.settings.model import FleetSettings
from vastproxy.settings.tracing import TracingSettings

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"

Open = Callable[..., "contextlib.AbstractAsyncContextManager[Proxying]"]


@pytest.fixture
def collector() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
def proxying(collector: OtlpReceiver) -> Open:
    """A proxy that sends its traces to the collector; all have been sent when it has ended."""

    @contextlib.asynccontextmanager
    async def proxying(
        *engines: FakeEngine, enabled: bool = True, **settings: object
    ) -> AsyncIterator[Proxying]:
        values = {"enabled": enabled, "endpoint": collector.url, **settings}
        tracing = TracingSettings.model_validate(values)
        quiet = FleetSettings(label="none", probe_interval_s=3600)  # no probe finds out what a request is to
        async with Proxying(engines or [FakeEngine("vllm")], tracing=tracing, fleet=quiet) as proxying:
            yield proxying

    return proxying


def sent(proxying: Proxying, name: str) -> list[str | None]:
    """What the engines were sent of this header, with requests that generate."""
    requests = [request for engine in proxying.engines for request in engine.requests if request.path == CHAT]
    return [request.header(name) for request in requests]


async def test_a_request_and_its_attempt_are_spans_with_their_times_and_tokens(
    proxying: Open, collector: OtlpReceiver
) -> None:
    async with proxying() as proxy:
        answer = await ask(proxy.port, "POST", CHAT, **chat(tokens=4))
        assert answer.status == 200
    (root,) = collector.roots()
    (attempt,) = collector.below(root)
    assert collector.paths == ["/v1/traces"]
    assert collector.resource["service.name"] == "vastproxy"
    model = root.attributes["gen_ai.request.model"]
    assert (root.name, root.parent_id, root.is_error) == (f"chat {model}", "", False)
    told = root.attributes
    assert (told["gen_ai.operation.name"], told["http.response.status_code"]) == ("chat", 200)
    assert (told["http.request.method"], told["url.path"]) == ("POST", CHAT)
    assert told["gen_ai.usage.output_tokens"] >= 1
    assert told["gen_ai.usage.input_tokens"] >= 1
    assert (told["vastproxy.attempts"], told["vastproxy.instance.id"]) == (1, 1)
    assert told["vastproxy.request.id"] == answer.header("x-request-id")
    assert attempt.trace_id == root.trace_id
    assert attempt.kind == 3
    assert attempt.events == ["connected", "first byte"]
    below = attempt.attributes
    assert (below["gen_ai.provider.name"], below["vastproxy.outcome"]) == ("vllm", "answered")
    assert (below["vastproxy.instance.id"], below["vastproxy.connection.reused"]) == (1, False)
    assert root.start <= attempt.start <= attempt.end <= root.end
    page = await asyncio.to_thread((Path(__file__).parents[2] / "docs/LOGS.md").read_text)
    for name in {**told, **below}:
        assert f"`{name}`" in page, name


async def test_each_attempt_is_a_span(proxying: Open, collector: OtlpReceiver) -> None:
    first, second = FakeEngine("vllm"), FakeEngine("vllm")
    async with proxying(first, second) as proxy:
        await first.stop()
        for _ in range(2):  # they take turns: one of these finds the one that has gone
            answer = await ask(proxy.port, "POST", CHAT, **chat())
            assert answer.status == 200
    tried = [collector.below(root) for root in collector.roots()]
    (story,) = [attempts for attempts in tried if len(attempts) > 1]
    assert [span.attributes["vastproxy.instance.id"] for span in story] == [1, 2]
    assert [span.is_error for span in story] == [True, False]
    assert [span.attributes["vastproxy.outcome"] for span in story] == ["failed", "answered"]
    assert story[0].complaint


async def test_the_trace_of_a_client_is_continued(proxying: Open, collector: OtlpReceiver) -> None:
    async with proxying() as proxy:
        request = chat()
        request["headers"] |= {"traceparent": PARENT, "tracestate": "a=1"}
        await ask(proxy.port, "POST", CHAT, **request)
        assert (sent(proxy, "traceparent"), sent(proxy, "tracestate")) == ([None], [None])
    (root,) = collector.roots()
    assert (root.trace_id, root.parent_id, root.state) == (TRACE, SPAN, "a=1")


async def test_engines_are_told_of_the_trace_where_that_is_wanted(
    proxying: Open, collector: OtlpReceiver
) -> None:
    async with proxying(propagate=True) as proxy:
        request = chat()
        request["headers"] |= {"traceparent": PARENT, "tracestate": "a=1"}
        await ask(proxy.port, "POST", CHAT, **request)
        await ask(proxy.port, "POST", CHAT, **chat())
        told = sent(proxy, "traceparent")
        assert sent(proxy, "tracestate") == ["a=1", None]
    continued, own = collector.roots()
    assert told == [f"00-{root.trace_id}-{collector.below(root)[0].id}-01" for root in (continued, own)]
    assert (continued.trace_id, own.parent_id) == (TRACE, "")
    assert own.trace_id != TRACE


async def test_what_the_client_does_not_sample_is_not_told(proxying: Open, collector: OtlpReceiver) -> None:
    async with proxying(propagate=True) as proxy:
        request = chat()
        request["headers"] |= {"traceparent": PARENT[:-2] + "00"}
        await ask(proxy.port, "POST", CHAT, **request)
        (told,) = sent(proxy, "traceparent")
        assert told is not None
        assert told.startswith(f"00-{TRACE}-")
        assert told.endswith("-00")
    assert collector.spans == []


async def test_where_it_is_off_headers_pass_as_they_are_and_nothing_is_sent(
    proxying: Open, collector: OtlpReceiver
) -> None:
    async with proxying(enabled=False) as proxy:
        request = chat()
        request["headers"] |= {"traceparent": PARENT, "tracestate": "a=1"}
        await ask(proxy.port, "POST", CHAT, **request)
        assert (sent(proxy, "traceparent"), sent(proxy, "tracestate")) == ([PARENT], ["a=1"])
    assert collector.paths == []


async def test_errors_and_departures_are_told_apart(proxying: Open, collector: OtlpReceiver) -> None:
    """What the client did is no error of the server."""
    async with proxying() as proxy:
        await ask(proxy.port, "POST", "/flush_cache")
        async with Client(proxy.port) as client:
            await client.send("POST", CHAT, **chat(stream=True, tokens=1_000_000))
            await client.head()
        await proxy.engines[0].stop()
        answer = await ask(proxy.port, "POST", CHAT, **chat())
        assert answer.status >= 500
    by_status = {root.attributes["http.response.status_code"]: root for root in collector.roots()}
    assert (by_status[403].is_error, by_status[403].attributes["error.type"]) == (False, "path_not_allowed")
    assert by_status[answer.status].is_error
    left = by_status[499]
    assert (left.is_error, left.attributes["error.type"]) == (False, "client_left")
    assert [span.attributes["vastproxy.outcome"] for span in collector.below(left)] == ["left"]


async def test_no_prompt_no_key_and_no_query_is_told(proxying: Open, collector: OtlpReceiver) -> None:
    async with proxying() as proxy:
        request = chat()
        request["headers"] |= {"authorization": f"Bearer {CLIENT_KEY}"}
        await ask(proxy.port, "POST", CHAT + "?token=very-secret", **request)
    assert collector.roots()
    for secret in (CLIENT_KEY, "very-secret", "messages", "content"):
        assert secret.encode() not in collector.raw
