"""The simulation of policies: engines behave as engines, runs repeat, and what the pages claim holds."""

import json
import random
from functools import cache
from pathlib import Path

import pytest

from bench.policies import POLICIES, main, measure, table
from bench.policies_engine import BLOCK_TOKENS, Job, Machine, SimulatedEngine
from bench.policies_run import Outcome, simulate
from bench.policies_workloads import WORKLOADS

SMALL = Machine("small", 1.0, 1000.0, 0.01, 0.01, 2, 10 * BLOCK_TOKENS)


def job(prompt: range, tokens: int = 10) -> Job:
    return Job(tuple(prompt), (), tokens)


def run(engine: SimulatedEngine, *jobs: Job) -> None:
    """All at once, up to the end of the last one."""
    for each in jobs:
        engine.submit(each, 0.0)
    while (at := engine.next_event()) < float("inf"):
        engine.advance(at)


def test_a_request_takes_its_prompt_and_its_steps() -> None:
    engine, one = SimulatedEngine(1, SMALL), job(range(5), tokens=100)
    run(engine, one)
    assert one.first_token == pytest.approx(5 * BLOCK_TOKENS / 1000)
    assert one.ended - one.first_token == pytest.approx(100 * 0.02)
    assert engine.busy_s == pytest.approx(one.ended)
    assert engine.in_flight == 0


def test_two_at_a_time_are_slower_each_and_faster_together() -> None:
    alone = job(range(1), tokens=1000)
    run(SimulatedEngine(1, SMALL), alone)
    one, other = job(range(1), tokens=1000), job(range(1, 2), tokens=1000)
    run(SimulatedEngine(1, SMALL), one, other)
    assert alone.ended < max(one.ended, other.ended) < 2 * alone.ended


def test_who_finds_no_place_waits() -> None:
    engine = SimulatedEngine(1, SMALL)
    jobs = [job(range(n, n + 1), tokens=50) for n in range(3)]
    for each in jobs:
        engine.submit(each, 0.0)
    engine.advance(0.2)
    engine.sample(0.2)
    assert (engine.waiting, engine.waiting_at) == (1, 0.2)
    while (at := engine.next_event()) < float("inf"):
        engine.advance(at)
    assert jobs[2].began == pytest.approx(min(jobs[0].ended, jobs[1].ended))


def test_what_is_in_the_cache_is_not_computed_again_until_it_is_pushed_out() -> None:
    engine = SimulatedEngine(1, SMALL)
    first, again, other, late = job(range(8)), job(range(9)), job(range(100, 110)), job(range(8))
    run(engine, first, again, other, late)
    assert [each.cached_blocks for each in (first, again, other, late)] == [0, 8, 0, 0]


@cache
def outcome(workload: str, policy: str, seed: int = 1) -> Outcome:
    load = {"chat": 0.6, "agents": 1.0, "batch": 0.3}[workload]
    return simulate(policy, WORKLOADS[workload].draw(random.Random(seed), load), seed=seed)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_seed_gives_one_result(policy: str) -> None:
    conversations = WORKLOADS["batch"].draw(random.Random(5), 0.1)
    assert simulate(policy, conversations, seed=5) == simulate(policy, conversations, seed=5)
    assert conversations == WORKLOADS["batch"].draw(random.Random(5), 0.1)
    assert conversations != WORKLOADS["batch"].draw(random.Random(6), 0.1)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_request_is_served_by_every_policy(policy: str) -> None:
    conversations = WORKLOADS["chat"].draw(random.Random(3), 0.1)
    assert simulate(policy, conversations, seed=3).requests == sum(len(each.turns) for each in conversations)


@pytest.mark.parametrize("seed", [1, 2])
def test_agents_find_their_instructions_in_the_cache_under_affinity_only(seed: int) -> None:
    affinity, loaded = outcome("agents", "prefix_affinity", seed), outcome("agents", "least_loaded", seed)
    assert affinity.hit_rate > 0.8 > 0.6 > loaded.hit_rate
    assert affinity.ttft_p50_s * 10 < loaded.ttft_p50_s
    assert affinity.ttft_p99_s * 3 < loaded.ttft_p99_s
    assert affinity.dollars_per_million < loaded.dollars_per_million * 0.9


def test_for_agents_turns_end_worse_than_looking_at_the_load() -> None:
    assert outcome("agents", "round_robin").ttft_p99_s > 2 * outcome("agents", "least_loaded").ttft_p99_s


def test_chats_begin_sooner_under_affinity() -> None:
    affinity, loaded = outcome("chat", "prefix_affinity"), outcome("chat", "least_loaded")
    assert affinity.hit_rate > 1.5 * loaded.hit_rate
    assert affinity.ttft_p50_s * 2 < loaded.ttft_p50_s
    assert affinity.ttft_p99_s < loaded.ttft_p99_s


def test_the_cheapest_first_is_cheaper_and_slower_for_chats() -> None:
    cheap, loaded = outcome("chat", "cheapest_first"), outcome("chat", "least_loaded")
    assert cheap.dollars_per_million < 0.8 * loaded.dollars_per_million
    assert cheap.ttft_p99_s > loaded.ttft_p99_s


def test_for_a_batch_all_come_to_the_same() -> None:
    rates = [outcome("batch", policy).hours for policy in POLICIES]
    assert max(rates) < 1.25 * min(rates)


def test_the_command_prints_a_table_and_writes_json_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "new" / "policies"
    given = ["--load", "0.05", "--seed", "4", "--workload", "batch", "--workload", "chat"]
    assert main([*given, "--json", f"{where}.json", "--plot", f"{where}.svg"]) == 0
    shown = capsys.readouterr().out
    assert shown == table(measure(["batch", "chat"], POLICIES, seed=4, load=0.05))
    document = json.loads(Path(f"{where}.json").read_text())
    assert [(row["workload"], row["policy"]) for row in document["results"]] == [
        (workload, policy) for workload in ("batch", "chat") for policy in POLICIES
    ]
    picture = Path(f"{where}.svg").read_text()
    assert picture.count("<rect") == 1 + 2 * len(POLICIES) * 4
    assert "chat sessions" in picture


@pytest.mark.parametrize("load", ["0", "nan", "100", "much"])
def test_a_load_that_cannot_be_simulated_is_refused(load: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--load", load])
    assert "--load" in capsys.readouterr().err
