"""The engine is told first, the stream is closed then, and nothing that goes wrong is anybody's problem."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from vastproxy.services.backends.abort import Aborter
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.backends.fetch import NO_HEADERS, ProbeResponse
from vastproxy.services.errors import BackendTimeout, ChannelRefused, TunnelLost

pytestmark = pytest.mark.virtual_time
RID = "0123456789abcdef" * 2


class Engine:
    """Answers an abort after `delay_s`. `log` has what happened, with the time."""

    def __init__(self, *, delay_s: float = 0.01, status: int = 200, error: Exception | None = None) -> None:
        self.delay_s, self.status, self.error = delay_s, status, error
        self.log: list[tuple[str, float]] = []
        self.asked: list[tuple[int, str, str, Mapping[str, str], Any]] = []
        self.running = self.peak = 0

    def note(self, what: str) -> None:
        self.log.append((what, round(asyncio.get_running_loop().time(), 3)))

    def closer(self, name: str = "closed") -> Callable[[], None]:
        return lambda: self.note(name)

    @property
    def closings(self) -> int:
        return sum(what.startswith("closed") for what, _ in self.log)

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
        self.asked.append((port, method, path, headers, json.loads(body)))
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        self.note("aborted")
        return ProbeResponse(self.status)


async def settle(aborter: Aborter) -> None:
    while len(aborter):
        await asyncio.sleep(0.01)


async def test_the_engine_is_told_before_the_stream_is_closed() -> None:
    engine, aborter = Engine(), Aborter()
    aborter.abort(engine, EngineKind.SGLANG, 18000, RID, token="secret", close=engine.closer())
    assert engine.log == []
    await settle(aborter)
    assert engine.log == [("aborted", 0.01), ("closed", 0.01)]
    ((port, method, path, headers, body),) = engine.asked
    assert (port, method, path, body) == (18000, "POST", "/abort_request", {"rid": RID})
    assert headers["authorization"] == "Bearer secret"
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("kind", "rid"),
    [*((kind, RID) for kind in EngineKind if kind is not EngineKind.SGLANG), ("sglang", None)],
)
async def test_where_closing_the_stream_is_the_way_it_is_closed_at_once(kind: str, rid: str | None) -> None:
    engine, aborter = Engine(), Aborter()
    aborter.abort(engine, EngineKind(kind), 18000, rid, token=None, close=engine.closer())
    assert engine.log == [("closed", 0.0)]
    assert engine.asked == []
    assert not len(aborter)


async def test_an_engine_that_does_not_answer_holds_the_stream_for_a_moment_and_the_abort_a_little_longer() -> (
    None
):
    engine, aborter = Engine(delay_s=3600), Aborter(close_after_s=0.05, limit_s=2.0)
    aborter.abort(engine, EngineKind.SGLANG, 18000, RID, token=None, close=engine.closer())
    await asyncio.sleep(1.9)
    assert (engine.log, len(aborter), bool(aborter)) == ([("closed", 0.05)], 1, True)
    await asyncio.sleep(0.2)
    assert (engine.closings, len(aborter), bool(aborter)) == (1, 0, True)


@pytest.mark.parametrize(
    "error", [ChannelRefused("closed"), TunnelLost("gone"), BackendTimeout("slow", phase="headers")]
)
async def test_a_failure_closes_the_stream_and_is_no_more_than_a_debug_line(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    engine, aborter = Engine(error=error), Aborter()
    with caplog.at_level(logging.DEBUG):
        aborter.abort(engine, EngineKind.SGLANG, 18000, RID, token="secret", close=engine.closer())
        await settle(aborter)
    assert engine.log == [("closed", 0.01)]
    lines = [record for record in caplog.records if record.name.startswith("vastproxy")]
    assert [record.levelno for record in lines] == [logging.DEBUG]
    assert str(error) in lines[0].getMessage()
    assert "secret" not in caplog.text


@pytest.mark.parametrize("status", [401, 404, 422, 500])
async def test_an_engine_that_declines_is_the_same(status: int, caplog: pytest.LogCaptureFixture) -> None:
    engine, aborter = Engine(status=status), Aborter()
    with caplog.at_level(logging.DEBUG, logger="vastproxy"):
        aborter.abort(engine, EngineKind.SGLANG, 18000, "x\n" * 20, token=None, close=engine.closer())
        await settle(aborter)
    assert engine.closings == 1
    (record,) = (record for record in caplog.records if record.name.startswith("vastproxy"))
    assert record.levelno == logging.DEBUG
    assert str(status) in record.getMessage()
    assert "\n" not in record.getMessage()


async def test_aborts_take_turns_and_every_stream_is_closed_in_time() -> None:
    engine = Engine(delay_s=0.03)
    aborter = Aborter(close_after_s=0.05, limit_s=0.1, max_parallel=4)
    for number in range(100):
        close = engine.closer(f"closed {number}")
        aborter.abort(engine, EngineKind.SGLANG, 18000, RID, token=None, close=close)
    await settle(aborter)
    assert engine.peak == 4
    assert len(engine.asked) == 16  # then the time was over for those that waited
    closings = {what: at for what, at in engine.log if what != "aborted"}
    assert len(closings) == engine.closings == 100
    assert max(closings.values()) <= 0.05


async def test_with_too_many_waiting_the_stream_is_closed_without() -> None:
    engine, aborter = Engine(), Aborter(max_waiting=2)
    for number in range(3):
        close = engine.closer(f"closed {number}")
        aborter.abort(engine, EngineKind.SGLANG, 18000, RID, token=None, close=close)
    assert engine.log == [("closed 2", 0.0)]
    await settle(aborter)
    assert (engine.closings, len(engine.asked)) == (3, 2)


async def test_closing_gives_up_and_closes_every_stream_also_of_what_had_not_begun() -> None:
    engine, aborter = Engine(delay_s=3600), Aborter(close_after_s=1000)
    aborter.abort(engine, EngineKind.SGLANG, 18000, RID, token=None, close=engine.closer())
    await asyncio.sleep(1)
    aborter.abort(engine, EngineKind.SGLANG, 18000, RID, token=None, close=engine.closer())
    await aborter.aclose()
    await asyncio.sleep(0)
    assert (engine.closings, len(aborter)) == (2, 0)
    aborter.abort(engine, EngineKind.SGLANG, 18000, RID, token=None, close=engine.closer())
    assert engine.closings == 3
    await aborter.aclose()


async def test_a_bug_still_closes_the_stream_and_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    engine, aborter = Engine(error=ZeroDivisionError("a bug")), Aborter()
    aborter.abort(engine, EngineKind.SGLANG, 18000, RID, token=None, close=engine.closer())
    await settle(aborter)
    assert engine.closings == 1
    assert "a bug" in caplog.text
