"""Each engine's way to say how busy it is, version by version."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.fetch import ProbeResponse
from vastproxy.services.backends.load_formats import (
    Load,
    ReadLoad,
    llamacpp_capacity,
    llamacpp_metrics,
    llamacpp_slots,
    ollama_ps,
    sglang_capacity,
    sglang_get_load,
    sglang_loads,
    sglang_metrics,
    tgi_capacity,
    tgi_metrics,
    vllm_metrics,
)

FIXTURES = Path(__file__).parents[3] / "fixtures" / "engines"
READERS: tuple[ReadLoad, ...] = (
    sglang_loads,
    sglang_get_load,
    sglang_metrics,
    vllm_metrics,
    llamacpp_slots,
    llamacpp_metrics,
    ollama_ps,
    tgi_metrics,
)
CAPACITIES: tuple[Callable[[ProbeResponse], int | None], ...] = (
    sglang_capacity,
    llamacpp_capacity,
    tgi_capacity,
)
PAGE = b"<!DOCTYPE html><html><title>Loading...</title></html>"


def recorded(name: str) -> ProbeResponse:
    return ProbeResponse(200, {}, (FIXTURES / name).read_bytes())


def ok(value: Any, status: int = 200) -> ProbeResponse:
    return ProbeResponse(status, {}, json.dumps(value).encode())


def text(body: str) -> ProbeResponse:
    return ProbeResponse(200, {"content-type": "text/plain; version=0.0.4"}, body.encode())


@pytest.mark.parametrize(
    ("read", "name", "expected"),
    [
        (sglang_loads, "sglang_v1_loads.json", Load(3, 2, 64, 0.2985, at=7.0)),
        (sglang_get_load, "sglang_get_load.json", Load(3, 2, at=7.0)),
        (sglang_metrics, "sglang_metrics.txt", Load(3, 2, None, 0.2985, at=7.0)),
        (vllm_metrics, "vllm_metrics.txt", Load(8, 1, None, 0.4218, at=7.0)),
        (vllm_metrics, "vllm_metrics_old_names.txt", Load(5, 0, None, 0.4218, at=7.0)),
        (llamacpp_slots, "llamacpp_slots.json", Load(1, None, 2, at=7.0)),
        (llamacpp_metrics, "llamacpp_metrics.txt", Load(1, 0, at=7.0)),
        (ollama_ps, "ollama_ps.json", Load(loaded=("llama3.2:3b",), at=7.0)),
    ],
)
def test_what_the_engines_send(read: ReadLoad, name: str, expected: Load) -> None:
    assert read(recorded(name), 7.0) == expected


def test_in_flight_is_what_runs_and_waits() -> None:
    assert Load(3, 2).in_flight == 5
    assert Load(3).in_flight == 3
    assert Load(None, 2).in_flight is None
    assert Load().in_flight is None


def test_sglang_ranks_are_added_up() -> None:
    rank = {"num_running_reqs": 3, "num_waiting_reqs": 1, "max_running_requests": 64, "token_usage": 0.1}
    fuller = {**rank, "dp_rank": 1, "token_usage": 0.9}
    assert sglang_loads(ok({"loads": [rank, fuller]}), 0) == Load(6, 2, 128, 0.9)
    two = [{"dp_rank": n, "num_reqs": 5, "num_waiting_reqs": 2, "num_tokens": 9} for n in (0, 1)]
    assert sglang_get_load(ok(two), 0) == Load(6, 4)


def test_sglang_may_leave_things_out() -> None:
    assert sglang_loads(ok({"loads": [{"num_running_reqs": 3, "max_running_requests": 0}]}), 0) == Load(3)
    assert sglang_loads(ok({"loads": [{"num_waiting_reqs": 3, "token_usage": None}]}), 0) == Load(None, 3)
    assert sglang_get_load(ok([{"num_reqs": 3}]), 0) == Load(3)
    assert sglang_get_load(ok([{"num_reqs": 1, "num_waiting_reqs": 4}]), 0) == Load(0, 4)


def test_sglang_metrics_of_many_ranks() -> None:
    """The ranks of tensor parallelism say the same; those of data parallelism have requests of their own."""
    lines = [
        f'sglang:num_running_reqs{{dp_rank="{dp}",tp_rank="{tp}"}} {3 + dp}.0'
        for dp in (0, 1)
        for tp in (0, 1)
    ]
    assert sglang_metrics(text("\n".join(lines)), 0) == Load(7)


def test_sglang_metrics_by_priority_are_not_counted_twice() -> None:
    body = """sglang:num_queue_reqs{model_name="m",priority=""} 5.0
