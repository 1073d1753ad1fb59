"""The load of an engine is asked on one path only once that is known, and never at the cost of anything else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget
from vastproxy.services.backends.fetch import NO_HEADERS, ProbeResponse
from vastproxy.services.backends.load import (
    FORGET_AFTER,
    RETRY_FAILED_S,
    RETRY_S,
    SOURCES,
    Load,
    LoadMemory,
    LoadMonitor,
    Outcome,
    learn,
    paths_to_ask,
)
from vastproxy.services.errors import (
    BackendProtocolError,
    BackendTimeout,
    ChannelRefused,
    ResponseInterrupted,
    TunnelLost,
    TunnelRefused,
)

FIXTURES = Path(__file__).parents[3] / "fixtures" / "engines"
LOADS, GET_LOAD, METRICS = "/v1/loads?include=core", "/get_load", "/metrics"
NOT_FOUND = ProbeResponse(404, {}, b'{"detail":"Not Found"}')
OFF = ProbeResponse(501, {}, b'{"error":{"code":501,"type":"not_supported_error"}}')
BROKEN = ProbeResponse(500, {}, b"Internal Server Error")
TIMEOUT = BackendTimeout("slow", phase="headers")

Answer = ProbeResponse | Exception


def recorded(name: str) -> ProbeResponse:
    return ProbeResponse(200, {}, (FIXTURES / name).read_bytes())


def ok(value: Any) -> ProbeResponse:
    return ProbeResponse(200, {}, json.dumps(value).encode())


class Engine:
    """Answers by path, 404 to any other; one second passes with each answer."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    async def __call__(
        self,
        port: int,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes = b"",
        timeout_s: float,
    ) -> ProbeResponse:
        assert (port, method, timeout_s) == (18000, "GET", 5.0)
        assert headers.get("authorization") == "Bearer t"
        self.asked.append(path)
        self.now += 1
        answer = self.answers.get(path, NOT_FOUND)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def asked_now(self) -> list[str]:
        """Since the last time."""
        asked, self.asked = self.asked, []
        return asked


def monitor(engine: Engine, kind: EngineKind = EngineKind.SGLANG, **options: Any) -> LoadMonitor:
    return LoadMonitor(EngineTarget(kind, 18000), clock=engine.clock, **options)


async def read(watch: LoadMonitor, engine: Engine) -> Load | None:
    return await watch.read(engine, token="t", timeout_s=5.0)


async def test_the_first_path_that_tells_is_the_only_one_asked_later() -> None:
    engine = Engine({GET_LOAD: recorded("sglang_get_load.json")})
    watch = monitor(engine)
    assert await read(watch, engine) == Load(3, 2, at=102.0)
    assert watch.path == GET_LOAD
    assert engine.asked_now() == [LOADS, GET_LOAD, "/get_server_info", "/server_info"]
    for _ in range(3):
        assert await read(watch, engine) is not None
    assert engine.asked_now() == [GET_LOAD] * 3


@pytest.mark.parametrize(
    ("kind", "answers", "path", "expected"),
    [
        ("sglang", {LOADS: recorded("sglang_v1_loads.json")}, LOADS, Load(3, 2, 64, 0.2985, at=101.0)),
        ("sglang", {METRICS: recorded("sglang_metrics.txt")}, METRICS, Load(3, 2, None, 0.2985, at=103.0)),
        ("vllm", {METRICS: recorded("vllm_metrics.txt")}, METRICS, Load(8, 1, None, 0.4218, at=101.0)),
        ("llamacpp", {"/slots": recorded("llamacpp_slots.json")}, "/slots", Load(1, None, 2, at=101.0)),
        (
            "llamacpp",
            {"/slots": OFF, METRICS: recorded("llamacpp_metrics.txt"), "/props": ok({"total_slots": 4})},
            METRICS,
            Load(1, 0, 4, at=102.0),
        ),
        (
            "ollama",
            {"/api/ps": recorded("ollama_ps.json")},
            "/api/ps",
            Load(loaded=("llama3.2:3b",), at=101.0),
        ),
        (
            "tgi",
            {METRICS: ProbeResponse(200, {}, b"tgi_queue_size 1\n"), "/info": recorded("tgi_info.json")},
            METRICS,
            Load(None, 1, 128, at=101.0),
        ),
    ],
)
async def test_each_kind_has_its_paths(
    kind: str, answers: Mapping[str, Answer], path: str, expected: Load
) -> None:
    engine = Engine(answers)
    watch = monitor(engine, EngineKind(kind))
    assert await read(watch, engine) == expected
    assert watch.path == path


