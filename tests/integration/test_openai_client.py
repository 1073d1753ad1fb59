"""The official OpenAI client, as users call it, through the proxy: what it gets and what it raises."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.helpers.engines import FakeEngine
from tests.helpers.proxying import Proxying

T = TypeVar("T")

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
ALL = "".join(f"t{number} " for number in range(1, 5))


@pytest.fixture
async def proxying() -> AsyncIterator[Proxying]:
    engines = [FakeEngine("sglang", models=("llama", "both")), FakeEngine("vllm", models=("qwen", "both"))]
    async with Proxying(engines) as proxying:
        yield proxying


@pytest.fixture
async def client(proxying: Proxying) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{proxying.url}/v1", api_key="unused", max_retries=0, timeout=20
    ) as client:
        yield client


async def in_sync(proxying: Proxying, work: Callable[[openai.OpenAI], T]) -> T:
    """What `work` does with the blocking client, beside the loop that serves it."""

    def run() -> T:
        with openai.OpenAI(
            base_url=f"{proxying.url}/v1", api_key="unused", max_retries=0, timeout=20
        ) as client:
            return work(client)

    return await asyncio.to_thread(run)


async def test_a_chat_comes_back_whole(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="llama", messages=MESSAGES, max_tokens=4)
    assert answer.choices[0].message.content == ALL
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


async def test_a_chat_streams_to_its_end(client: openai.AsyncOpenAI) -> None:
    text, reasons = "", []
    async with await client.chat.completions.create(
        model="llama", messages=MESSAGES, max_tokens=4, stream=True
    ) as stream:
        async for piece in stream:
            text += piece.choices[0].delta.content or ""
            reasons.append(piece.choices[0].finish_reason)
    assert text == ALL
    assert reasons == [None] * 4 + ["length"]


async def test_completions_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="qwen", prompt="hi", max_tokens=4)
    assert whole.choices[0].text == ALL
    text = ""
    async with await client.completions.create(
        model="qwen", prompt="hi", max_tokens=4, stream=True
    ) as stream:
        async for piece in stream:
            text += piece.choices[0].text
    assert text == ALL


async def test_the_blocking_client_gets_the_same(proxying: Proxying) -> None:
    """Chat, stream, completion and models through `openai.OpenAI`."""

    def work(client: openai.OpenAI) -> None:
        whole = client.chat.completions.create(model="llama", messages=MESSAGES, max_tokens=4)
        assert whole.choices[0].message.content == ALL
        with client.chat.completions.create(
            model="llama", messages=MESSAGES, max_tokens=4, stream=True
        ) as stream:
            assert "".join(piece.choices[0].delta.content or "" for piece in stream) == ALL
        assert client.completions.create(model="qwen", prompt="hi", max_tokens=4).choices[0].text == ALL
        assert [model.id for model in client.models.list()] == ["both", "llama", "qwen"]

    await in_sync(proxying, work)


async def test_the_models_are_the_union_of_what_is_served(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["both", "llama", "qwen"]


async def test_the_instance_that_served_is_told_and_can_be_asked_for(client: openai.AsyncOpenAI) -> None:
    """X-VastProxy-Instance names who served; sent along, it chooses; nobody else gets a turn for it."""
    seen = []
    for _ in range(4):
        raw = await client.chat.completions.with_raw_response.create(
            model="both", messages=MESSAGES, max_tokens=1
        )
        seen.append(raw.headers["x-vastproxy-instance"])
        assert raw.parse().choices
    assert sorted(seen) == ["1", "1", "2", "2"]
    for instance in ("2", "1"):
        for _ in range(3):
            raw = await client.chat.completions.with_raw_response.create(
                model="both",
                messages=MESSAGES,
                max_tokens=1,
                extra_headers={"X-VastProxy-Instance": instance},
            )
            assert raw.headers["x-vastproxy-instance"] == instance


async def test_an_unknown_model_is_refused_by_naming_those_that_there_are(
    proxying: Proxying, client: openai.AsyncOpenAI
) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(model="nobody-has-it", messages=MESSAGES)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert "'nobody-has-it' is not served here. Served: both, llama, qwen." in refused.value.message
    assert not any(request.method == "POST" for engine in proxying.engines for request in engine.requests)


async def test_each_model_is_asked_of_who_has_it(client: openai.AsyncOpenAI) -> None:
    for model, instance in (("llama", "1"), ("qwen", "2")) * 3:
        raw = await client.chat.completions.with_raw_response.create(
            model=model, messages=MESSAGES, max_tokens=1
        )
        assert raw.headers["x-vastproxy-instance"] == instance


async def test_an_engines_refusal_arrives_as_the_engine_said_it(
    proxying: Proxying, client: openai.AsyncOpenAI
) -> None:
    """It is passed on with its own words, and not tried elsewhere."""
    for engine in proxying.engines:
        engine.fail_status = 404
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(model="both", messages=MESSAGES)
    assert refused.value.body == {"message": "told to fail", "type": "server_error", "code": 404}
    assert refused.value.response.headers["x-vastproxy-instance"] in ("1", "2")
    asked = [
        request for engine in proxying.engines for request in engine.requests if request.method == "POST"
    ]
    assert len(asked) == 1


async def test_nobody_to_serve_is_an_internal_server_error_that_says_why(
    proxying: Proxying, client: openai.AsyncOpenAI
) -> None:
    """503 with our message, our code and Retry-After, so that the client's own retries wait."""
    for instance_id in (1, 2):
        proxying.tunnels.lose(instance_id)
    await proxying.wait_for_healthy(0)
    with pytest.raises(openai.InternalServerError) as failed:
        await client.chat.completions.create(model="llama", messages=MESSAGES)
    assert failed.value.status_code == 503
    assert failed.value.code == "no_backend_available"
    assert failed.value.type == "server_error"
    assert "none of 2 backends can serve" in failed.value.message
    assert int(failed.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
async def test_a_stream_that_breaks_off_raises(
    proxying: Proxying, client: openai.AsyncOpenAI, kind: str
) -> None:
    """An engine that dies in the middle: what came is given, then an exception, never a silent end."""
    number, engine = next(pair for pair in enumerate(proxying.engines, start=1) if pair[1].kind == kind)
    engine.die_after_tokens = 3
    text = ""
    with pytest.raises(openai.APIError) as broken:
        async with await client.chat.completions.create(
            model="both",
            messages=MESSAGES,
            max_tokens=9,
            stream=True,
            extra_headers={"X-VastProxy-Instance": str(number)},
        ) as stream:
            async for piece in stream:
                text += piece.choices[0].delta.content or ""
    assert text == "t1 t2 t3 "
    assert "broke off" in broken.value.message


async def test_a_whole_answer_that_never_came_raises(proxying: Proxying, client: openai.AsyncOpenAI) -> None:
    """Without streaming, an engine that dies before its answer is a 502 of ours, and is not asked twice."""
    engine = proxying.engines[0]
    engine.header_delay_s = 30.0

    async def kill() -> None:
        await engine.wait_for_requests(1, path="/v1/chat/completions")
        await engine.stop()

    async with asyncio.TaskGroup() as group:
        group.create_task(kill())
        with pytest.raises(openai.InternalServerError) as failed:
            await client.chat.completions.create(
                model="llama", messages=MESSAGES, extra_headers={"X-VastProxy-Instance": "1"}
            )
    assert failed.value.status_code == 502
    assert failed.value.code == "backend_interrupted"
    assert not [one for one in proxying.engines[1].requests if one.method == "POST"]


async def test_a_blocking_stream_that_breaks_off_raises(proxying: Proxying) -> None:
    for engine in proxying.engines:
        engine.die_after_tokens = 2

    def work(client: openai.OpenAI) -> str:
        text = ""
        with (
            pytest.raises(openai.APIError, match="broke off"),
            client.chat.completions.create(
                model="both", messages=MESSAGES, max_tokens=9, stream=True
            ) as stream,
        ):
            for piece in stream:
                text += piece.choices[0].delta.content or ""
        return text

    assert await in_sync(proxying, work) == "t1 t2 "


async def test_a_client_that_leaves_a_stream_ends_the_engines_work(
    proxying: Proxying, client: openai.AsyncOpenAI
) -> None:
    """Closing the stream early reaches the engine at once and is nobody's failure."""
    for engine in proxying.engines:
        engine.pause_after(3)
    async with contextlib.AsyncExitStack() as stack:
        stream = await stack.enter_async_context(
            await client.chat.completions.create(
                model="both", messages=MESSAGES, max_tokens=1000, stream=True
            )
        )
        async for piece in stream:
            if piece.choices[0].delta.content == "t3 ":
                break
    busy = next(engine for engine in proxying.engines if engine.active or engine.peak_active)
    request = next(one for one in reversed(busy.requests) if one.path == "/v1/chat/completions")
    await asyncio.wait_for(request.ended.wait(), 5)
    assert request.aborted.is_set() or request.disconnected.is_set()
    assert [backend.failures for backend in proxying.fleet.snapshot().backends] == [0, 0]
