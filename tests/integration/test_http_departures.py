"""A client leaves while nothing is read from it: its upload is held up because the engine does not take it, or it has
sent further requests ahead. It is noticed all the same, at once."""

import asyncio
import contextlib
import logging
import re
import socket
import time

import pytest

from tests.helpers.stage import Stage, next_head, until
from tests.helpers.steady import Steady
from tests.helpers.talk import Talk, get
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.api.http.departures import Departures

pytestmark = BOTH_LOOPS

#: The promise is 100 ms. A machine that runs other tests at the same time gets more.
LIMIT_S = 0.5
UPLOAD_BYTES = 60_000_000


class Busy:
    """An engine that reads a head and then nothing more until it is `free`; then everything to the end."""

    def __init__(self) -> None:
        self.free = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next_head(reader)
        await self.free.wait()
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 20):
                pass


async def check_stopped(stage: Stage, engine: Busy, steady: Steady) -> None:
    """The place is free at once, and the engine finds that its connection has ended."""
    left_at = time.monotonic()
    await until(lambda: stage.backend.in_flight == 0)
    assert await steady.took_s(left_at, time.monotonic()) < LIMIT_S
    engine.free.set()
    await until(lambda: stage.script.open_connections == 0)
    await stage.idle()


async def held_up(talk: Talk, stage: Stage) -> None:
    """An upload has begun and gets no further: neither the engine nor we take any more of it."""
    talk.write(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % UPLOAD_BYTES)
    await until(lambda: stage.backend.in_flight == 1)
    piece = bytes(1 << 20)
    for _ in range(UPLOAD_BYTES // len(piece)):
        talk.write(piece)
        try:
            async with asyncio.timeout(0.2):
                await talk.drain()
        except TimeoutError:
            return
    pytest.fail("all of the upload was taken, although the engine takes none")


async def test_while_its_upload_is_held_up(caplog: pytest.LogCaptureFixture) -> None:
    """The engine's connection is ended and the lease given back; it is logged as a departure, not as a failure.

    By a reset: the end of a client with unsent data would wait behind that, and nobody could see it.
    """
    caplog.set_level(logging.INFO)
    engine = Busy()
    async with Stage(engine) as stage, Talk(stage.port) as talk, Steady() as steady:
        await held_up(talk, stage)
        talk.reset()
        await check_stopped(stage, engine, steady)
    statuses = [re.search(r"status=(\d+)", each.getMessage()) for each in caplog.records]
    assert [found[1] for found in statuses if found] == ["499"]


@pytest.mark.parametrize("how", ["reset", "finish"])
async def test_behind_requests_sent_ahead(how: str) -> None:
    """A hundred kilobytes of further requests wait unread; the first one's engine is told when the client goes."""
    engine = Busy()
    async with Stage(engine) as stage, Talk(stage.port) as talk, Steady() as steady:
        talk.write(get() + get("/" + "a" * 8000) * 40)
        await until(lambda: stage.backend.in_flight == 1)
        await talk.drain()
        getattr(talk, how)()
        await check_stopped(stage, engine, steady)


# ── by itself ──────────────────────────────────────────────────────────────────────────────────


class Pair:
    """Two ends of a connection; `left` says how often the near one was told that the far one is gone."""

    def __init__(self, departures: Departures, *, halfway: bool = True) -> None:
        self.near, self.far = socket.socketpair()
        self.left = 0
        self._departures = departures
        departures.watch(self.near.fileno(), self._told, halfway=halfway)

    def _told(self) -> None:
        self.left += 1

    def forget(self) -> None:
        self._departures.forget(self.near.fileno(), self._told)

    def close(self) -> None:
        self.near.close()
        self.far.close()


async def test_each_departure_is_told_once_and_nobody_elses() -> None:
    departures = Departures()
    pairs = [Pair(departures) for _ in range(5)]
    pairs[2].far.sendall(b"unread")
    pairs[2].far.shutdown(socket.SHUT_WR)
    pairs[4].far.close()
    await until(lambda: pairs[2].left and pairs[4].left)
    assert [pair.left for pair in pairs] == [0, 0, 1, 0, 1]
    assert len(departures) == 3
    for pair in pairs:
        pair.forget()
        pair.close()
    assert len(departures) == 0


async def test_half_an_end_is_none_where_it_is_not_meant() -> None:
    departures = Departures()
    pair = Pair(departures, halfway=False)
    pair.far.shutdown(socket.SHUT_WR)
    for _ in range(5):
        await asyncio.sleep(0.01)  # nothing is to happen
    assert pair.left == 0
    pair.far.close()
    await until(lambda: pair.left)
    pair.close()
    assert len(departures) == 0


async def test_a_number_that_is_another_ones_by_now_is_not_forgotten() -> None:
    """A connection was closed before it was forgotten, and its descriptor's number was given out again."""
    departures = Departures()
    first = Pair(departures)
    number = first.near.fileno()
    first.close()
    second = Pair(departures)
    assert second.near.fileno() == number, "the system gives out the lowest free number"
    departures.forget(number, first._told)
    second.far.close()
    await until(lambda: second.left)
    assert first.left == 0
    second.close()
    assert len(departures) == 0


async def test_watching_the_same_one_again_changes_what_is_watched_for() -> None:
    departures = Departures()
    pair = Pair(departures)
    told: list[str] = []
    departures.watch(pair.near.fileno(), lambda: told.append("again"), halfway=True)
    pair.far.close()
    await until(lambda: told)
    assert (told, pair.left) == (["again"], 0)
    pair.close()
    assert len(departures) == 0