async def test_an_engine_of_no_known_kind_is_not_asked() -> None:
    engine = Engine({})
    watch = monitor(engine, EngineKind.OPENAI)
    assert await read(watch, engine) is None
    assert await read(watch, engine) is None
    assert engine.asked == []


async def test_an_engine_that_tells_nothing_is_left_alone_for_minutes() -> None:
    engine = Engine({})
    watch = monitor(engine)
    assert await read(watch, engine) is None
    assert engine.asked_now() == [LOADS, GET_LOAD, METRICS]
    engine.now += RETRY_S - 1
    assert await read(watch, engine) is None
    assert engine.asked_now() == []
    engine.now += 1
    engine.answers[GET_LOAD] = recorded("sglang_get_load.json")
    assert await read(watch, engine) is not None


async def test_an_engine_that_was_started_without_is_left_alone_for_minutes_too() -> None:
    engine = Engine({"/slots": OFF, METRICS: OFF})
    watch = monitor(engine, EngineKind.LLAMACPP)
    assert await read(watch, engine) is None
    engine.now += RETRY_FAILED_S
    assert await read(watch, engine) is None
    assert engine.asked_now() == ["/slots", METRICS]


@pytest.mark.parametrize(
    "error",
    [
        TIMEOUT,
        BackendProtocolError("garbage"),
        ResponseInterrupted("cut", received=True),
        ChannelRefused("closed"),
    ],
)
async def test_an_engine_that_does_not_answer_is_asked_once_and_soon_again(error: Exception) -> None:
    """Who does not answer on one path does not answer on the next: three limits would be waited for in vain."""
    engine = Engine({LOADS: error})
    watch = monitor(engine)
    assert await read(watch, engine) is None
    assert engine.asked_now() == [LOADS]
    engine.now += RETRY_FAILED_S
    engine.answers[LOADS] = recorded("sglang_v1_loads.json")
    assert await read(watch, engine) is not None


async def test_an_error_on_one_path_does_not_hide_the_next() -> None:
    engine = Engine({LOADS: BROKEN, GET_LOAD: recorded("sglang_get_load.json")})
    watch = monitor(engine)
    assert await read(watch, engine) is not None
    assert watch.path == GET_LOAD


async def test_a_path_that_worked_is_kept_through_failures_and_then_given_up() -> None:
    engine = Engine({LOADS: recorded("sglang_v1_loads.json")})
    watch = monitor(engine)
    assert await read(watch, engine) is not None
    for answer in (TIMEOUT, BROKEN):
        engine.answers[LOADS] = answer
        assert await read(watch, engine) is None
        assert watch.path == LOADS
    engine.answers[LOADS] = recorded("sglang_v1_loads.json")
    assert await read(watch, engine) is not None
    engine.answers[LOADS] = BROKEN
    for _ in range(FORGET_AFTER):
        assert watch.path == LOADS
        await read(watch, engine)
    assert watch.path is None
    engine.answers[METRICS] = recorded("sglang_metrics.txt")
    assert await read(watch, engine) is not None
    assert watch.path == METRICS


