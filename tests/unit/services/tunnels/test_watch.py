"""Watched commands without a connection: lines, bounds, and ends."""

import asyncio
from collections.abc import Awaitable

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.watch import Allowance
from vastproxy.services.tunnels.watched import LineSession, attend


class Channel:
    """A channel of asyncssh's, as far as a session uses it."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def write_eof(self) -> None:
        raise AssertionError("the guard would take this for our end")


class Watched:
    """A session on a channel, and the lines that it has handed over."""

    def __init__(self, *, silence_s: float = 10.0, max_output_bytes: int = 100, stop_at: str = "") -> None:
        self.lines: list[str] = []
        self.stop_at = stop_at
        self.session = LineSession(
            "some; loop",
            self.take,
            asyncio.get_running_loop(),
            silence_s=silence_s,
            max_output_bytes=max_output_bytes,
        )
        self.channel = Channel()
        self.session.connection_made(self.channel)
        self.session.session_started()
        self.starting: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def take(self, line: str) -> bool:
        if line == "raise":
            raise ValueError("no such line")
        self.lines.append(line)
        return not self.stop_at or line != self.stop_at

    def feed(self, data: bytes, datatype: int | None = None) -> None:
        self.session.data_received(data, datatype)

    async def attend(self, *, started: bool = True, lost: Exception | None = None) -> int | None:
        if started:
            self.starting.set_result(None)
        return await attend(self.session, self.starting, who="instance 7", lost=lambda: lost)


async def test_lines_are_put_together_across_packets() -> None:
    watched = Watched()
    for data in (b"on", b"e\ntwo\n", b"\nfo", b"ur", b"\r\nrest"):
        watched.feed(data)
    assert watched.lines == ["one", "two", "", "four\r"]


async def test_what_is_no_text_is_replaced_and_stderr_is_not_handed_over() -> None:
    watched = Watched()
    watched.feed(b"a\xff\x00b\n")
    watched.feed(b"warning\n", asyncssh.EXTENDED_DATA_STDERR)
    assert watched.lines == ["a\N{REPLACEMENT CHARACTER}\x00b"]


async def test_false_ends_the_command_and_nothing_more_is_handed_over() -> None:
    watched = Watched(stop_at="stop")
    watched.feed(b"one\nstop\nthree\n")
    watched.feed(b"four\n")
    assert watched.lines == ["one", "stop"]
    assert watched.channel.aborted
    assert await watched.attend() is None


@pytest.mark.parametrize("chunk", [b"x" * 10, b"y\n" * 5])
async def test_a_flood_is_cut_off(chunk: bytes) -> None:
    """An endless line, or endless lines."""
    watched = Watched(max_output_bytes=100)
    for _ in range(1000):
        watched.feed(chunk)
    assert watched.channel.aborted
    assert sum(len(line) + 1 for line in watched.lines) <= 100
    assert await watched.attend() is None


async def test_standard_error_counts_too() -> None:
    watched = Watched(max_output_bytes=100)
    watched.feed(b"z" * 101, asyncssh.EXTENDED_DATA_STDERR)
    assert watched.channel.aborted


async def test_what_the_taker_raises_reaches_the_watcher_not_the_connection() -> None:
    watched = Watched()
    watched.feed(b"one\nraise\ntwo\n")
    assert watched.lines == ["one"]
    assert watched.channel.aborted
    with pytest.raises(ValueError, match="no such line"):
        await watched.attend()


async def test_the_exit_status_is_returned() -> None:
    watched = Watched()
    watched.session.exit_status_received(3)
    watched.session.connection_lost(None)
    assert await watched.attend() == 3
    unknown = Watched()
    unknown.session.connection_lost(None)
    assert await unknown.attend() is None


async def test_the_end_of_the_connection_is_told_by_its_reason() -> None:
    watched = Watched()
    watched.session.connection_lost(None)
    with pytest.raises(TunnelLost, match="gone"):
        await watched.attend(lost=TunnelLost("gone"))


async def test_what_went_wrong_at_the_start_is_raised() -> None:
    watched = Watched()
    watched.starting.set_result(TunnelLost("no session"))
    with pytest.raises(TunnelLost, match="no session"):
        await watched.attend(started=False)


@pytest.mark.virtual_time
async def test_silence_is_a_timeout_and_anything_heard_puts_it_off() -> None:
    watched = Watched(silence_s=10)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        attending = group.create_task(outcome_of(watched.attend()))
        for _ in range(5):
            await asyncio.sleep(9)
            watched.feed(b"x")
    assert loop.time() == 55
    assert isinstance(attending.result(), TimeoutError)
    assert "instance 7: a watched command was silent for 10 s" in str(attending.result())
    assert watched.channel.aborted


@pytest.mark.virtual_time
async def test_a_start_that_never_comes_is_a_timeout_too() -> None:
    watched = Watched(silence_s=10)
    with pytest.raises(TimeoutError):
        await watched.attend(started=False)
    assert not watched.starting.done(), "the opening goes on, and its session ends when it begins"
    assert watched.session.was_killed


async def test_cancelling_kills_the_command() -> None:
    watched = Watched()
    async with asyncio.TaskGroup() as group:
        attending = group.create_task(watched.attend())
        await asyncio.sleep(0)
        attending.cancel()
    assert watched.channel.aborted


async def outcome_of(work: Awaitable[object]) -> object:
    try:
        return await work
    except Exception as exc:
        return exc


@given(st.lists(st.binary(max_size=20), max_size=20), st.data())
def test_any_division_into_packets_gives_the_same_lines(pieces: list[bytes], data: st.DataObject) -> None:
    async def lines_of(packets: list[bytes]) -> list[str]:
        watched = Watched(max_output_bytes=10_000)
        for packet in packets:
            watched.feed(packet)
        return watched.lines

    whole = b"".join(pieces)
    cut = data.draw(st.integers(0, len(whole)))
    assert asyncio.run(lines_of([whole])) == asyncio.run(lines_of([whole[:cut], whole[cut:]]))


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 10)), max_size=50))
def test_an_allowance_is_never_exceeded(steps: list[tuple[int, float]]) -> None:
    """At most what may come at once, plus what the time since allows."""
    now, allowance, came = 0.0, Allowance(100, 10, 0.0), 0
    for size, pause_s in steps:
        now += pause_s
        if not allowance.take(size, now):
            break
        came += size
        assert came <= 100 + now * 10 + 1e-6
