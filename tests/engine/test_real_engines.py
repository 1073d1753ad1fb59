"""What we believe of engines, asked of real ones."""

import json

import pytest

from tests.engine.conftest import RealEngine
from tests.helpers.http_fetch import fetch
from vastproxy.services.backends.engines import (
    EngineKind,
    EngineTarget,
    HealthStatus,
    check_health,
    detect,
    list_models,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


async def found_at(engine: RealEngine) -> EngineTarget:
    found = await detect(fetch, (engine.port,), token="unused", timeout_s=10.0)
    assert found is not None
    return found


async def test_a_real_engine_is_recognised_and_healthy(engine: RealEngine) -> None:
    found = await found_at(engine)
    kind = EngineKind.LLAMACPP if engine.lists_models else EngineKind.OPENAI
    assert (found.kind, found.problem, found.needs_token) == (kind, None, False)
    report = await check_health(fetch, found, token="unused", timeout_s=25.0)
    assert report.status is HealthStatus.HEALTHY, report


async def test_a_real_engines_models_are_read_where_it_names_them(engine: RealEngine) -> None:
    """`transformers serve` names none, before its first request or after, though it serves by path."""
    names = await list_models(fetch, await found_at(engine), token=None, timeout_s=10.0)
    if engine.lists_models:
        assert names == (engine.model,)
    else:
        assert not names


async def test_a_real_engine_answers_what_the_stand_ins_answer(engine: RealEngine) -> None:
    """A chat of the same shape; so tests with stand-ins say something about engines."""
    asked = {"model": engine.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    answer = await fetch(
        engine.port,
        "/v1/chat/completions",
        method="POST",
        headers={"content-type": "application/json"},
        body=json.dumps(asked).encode(),
        timeout_s=120.0,
    )
    assert answer.status == 200, answer.body
    shape = answer.json_object()
    assert shape["object"] == "chat.completion"
    assert shape["usage"]["completion_tokens"] <= 4
    assert isinstance(shape["choices"][0]["message"]["content"], str)
