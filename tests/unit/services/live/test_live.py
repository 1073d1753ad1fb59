"""The figures of a fleet, over a clock that the test moves."""

import asyncio
from dataclasses import dataclass

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.stories import lease
from vastproxy.jobs.live import LiveJob
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.gpus import Gpu, GpuReading
from vastproxy.services.dispatch.claim import NEVER, Claim
from vastproxy.services.events import FleetEvent, RequestFailed
from vastproxy.services.live.history import STEPS
from vastproxy.services.live.live import Live
from vastproxy.services.metrics.requests import RequestMetrics
from vastproxy.services.tasks import Tasks
from vastproxy.services.traces import Traces


@dataclass
class Requests:
    in_flight: int = 0
    waiting: int = 0


class Bench:
    """Two backends at $0.50 an hour, and time."""

    def __init__(self, *, follow: bool = True) -> None:
        self.now = 100.0
        self.backends: dict[int, Backend] = {}
        self.requests = Requests()
        self.metrics = RequestMetrics()
        self.traces = Traces(100, clock=self.clock, wall_clock=lambda: 0.0)
        self.told: list[FleetEvent] = []
        self.live = Live(
            self.backends,
            self.requests,
            self.traces,
            self.told.append,
            clock=self.clock,
            wall_clock=lambda: 1_000_000.0 + self.now,
        )
        if follow:
            self.live.follow(self.metrics)
        self.add(1, 2)

    def clock(self) -> float:
        return self.now

    def add(self, *ids: int) -> None:
        for id in ids:
            self.backends[id] = Backend(
                make_instance(id=id, dph_total=0.5, hourly_cost=0.5),
                token=None,
                now=self.now,
                last_seen=0,
                on_event=lambda *_: None,
            )

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            await self.live.tick()

    def finish(
        self, number: int = 1, *, status: int = 200, error: str | None = None, ttft_s: float = 0.1
    ) -> None:
        for _ in range(number):
            self.metrics.finished(
                "chat", "m", 1, status, error, 1, 0.0, ttft_s, 1.0, 10, 100, 3, 40, pieces=5, streamed=True
            )
            self.backends[1].requests += 1
            self.backends[1].failures += error is not None

    def story(self, why: str, *, status: int = 200, error: str | None = None, ttft_s: float = 0.1) -> Claim:
        """One that has ended."""
        claim = Claim(self.now - 1, b"r", b"POST", b"/v1/x")
        claim.leases = [lease(1, self.now - 1, why, ())]
        claim.lease = claim.leases[0]
        claim.status, claim.error_code, claim.pieces = status, error, 5
        claim.first_byte_at, claim.ended_at = claim.began_at + ttft_s, self.now
        self.traces.keep(claim)
        return claim


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_fleet_that_does_nothing(bench: Bench) -> None:
    await bench.pass_time(30)
    totals = bench.live.totals()
    assert totals == {
        "in_flight": 0,
        "waiting": 0,
        "requests_per_s": 0.0,
        "errors_per_s": 0.0,
        "tokens_in_per_s": 0.0,
        "tokens_out_per_s": 0.0,
        "sticky_share": None,
        "requests": 0,
        "errors": 0,
        "tokens_in": 0,
        "tokens_out": 0,
        "dollars_per_hour": 1.0,
        "dollars_per_million_tokens": None,
        "ttft_p50_ms": None,
        "ttft_p99_ms": None,
    }
    assert bench.live.row(bench.backends[1]) == {"tokens_per_s": 0.0, "requests_per_s": 0.0, "errors": 0}


async def test_rates_are_means_of_the_last_ten_seconds(bench: Bench) -> None:
    for _ in range(60):
        bench.finish(2)
        await bench.pass_time(1)
    totals = bench.live.totals()
    assert totals["requests_per_s"] == pytest.approx(2.0, rel=0.1)
    assert totals["tokens_out_per_s"] == pytest.approx(80.0, rel=0.1)
    assert totals["tokens_in_per_s"] == pytest.approx(6.0, rel=0.1)
    assert (totals["requests"], totals["tokens_out"]) == (120, 4800)
    await bench.pass_time(11)
    totals = bench.live.totals()
    assert (totals["requests_per_s"], totals["tokens_out_per_s"], totals["requests"]) == (0.0, 0.0, 120)


