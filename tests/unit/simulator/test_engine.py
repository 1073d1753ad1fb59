"""An engine's queue, pace, aborts and death, in virtual time."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from vastproxy.simulator.engine import End, Engine, Generation, QueueFull
from vastproxy.simulator.metrics import llamacpp_metrics, sglang_metrics, tgi_metrics, vllm_metrics

pytestmark = pytest.mark.virtual_time


def engine(flavour: str = "vllm", **options: Any) -> Engine:
    return Engine(flavour, tokens_per_s=10.0, first_token_s=0.5, **options)


async def take(it: Engine, *, rid: str = "r", tokens: int = 10) -> tuple[list[float], Generation]:
    """Ask for so many tokens; the times at which they came."""
    clock, began = asyncio.get_running_loop().time, asyncio.get_running_loop().time()
    body = {"max_tokens": tokens, "ignore_eos": True}
    async with it.generation(rid, body, "hi") as work, aclosing(it.tokens(work)) as made:
        return [clock() - began async for _ in made], work


async def test_tokens_come_at_the_set_rate_after_the_first_pause() -> None:
    times, work = await take(engine())
    assert times == pytest.approx([0.5 + i / 10 for i in range(10)])
    assert work.sent == 10


async def test_slowing_down_stretches_every_token() -> None:
    it = engine()
    it.slowness = 4.0
    times, _ = await take(it, tokens=3)
    assert times == pytest.approx([2.0, 2.4, 2.8])


async def test_counts_follow_the_work() -> None:
    it = engine()
    await take(it)
    assert (it.served, it.generated_tokens, it.active_streams, it.waiting) == (1, 10, 0, 0)
    assert it.load == 0


async def test_more_than_the_slots_wait_their_turn() -> None:
    it = engine("ollama")
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(take(it, rid=str(i), tokens=1)) for i in range(3)]
        await asyncio.sleep(0.1)
        assert (it.active_streams, it.waiting, it.load) == (1, 2, 1.0)
    assert it.served == 3
    ends = [task.result()[0][-1] for task in asked]
    assert ends == sorted(ends)
    assert ends[-1] >= 1.5


async def test_a_full_queue_refuses() -> None:
    it = engine("ollama")
    it.queue = 1
    async with asyncio.TaskGroup() as group:
        for i in range(2):
            group.create_task(take(it, rid=str(i), tokens=1))
        await asyncio.sleep(0.1)
        with pytest.raises(QueueFull):
            await take(it)


async def test_abort_ends_by_prefix_and_only_what_is_connected() -> None:
    """SGLang's scheduler matches by prefix; after the client has left, its request is not found any more."""
    it = engine("sglang")
    async with asyncio.TaskGroup() as group:
        asked = {rid: group.create_task(take(it, rid=rid)) for rid in ("ab1", "ab2", "c", "d")}
        await asyncio.sleep(0.7)
        gone = next(work for work in it.active if work.rid == "d")
        it.left(gone)
        assert sorted(it.abort("ab")) == ["ab1", "ab2"]
        assert it.abort("d") == []
        assert it.abort("ab") == []
    assert {rid: task.result()[1].end for rid, task in asked.items()} == {
        "ab1": End.ABORTED,
        "ab2": End.ABORTED,
        "c": None,
        "d": None,
    }
    assert list(it.aborted) == ["ab1", "ab2"]
    assert list(it.abandoned) == ["d"]
    assert asked["d"].result()[1].sent == 10


async def test_other_engines_stop_when_the_client_leaves() -> None:
    it = engine("vllm")
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(take(it))
        await asyncio.sleep(0.7)
        it.left(it.active[0])
    assert asked.result()[1].end is End.DISCONNECTED
    assert asked.result()[1].sent < 10
    assert it.served == 0


async def test_abort_all() -> None:
    it = engine("sglang")
    async with asyncio.TaskGroup() as group:
        group.create_task(take(it, rid="a"))
        group.create_task(take(it, rid="b"))
        await asyncio.sleep(0.7)
        assert len(it.abort(None)) == 2


async def test_frozen_engines_make_no_token_and_go_on_after() -> None:
    it = engine()
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(take(it))
        await asyncio.sleep(0.75)
        it.freeze()
        await asyncio.sleep(100)
        assert it.active[0].sent == 3
        it.thaw()
    times, _ = asked.result()
    assert len(times) == 10
    assert times[3] >= 100


async def test_a_crash_ends_what_runs_and_what_waits_until_revived() -> None:
    it = engine("ollama")
    it.freeze()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(take(it, rid=str(i))) for i in range(2)]
        await asyncio.sleep(0.6)
        it.crash()
        began = asyncio.get_running_loop().time()
    assert [task.result()[1].end for task in asked] == [End.CRASHED, End.CRASHED]
    assert asyncio.get_running_loop().time() - began < 0.1
    assert it.served == 0
    it.revive()
    assert (await take(it))[1].end is None


async def test_idling_ends_with_the_engine() -> None:
    it, clock = engine(), asyncio.get_running_loop().time
    await it.idle(2)
    assert clock() == pytest.approx(2)
    async with asyncio.TaskGroup() as group:
        group.create_task(it.idle(1000))
        await asyncio.sleep(1)
        it.crash()
    assert clock() == pytest.approx(3)


async def test_metrics_tell_the_state() -> None:
    it = engine("llamacpp")
    async with asyncio.TaskGroup() as group:
        for i in range(6):
            group.create_task(take(it, rid=str(i)))
        await asyncio.sleep(0.7)
        assert 'sglang:num_running_reqs{engine_type="unified"' in sglang_metrics(it)
        assert 'vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-8B"} 4.0' in vllm_metrics(it)
        assert "llamacpp:requests_processing 4.0\n" in llamacpp_metrics(it)
        assert "llamacpp:requests_deferred 2.0\n" in llamacpp_metrics(it)
        assert "llamacpp:predicted_tokens_seconds 40.0\n" in llamacpp_metrics(it)
        assert "tgi_queue_size 2.0\n" in tgi_metrics(it)


async def test_reprs_are_short() -> None:
    it = engine()
    assert repr(it) == "<Engine vllm running=0 waiting=0 served=0>"
    assert it.last_request is None
