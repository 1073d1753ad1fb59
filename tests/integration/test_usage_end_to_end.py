"""Tokens of streams, over real servers: whoever asks for usage sees it, nobody else does, and it is counted."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from tests.helpers.engines import FakeEngine
from tests.helpers.proxying import Proxying
from tests.helpers.raw import ask
from vastproxy.jobs.ledger import LedgerJob
from vastproxy.services.ledger.ledger import Ledger

MODELS = ["sg", "vl", "cpp", "ol"]
ALL = "t1 t2 t3 t4 "


@pytest.fixture
async def proxying(tmp_path: Path) -> AsyncIterator[Proxying]:
    kinds = ("sglang", "vllm", "llamacpp", "ollama")
    engines = [FakeEngine(kind, models=(model,)) for kind, model in zip(kinds, MODELS, strict=True)]
    made = Proxying(engines)
    made.fleet.account.ledger = Ledger(tmp_path / "ledger.db")
    async with made:
        job = LedgerJob(made.fleet, look_every_s=0.05)
        job.start()
        yield made
        await job.aclose()


async def chat(proxying: Proxying, model: str, **more: object) -> list[dict[str, object]]:
    """The events of a stream, as they come."""
    body = {
        "model": model,
        "stream": True,
        "max_tokens": 4,
        "messages": [{"role": "user", "content": "hi"}],
        **more,
    }
    headers = {"content-type": "application/json"}
    answer = await ask(
        proxying.port, "POST", "/v1/chat/completions", headers=headers, body=json.dumps(body).encode()
    )
    assert answer.status == 200
    assert answer.complete
    events = answer.body.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    return [json.loads(event.removeprefix(b"data: ")) for event in events[:-2]]


@pytest.mark.parametrize("model", MODELS)
async def test_a_client_that_did_not_ask_sees_none(proxying: Proxying, model: str) -> None:
    events = await chat(proxying, model)
    assert len(events) == 5
    assert all(event["choices"] for event in events)
    assert not any("usage" in event for event in events)


@pytest.mark.parametrize("model", MODELS[:3])
async def test_a_client_that_asked_sees_it(proxying: Proxying, model: str) -> None:
    events = await chat(proxying, model, stream_options={"include_usage": True})
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


async def test_tokens_are_in_metrics_and_ledger(proxying: Proxying) -> None:
    """Counted where the engine tells them, estimated and marked where it does not."""
    for model in MODELS:
        await chat(proxying, model)
    await asyncio.sleep(0)
    report = await proxying.fleet.account.ledger.cost("model", 0)
    rows = dict(report.rows)
    for model in MODELS[:3]:
        assert (rows[model].tokens_in, rows[model].tokens_out, rows[model].estimated_tokens) == (3, 4, 0)
    assert rows["ol"].estimated_tokens == rows["ol"].tokens_in + rows["ol"].tokens_out > 0
    page = (await ask(proxying.port, "GET", "/metrics")).body.decode()
    assert 'vastproxy_tokens_total{model="vl",direction="answer"} 4' in page
    assert 'vastproxy_estimated_tokens_total{model="vl"} 0' in page


async def test_the_official_client_sees_no_difference(proxying: Proxying) -> None:
    async with openai.AsyncOpenAI(base_url=f"{proxying.url}/v1", api_key="unused", max_retries=0) as client:
        for asked in (False, True):
            text, usage = "", None
            options = {"stream_options": {"include_usage": True}} if asked else {}
            stream = await client.chat.completions.create(
                model="vl",
                messages=[{"role": "user", "content": "hi"}],
                max_tokens=4,
                stream=True,
                extra_body=options,
            )
            async for piece in stream:
                text += "".join(choice.delta.content or "" for choice in piece.choices)
                usage = piece.usage or usage
            assert text == ALL
            assert (usage is not None) is asked