async def test_a_long_answer_counts_while_it_comes(bench: Bench) -> None:
    """30 tokens a second for a minute: that is the rate all along, and no burst at its end."""
    claim = bench.story("prefix")
    claim.stream, claim.pieces, claim.ended_at = True, 0, NEVER
    for second in range(60):
        claim.pieces += 30
        await bench.pass_time(1)
        if second > 25:
            assert bench.live.totals()["tokens_out_per_s"] == pytest.approx(30, rel=0.1)
            assert bench.live.row(bench.backends[1])["tokens_per_s"] == pytest.approx(30, rel=0.15)
    assert bench.live.totals()["tokens_out"] == 0
    bench.metrics.finished(
        "chat", "m", 1, 200, None, 1, 0.0, 0.1, 60.0, 1, 1, 3, 1810, pieces=1800, streamed=True
    )
    claim.ended_at = bench.now
    await bench.pass_time(1)
    assert bench.live.totals()["tokens_out_per_s"] == pytest.approx(30, rel=0.15)
    assert bench.live.totals()["tokens_out"] == 1810
    await bench.pass_time(20)
    assert bench.live.totals()["tokens_out_per_s"] == 0
    assert sum(point["tokens_out"] for point in bench.live.history(60)) == 1810


async def test_a_backend_has_its_own_figures(bench: Bench) -> None:
    for _ in range(40):
        bench.finish(1)
        await bench.pass_time(1)
    bench.finish(2, status=502, error="backend_interrupted")
    busy, idle = (bench.live.row(bench.backends[id]) for id in (1, 2))
    assert busy["tokens_per_s"] == pytest.approx(40.0, rel=0.15)
    assert busy["requests_per_s"] == pytest.approx(1.0, rel=0.25)
    assert busy["errors"] == 2
    assert idle == {"tokens_per_s": 0.0, "requests_per_s": 0.0, "errors": 0}
    await bench.pass_time(290)
    assert bench.live.row(bench.backends[1])["errors"] == 2
    await bench.pass_time(40)
    assert bench.live.row(bench.backends[1])["errors"] == 0


async def test_the_price_of_a_million_tokens_is_that_of_the_last_minutes(bench: Bench) -> None:
    """$1.00 an hour, and 43 tokens a second, prompts and answers: 154,800 an hour."""
    for _ in range(400):
        bench.finish(1)
        await bench.pass_time(1)
    assert bench.live.totals()["dollars_per_million_tokens"] == pytest.approx(1e6 / 154_800, rel=0.02)
    await bench.pass_time(320)
    assert bench.live.totals()["dollars_per_million_tokens"] is None


async def test_times_to_the_first_byte_are_those_of_the_last_minutes(bench: Bench) -> None:
    bench.finish(50, ttft_s=30.0)
    await bench.pass_time(400)
    assert bench.live.totals()["ttft_p50_ms"] is None
    bench.finish(98, ttft_s=0.09)
    bench.finish(2, ttft_s=6.0)
    await bench.pass_time(5)
    totals = bench.live.totals()
    assert 80 <= totals["ttft_p50_ms"] <= 100
    assert 5_000 <= totals["ttft_p99_ms"] <= 7_500


async def test_the_share_of_those_who_find_their_place_again(bench: Bench) -> None:
    for why in ("prefix", "prefix", "session", "session moved", "least loaded", "pinned"):
        bench.story(why)
    await bench.pass_time(1)
    assert bench.live.totals()["sticky_share"] == 0.75
    await bench.pass_time(290)
    assert bench.live.totals()["sticky_share"] == 0.75
    await bench.pass_time(40)
    assert bench.live.totals()["sticky_share"] is None


async def test_failures_become_events_soon_and_few(bench: Bench) -> None:
    for _ in range(50):
        bench.story("prefix", status=502, error="backend_unreachable")
    await bench.pass_time(0.5)
    assert bench.told == [RequestFailed(1, "r", None, 502, "backend_unreachable", "")] * 5
    await bench.pass_time(2)
    assert [event.more for event in bench.told[5:] if isinstance(event, RequestFailed)] == [44]


# ── history ────────────────────────────────────────────────────────────────────────────────────