sglang:num_queue_reqs{model_name="m",priority="0"} 2.0
sglang:num_queue_reqs{model_name="m",priority="9"} 3.0
sglang:num_queue_reqs_by_priority{priority="9"} 3.0
sglang:token_usage{priority=""} 1.004
"""
    assert sglang_metrics(text(body), 0) == Load(None, 5, None, 1.0)


def test_vllm_reasons_are_not_counted_twice() -> None:
    body = """vllm:num_requests_running{engine="0"} 37.0
vllm:num_requests_waiting{engine="0"} 12.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:num_requests_waiting_by_reason{engine="0",reason="deferred"} 3.0
"""
    assert vllm_metrics(text(body), 0) == Load(37, 12)


def test_vllm_0_6_swaps_requests_out_which_then_wait() -> None:
    body = """vllm:num_requests_running{model_name="m"} 4.0
vllm:num_requests_swapped{model_name="m"} 2.0
vllm:num_requests_waiting{model_name="m"} 1.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.75
vllm:cpu_cache_usage_perc{model_name="m"} 0.9
"""
    assert vllm_metrics(text(body), 0) == Load(4, 3, None, 0.75)


def test_vllm_0_9_writes_both_names_of_the_cache() -> None:
    body = "vllm:num_requests_running 1\nvllm:gpu_cache_usage_perc 0.1\nvllm:kv_cache_usage_perc 0.2\n"
    assert vllm_metrics(text(body), 0) == Load(1, cache_used=0.2)
    waiting = "vllm:num_requests_waiting 2\nvllm:kv_cache_usage_perc NaN\n"
    assert vllm_metrics(text(waiting), 0) == Load(None, 2)


def test_names_that_a_collector_rewrote() -> None:
    assert vllm_metrics(text("vllm_num_requests_running 2\n"), 0) == Load(2)


@pytest.mark.parametrize("value", ["-1", "1e12", "NaN", "+Inf", "many"])
def test_a_value_that_is_no_count_is_unknown(value: str) -> None:
    body = f"vllm:num_requests_running {value}\nvllm:num_requests_waiting 1\nvllm:kv_cache_usage_perc 57\n"
    assert vllm_metrics(text(body), 0) == Load(None, 1)


def test_llamacpp_slots_of_old_versions() -> None:
    slots = [{"id": 0, "state": 1, "prompt": "secret"}, {"id": 1, "state": 0}]
    assert llamacpp_slots(ok(slots), 0) == Load(1, None, 2)


@pytest.mark.parametrize("slots", [[], {}, [{"id": 0}], [{"is_processing": True}, {"id": 1}], "x", None])
def test_what_are_no_slots(slots: object) -> None:
    assert llamacpp_slots(ok(slots), 0) is None


def test_llamacpp_told_of_its_cache_until_2025() -> None:
    body = "llamacpp:requests_processing 2\nllamacpp:kv_cache_usage_ratio 0.5\n"
    assert llamacpp_metrics(text(body), 0) == Load(2, cache_used=0.5)


def test_ollama_without_a_model_in_memory() -> None:
    assert ollama_ps(ok({"models": []}), 0) == Load(loaded=())
    assert ollama_ps(ok({"data": []}), 0) is None


def test_tgi() -> None:
    body = "# TYPE tgi_queue_size gauge\ntgi_queue_size 3\n# TYPE tgi_batch_current_size gauge\n"
    assert tgi_metrics(text(body + "tgi_batch_current_size 16\n"), 0) == Load(16, 3)
    assert tgi_metrics(text(body), 0) == Load(None, 3)
    assert tgi_metrics(text("# HELP tgi_request_count x\n"), 0) == Load(0, 0)
    assert tgi_metrics(text(""), 0) is None


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "answer",
    [
        ok({"error": {"code": 501, "message": "This server does not support slots endpoint."}}, 501),
        ok({"detail": "Not Found"}, 404),
        ok({"error": "Unauthorized"}, 401),
        ok({"status": "ok"}),
        ok([]),
        ok(None),
        ok("text"),
        ok([{}]),
        ok({"loads": [], "models": None}),
        ok({"loads": "x", "models": "x"}),
        text(""),
        text("# HELP x\n"),
        ProbeResponse(200, {"content-type": "text/html"}, PAGE),
    ],
)
def test_another_answer_is_no_load(read: ReadLoad, answer: ProbeResponse) -> None:
    assert read(answer, 0) is None


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_status_of_failure_is_no_load_whatever_it_says(read: ReadLoad, status: int) -> None:
    for path in FIXTURES.iterdir():
        assert read(ProbeResponse(status, {}, path.read_bytes()), 0) is None


def test_the_engines_do_not_understand_each_other() -> None:
    expected = {
        "sglang_v1_loads.json": {sglang_loads},
        "sglang_get_load.json": {sglang_get_load},
        "sglang_metrics.txt": {sglang_metrics},
        "vllm_metrics.txt": {vllm_metrics},
        "vllm_metrics_old_names.txt": {vllm_metrics},
        "llamacpp_slots.json": {llamacpp_slots},
        "llamacpp_metrics.txt": {llamacpp_metrics},
    }
    for name, readers in expected.items():
        assert {read for read in READERS if read(recorded(name), 0) is not None} == readers


def test_capacities() -> None:
    states = [{"effective_max_running_requests_per_dp": 52}, {"effective_max_running_requests_per_dp": 52}]
    assert sglang_capacity(ok({"api_key": "secret", "internal_states": states})) == 104
    assert llamacpp_capacity(recorded("llamacpp_props.json")) is not None
    assert llamacpp_capacity(ok({"total_slots": 4})) == 4
    assert tgi_capacity(recorded("tgi_info.json")) == 128


@pytest.mark.parametrize("read", CAPACITIES)
@pytest.mark.parametrize(
    "answer",
    [
        ok({}),
        ok([]),
        ok(None),
        ok({"total_slots": 0, "max_concurrent_requests": -1, "internal_states": [{}]}),
        ok({"total_slots": True, "max_concurrent_requests": "x", "internal_states": "x"}),
        ok({"total_slots": 4, "max_concurrent_requests": 4}, 503),
        ProbeResponse(200, {}, PAGE),
    ],
)
def test_no_capacity(read: Callable[[ProbeResponse], int | None], answer: ProbeResponse) -> None:
    assert read(answer) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    (
        *("loads", "models", "data", "name", "state", "is_processing", "internal_states", "token_usage"),
        *("num_running_reqs", "num_waiting_reqs", "num_reqs", "max_running_requests", "total_slots"),
        *("max_concurrent_requests", "effective_max_running_requests_per_dp"),
    )
)
ROW = st.dictionaries(KEYS, VALUES | st.integers(0, 9), max_size=4)


@given(value=ROW | st.lists(ROW, max_size=4) | st.dictionaries(KEYS, st.lists(ROW, max_size=3)) | VALUES)
def test_no_json_breaks_it_and_what_is_known_is_plausible(value: object) -> None:
    answer = ok(value)
    for read in READERS:
        load = read(answer, 0.0)
        if load is not None:
            assert all(count is None or count >= 0 for count in (load.running, load.waiting))
            assert load.capacity is None or load.capacity > 0
            assert load.cache_used is None or 0 <= load.cache_used <= 1
    for capacity in CAPACITIES:
        assert (capacity(answer) or 1) > 0


@given(st.binary(max_size=300), st.integers(100, 599))
def test_no_bytes_break_it(body: bytes, status: int) -> None:
    answer = ProbeResponse(status, {}, body)
    for read in READERS:
        read(answer, 0.0)
    for capacity in CAPACITIES:
        capacity(answer)