async def test_an_engine_that_came_back_as_another_version_is_asked_anew() -> None:
    engine = Engine({GET_LOAD: recorded("sglang_get_load.json"), "/get_server_info": NOT_FOUND})
    watch = monitor(engine)
    first = await read(watch, engine)
    assert first is not None
    assert first.capacity is None
    states = [{"effective_max_running_requests_per_dp": 9}]
    engine.answers = {
        METRICS: recorded("sglang_metrics.txt"),
        "/server_info": ok({"internal_states": states}),
    }
    assert await read(watch, engine) is None
    again = await read(watch, engine)
    assert again is not None
    assert again.capacity == 9


async def test_the_capacity_is_asked_once() -> None:
    engine = Engine({METRICS: recorded("llamacpp_metrics.txt"), "/props": ok({"total_slots": 4})})
    watch = monitor(engine, EngineKind.LLAMACPP)
    for _ in range(3):
        load = await read(watch, engine)
        assert load is not None
        assert load.capacity == 4
    assert engine.asked.count("/props") == 1


async def test_the_capacity_is_not_asked_for_ever() -> None:
    engine = Engine({METRICS: recorded("llamacpp_metrics.txt"), "/props": TIMEOUT})
    watch = monitor(engine, EngineKind.LLAMACPP, configured=6)
    for _ in range(FORGET_AFTER + 2):
        load = await read(watch, engine)
        assert load is not None
        assert load.capacity == 6
    assert engine.asked.count("/props") == FORGET_AFTER


async def test_the_engines_own_word_counts_more_than_its_arguments() -> None:
    engine = Engine({LOADS: recorded("sglang_v1_loads.json")})
    told = await read(monitor(engine, configured=6), engine)
    assert told is not None
    assert told.capacity == 64
    vllm = Engine({METRICS: recorded("vllm_metrics.txt")})
    silent = await read(monitor(vllm, EngineKind.VLLM, configured=6), vllm)
    assert silent is not None
    assert silent.capacity == 6


@pytest.mark.parametrize("path", [LOADS, METRICS, "/get_server_info"])
@pytest.mark.parametrize("error", [TunnelLost("gone"), TunnelRefused("host key")])
async def test_a_broken_tunnel_says_nothing_about_the_engine(path: str, error: Exception) -> None:
    engine = Engine({METRICS: recorded("sglang_metrics.txt"), path: error})
    watch = monitor(engine)
    with pytest.raises(type(error)):
        await read(watch, engine)
    engine.answers[path] = recorded("sglang_metrics.txt")
    assert await read(watch, engine) is not None


async def test_the_loop_is_the_clock_by_default() -> None:
    engine = Engine({LOADS: recorded("sglang_v1_loads.json")})
    load = await read(LoadMonitor(EngineTarget(EngineKind.SGLANG, 18000)), engine)
    assert load is not None
    assert load.at > 0


KIND = EngineKind.SGLANG
PATHS = tuple(SOURCES[KIND])
STEPS = st.lists(
    st.tuples(st.floats(0, 400), st.fixed_dictionaries({path: st.sampled_from(Outcome) for path in PATHS})),
    max_size=30,
)


@given(STEPS)
def test_a_path_is_remembered_only_if_it_told_last_or_failed_since(
    steps: list[tuple[float, dict[str, Outcome]]],
) -> None:
    memory, now = LoadMemory(), 0.0
    for pause, world in steps:
        now += pause
        outcomes: dict[str, Outcome] = {}
        for path in paths_to_ask(memory, KIND, now):
            outcomes[path] = world[path]
            if world[path] is Outcome.TOLD:
                break
        before, memory = memory, learn(memory, outcomes, now, retry_s=RETRY_S)
        told = [path for path, outcome in outcomes.items() if outcome is Outcome.TOLD]
        if told:
            assert memory == LoadMemory(told[0])
        elif memory.path is not None:
            assert memory.path == before.path
            assert memory.failures < FORGET_AFTER
            assert outcomes[memory.path] is Outcome.FAILED
        if not outcomes:
            assert memory == before
            assert now < memory.rest_until <= now + RETRY_S
