"""One token of a real engine, and what it means when none comes."""

import json

import pytest

from tests.helpers.engines import FakeEngine
from tests.helpers.http_fetch import fetch
from tests.helpers.tunnelling import unused_port
from vastproxy.services.backends.discovery_plan import DiscoveredEngine, Origin
from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget
from vastproxy.services.backends.fetch import ProbeResponse
from vastproxy.services.diagnosis.check import Verdict
from vastproxy.services.diagnosis.completion import ask_for_a_token, judge


def engine(port: int, models: tuple[str, ...] | None = ("m",)) -> DiscoveredEngine:
    return DiscoveredEngine(EngineTarget(EngineKind.VLLM, port), models, Origin.PROBING)


async def test_a_token_comes() -> None:
    async with FakeEngine("vllm", token="t0ken") as served:
        check = await ask_for_a_token(fetch, engine(served.port), 7, token="t0ken", limit_s=5)
    assert check.verdict is Verdict.OK
    assert check.detail.startswith("a token of m after ")


async def test_a_wrong_token_and_a_closed_port_are_failures() -> None:
    async with FakeEngine("vllm", token="t0ken") as served:
        refused = await ask_for_a_token(fetch, engine(served.port), 7, token="x", limit_s=5)
    closed = await ask_for_a_token(fetch, engine(await unused_port()), 7, token=None, limit_s=5)
    assert (refused.verdict, closed.verdict) == (Verdict.FAIL, Verdict.FAIL)
    assert "HTTP 401" in refused.detail
    assert "vastproxy logs 7" in closed.fix


async def test_without_a_model_nothing_is_asked() -> None:
    check = await ask_for_a_token(fetch, engine(1, None), 7, token=None)
    assert check.verdict is Verdict.SKIP


@pytest.mark.parametrize(
    ("status", "body", "verdict", "says"),
    [
        (200, {"choices": [{}]}, Verdict.OK, "a token of m after 250 ms"),
        (200, {"choices": []}, Verdict.FAIL, "m: HTTP 200"),
        (400, {"error": {"message": "no chat\ntemplate"}}, Verdict.FAIL, "m: HTTP 400, no chat template"),
        (500, {"error": "out of memory"}, Verdict.FAIL, "m: HTTP 500, out of memory"),
        (404, {"message": "no such model"}, Verdict.FAIL, "m: HTTP 404, no such model"),
        (502, "<html>", Verdict.FAIL, "m: HTTP 502"),
    ],
)
def test_answers(status: int, body: object, verdict: Verdict, says: str) -> None:
    check = judge(ProbeResponse(status, {}, json.dumps(body).encode()), "m", 0.25, 7)
    assert (check.verdict, check.detail) == (verdict, says)