async def test_the_hour_in_steps(bench: Bench) -> None:
    bench.backends[1].gpus = GpuReading(
        (
            Gpu(0, utilization_percent=90.0, memory_used_mib=600.0, memory_total_mib=1000.0),
            Gpu(1, utilization_percent=50.0, memory_used_mib=200.0, memory_total_mib=1000.0),
            Gpu(2),
        )
    )
    bench.requests.in_flight, bench.requests.waiting = 3, 1
    bench.backends[1].in_flight = 3
    bench.finish(4)
    bench.finish(1, status=502, error="backend_interrupted")
    bench.story("prefix", ttft_s=0.2)
    bench.story("prefix", ttft_s=0.4)
    await bench.pass_time(10)
    bench.finish(1)
    await bench.pass_time(10)
    first, second = bench.live.history(60)
    assert first == {
        "at_unix": 1_000_110.0,
        "requests": 5,
        "errors": 1,
        "tokens_in": 15,
        "tokens_out": 200,
        "ttft_p50_ms": 90.0,
        "in_flight": 3,
        "waiting": 1,
        "gpu_percent": 70.0,
        "gpu_memory_percent": 40.0,
        "dollars_per_hour": 1.0,
        "healthy": 0,
    }
    assert (second["at_unix"], second["requests"], second["errors"]) == (1_000_120.0, 1, 0)
    mine, _ = bench.live.history(60, instance_id=1)
    assert mine == {
        "at_unix": 1_000_110.0,
        "requests": 5,
        "errors": 1,
        "tokens_in": None,
        "tokens_out": 160,
        "ttft_p50_ms": 300.0,
        "in_flight": 3,
        "waiting": None,
        "gpu_percent": 70.0,
        "gpu_memory_percent": 40.0,
        "dollars_per_hour": 0.5,
        "healthy": 0,
    }
    assert next(bench.live.history(60, instance_id=2))["requests"] == 0


async def test_less_than_an_hour_may_be_asked_for_and_more_is_not_kept(bench: Bench) -> None:
    await bench.pass_time(120)
    assert len(list(bench.live.history(60))) == 12
    assert len(list(bench.live.history(1))) == 6
    assert list(bench.live.history(0)) == []
    await bench.pass_time(3700)
    assert len(list(bench.live.history(6000))) == STEPS
    assert len(list(bench.live.history(60, instance_id=2))) == STEPS


async def test_an_instance_that_is_not_served_has_no_history(bench: Bench) -> None:
    with pytest.raises(KeyError):
        bench.live.history(60, instance_id=9)


async def test_a_pause_of_the_process_leaves_a_gap_and_nothing_else(bench: Bench) -> None:
    await bench.pass_time(20)
    bench.now += 35
    bench.finish(1)
    await bench.pass_time(10)
    times = [point["at_unix"] for point in bench.live.history(60)]
    assert times == [1_000_110.0, 1_000_120.0, 1_000_150.0, 1_000_160.0]


async def test_an_instance_that_is_gone_is_forgotten_and_one_that_comes_back_is_new(bench: Bench) -> None:
    bench.finish(5)
    await bench.pass_time(15)
    bench.metrics.forget(1)
    del bench.backends[1]
    await bench.pass_time(10)
    assert len(bench.live._by_id) == 1
    bench.add(1)
    bench.finish(1)
    await bench.pass_time(10)
    (point,) = bench.live.history(60, instance_id=1)
    assert (point["requests"], point["tokens_out"]) == (1, 40)
    assert all(point["requests"] >= 0 for point in bench.live.history(60))


async def test_an_instance_that_is_replaced_between_two_looks_is_new_too(bench: Bench) -> None:
    bench.finish(5)
    await bench.pass_time(15)
    bench.metrics.forget(1)
    bench.add(1)
    await bench.pass_time(10)
    assert next(bench.live.history(60, instance_id=1))["requests"] == 0
    assert bench.live.row(bench.backends[1])["tokens_per_s"] == 0.0


# ── what others add ────────────────────────────────────────────────────────────────────────────


async def test_others_may_add_to_it(bench: Bench) -> None:
    bench.live.row_parts.append(lambda backend: {"machine": backend.id * 10})
    bench.live.total_parts.append(lambda: {"tokens_today": 7})
    assert bench.live.row(bench.backends[2])["machine"] == 20
    assert bench.live.totals()["tokens_today"] == 7


async def test_without_counters_there_is_still_a_fleet() -> None:
    bench = Bench(follow=False)
    bench.finish(5)
    await bench.pass_time(20)
    assert bench.live.totals()["requests"] == 0
    assert bench.live.row(bench.backends[1])["tokens_per_s"] == 0.0
    assert next(bench.live.history(60))["dollars_per_hour"] == 1.0


async def test_a_job_keeps_them_up(bench: Bench) -> None:
    bench.story("prefix", status=502, error="backend_unreachable")
    tasks = Tasks("figures")
    tasks.spawn(LiveJob(bench.live, interval_s=0.001).run(), name="live")
    async with asyncio.timeout(5):
        while not bench.told:
            await asyncio.sleep(0)
    await tasks.aclose()
