"""The log writer: every line once and in order, and nobody waits for the descriptor."""

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.logwriter import BATCH_BYTES, LIMIT_BYTES, LogWriter

LIMIT_S = 10.0
#: So long that within a test no line is written because of the time.
NEVER_S = 3600.0


class Output:
    """What a descriptor took. `gate` closed: writing blocks. `faults`: what the next writes raise, or take at most."""

    def __init__(self, *faults: OSError | int) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.faults = list(faults)
        self.pieces: list[bytes] = []
        self.released = threading.Event()
        self._grown = threading.Condition()

    def write(self, data: memoryview) -> int:
        self.began.set()
        assert self.gate.wait(LIMIT_S)
        fault = self.faults.pop(0) if self.faults else len(data)
        if isinstance(fault, OSError):
            raise fault
        with self._grown:
            self.pieces.append(bytes(data[:fault]))
            self._grown.notify_all()
        return min(fault, len(data))

    @property
    def text(self) -> bytes:
        return b"".join(self.pieces)

    def until(self, condition: Callable[[], bool]) -> None:
        with self._grown:
            assert self._grown.wait_for(condition, LIMIT_S), self.pieces


def open_writer(
    output: Output,
    *,
    interval_s: float = NEVER_S,
    batch_bytes: int = BATCH_BYTES,
    limit_bytes: int = LIMIT_BYTES,
) -> LogWriter:
    return LogWriter(
        output.write,
        release=output.released.set,
        interval_s=interval_s,
        batch_bytes=batch_bytes,
        limit_bytes=limit_bytes,
    )


@pytest.fixture
def output() -> Iterator[Output]:
    output = Output()
    yield output
    output.gate.set()


def stuck(output: Output, writer: LogWriter) -> None:
    """From now on the descriptor takes nothing, and the thread is in the middle of a write of `head`."""
    output.gate.clear()
    output.began.clear()
    writer.put(b"head\n", urgent=True)
    assert output.began.wait(LIMIT_S)


# -- when lines are written ----------------------------------------------------------------------------


def test_the_first_line_of_an_idle_writer_is_written_at_once(output: Output) -> None:
    with open_writer(output) as writer:
        writer.put(b"listening\n")
        output.until(lambda: output.text == b"listening\n")


def test_lines_gather_and_are_written_together(output: Output) -> None:
    """A hundred lines are one write."""
    with open_writer(output) as writer:
        writer.put(b"first\n")
        output.until(lambda: output.pieces == [b"first\n"])
        for number in range(100):
            writer.put(b"%d\n" % number)
        assert writer.flush(limit_s=LIMIT_S)
    assert output.pieces == [b"first\n", b"".join(b"%d\n" % number for number in range(100))]


def test_what_has_gathered_is_written_when_the_interval_ends(output: Output) -> None:
    with open_writer(output, interval_s=0.01) as writer:
        writer.put(b"first\n")
        output.until(lambda: output.text == b"first\n")
        writer.put(b"second\n")
        output.until(lambda: output.text == b"first\nsecond\n")


def test_an_urgent_line_does_not_wait_and_keeps_its_place(output: Output) -> None:
    with open_writer(output) as writer:
        writer.put(b"first\n")
        output.until(lambda: output.text == b"first\n")
        writer.put(b"second\n")
        writer.put(b"error\n", urgent=True)
        output.until(lambda: output.text == b"first\nsecond\nerror\n")


def test_a_full_batch_does_not_wait(output: Output) -> None:
    with open_writer(output, batch_bytes=10_000) as writer:
        writer.put(b"first\n")
        output.until(lambda: output.text == b"first\n")
        for _ in range(10):
            writer.put(b"x" * 999 + b"\n")
        output.until(lambda: output.text.count(b"x") >= 9 * 999)


def test_a_flush_with_nothing_to_write_returns(output: Output) -> None:
    with open_writer(output) as writer:
        assert writer.flush(limit_s=LIMIT_S)
    assert output.pieces == []


def test_a_flush_of_a_stuck_writer_gives_up(output: Output) -> None:
    with open_writer(output) as writer:
        stuck(output, writer)
        assert not writer.flush(limit_s=0.02)
        output.gate.set()
    assert output.text == b"head\n"


def test_lines_of_many_threads_come_once_and_each_threads_in_order(output: Output) -> None:
    def work(name: int) -> None:
        for number in range(300):
            writer.put(b"%d %d\n" % (name, number), urgent=number % 50 == 0)

    with open_writer(output, interval_s=0.001, batch_bytes=2000) as writer:
        threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [tuple(map(int, line.split())) for line in output.text.splitlines()]
    assert sorted(lines) == [(name, number) for name in range(6) for number in range(300)]
    for name in range(6):
        assert [number for who, number in lines if who == name] == list(range(300))


# -- when there is no room -----------------------------------------------------------------------------


def test_memory_is_bounded_and_a_line_tells_where_how_many_were_lost(output: Output) -> None:
    """Every line is either there or counted, the count stands between those before and those after."""
    with open_writer(output, limit_bytes=50_000, batch_bytes=4000) as writer:
        stuck(output, writer)
        for number in range(1000):
            writer.put(b"%06d %s\n" % (number, b"x" * 92))
        assert re.search(r" held=(\d+) ", repr(writer))
        assert int(repr(writer).partition("held=")[2].split()[0]) <= 50_000
        output.gate.set()
        assert writer.flush(limit_s=LIMIT_S)
        writer.put(b"after\n")
    lines = output.text.splitlines()
    assert lines[0] == b"head"
    kept = [int(line.split()[0]) for line in lines[1:-2]]
    assert kept == list(range(len(kept)))
    assert 300 < len(kept) < 500
    assert lines[-2:] == [b"%d lines were lost" % (1000 - len(kept)), b"after"]


def test_a_loss_is_told_although_nothing_follows(output: Output) -> None:
    with open_writer(output, limit_bytes=1000, interval_s=0.01) as writer:
        stuck(output, writer)
        writer.put(b"too long" * 1000)
        output.gate.set()
        output.until(lambda: output.text == b"head\n1 lines were lost\n")


def test_after_a_loss_half_of_the_memory_must_be_free(output: Output) -> None:
    """Else a slow reader would be told of a loss after each line."""
    with open_writer(output, limit_bytes=10_000) as writer:
        stuck(output, writer)
        writer.put(b"a" * 9000 + b"\n")
        for _ in range(5):
            writer.put(b"b" * 2000 + b"\n")
            writer.put(b"c\n")  # there would be room for it
        output.gate.set()
    assert b"c" not in output.text
    assert output.text.endswith(b"a\n10 lines were lost\n")


# -- when writing fails --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_is_tried_again(number: int) -> None:
    """A disk that is full and emptied, a reader that goes and comes back: no line is lost."""
    output = Output(OSError(number, os.strerror(number)), 3, OSError(number, os.strerror(number)))
    with open_writer(output) as writer:
        writer.put(b"one\n")
        writer.put(b"two\n")
        assert writer.flush(limit_s=LIMIT_S)
    assert output.text == b"one\ntwo\n"


@given(
    lines=st.lists(st.binary(max_size=30), max_size=20),
    faults=st.lists(st.integers(1, 40) | st.just(OSError(errno.EAGAIN, "full")), max_size=4),
)
def test_however_the_descriptor_takes_bytes_it_gets_all_of_them_in_order(
    lines: list[bytes], faults: list[OSError | int]
) -> None:
    output = Output(*faults)
    with open_writer(output, batch_bytes=200) as writer:
        for line in lines:
            writer.put(line)
        assert writer.close(limit_s=LIMIT_S, stall_s=LIMIT_S)
    assert output.text == b"".join(lines)


# -- the end -------------------------------------------------------------------------------------------


def test_close_writes_what_there_is_and_releases(output: Output) -> None:
    writer = open_writer(output, batch_bytes=500)
    for number in range(100):
        writer.put(b"%d\n" % number)
    assert writer.close()
    assert output.text == b"".join(b"%d\n" % number for number in range(100))
    assert output.released.is_set()
    assert writer.close()
    assert writer.flush()
    writer.put(b"too late\n")
    assert b"too late" not in output.text
    assert "closed" in repr(writer)


def test_close_tells_of_a_loss(output: Output) -> None:
    writer = open_writer(output, limit_bytes=1000)
    stuck(output, writer)
    writer.put(b"too long" * 1000)
    output.gate.set()
    assert writer.close()
    assert output.text == b"head\n1 lines were lost\n"


def test_close_gives_up_a_descriptor_that_takes_nothing(output: Output) -> None:
    """Within stall_s; the thread ends when the write does, and writes no more."""
    writer = open_writer(output)
    stuck(output, writer)
    writer.put(b"more\n")
    assert not writer.close(limit_s=LIMIT_S, stall_s=0.02)
    assert not output.released.is_set()
    assert "closing" in repr(writer)
    assert not writer.flush(limit_s=NEVER_S)
    assert not writer.close(limit_s=NEVER_S, stall_s=NEVER_S)
    output.gate.set()
    assert output.released.wait(LIMIT_S)
    assert output.text == b"head\n"


def test_close_gives_up_at_once_when_the_reader_has_gone() -> None:
    output = Output(*[OSError(errno.EPIPE, "gone")] * 10_000)
    writer = open_writer(output)
    writer.put(b"line\n")
    assert not writer.close(limit_s=NEVER_S, stall_s=NEVER_S)
    assert output.released.wait(LIMIT_S), "by the thread, which may end a moment later"


def test_close_waits_for_a_slow_reader() -> None:
    """One that is full now and then is not one that has gone."""
    output = Output(OSError(errno.EAGAIN, "full"), 2, OSError(errno.EAGAIN, "full"))
    writer = open_writer(output)
    writer.put(b"a line\n")
    assert writer.close(limit_s=LIMIT_S, stall_s=LIMIT_S)
    assert output.text == b"a line\n"


def test_logging_in_the_middle_of_a_put_does_not_deadlock(output: Output) -> None:
    """As a destructor does, which runs at any moment in any thread."""
    writers: list[LogWriter] = []

    def lost_line(count: int) -> bytes:
        writers[0].put(b"in the middle\n", urgent=True)
        return b"lost %d\n" % count

    with LogWriter(output.write, lost_line=lost_line, limit_bytes=1000, interval_s=NEVER_S) as writer:
        writers.append(writer)
        stuck(output, writer)
        writer.put(b"too long" * 1000)
        writer.put(b"after\n")
        output.gate.set()
        assert writer.flush(limit_s=LIMIT_S)
    assert output.text == b"head\nin the middle\nlost 1\nafter\n"


def test_a_descriptor_that_does_not_block_gets_all_and_may_be_closed_by_its_owner() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    lines = [b"%d %s\n" % (number, b"x" * 1000) for number in range(200)]
    with os.fdopen(reading, "rb") as reader:
        writer = LogWriter.to_descriptor(writing)
        os.close(writing)
        for line in lines:
            writer.put(line)
        received = [reader.readline() for _ in lines]
        assert writer.close()
        assert reader.read() == b""
    assert received == lines


def test_lines_can_be_led_elsewhere() -> None:
    """To another descriptor and back, while they come."""
    first, second = os.pipe(), os.pipe()
    writer = LogWriter.to_descriptor(first[1])
    try:
        writer.put(b"one\n", urgent=True)
        assert writer.flush(limit_s=LIMIT_S)
        writer.lead_to(second[1])
        writer.put(b"two\n", urgent=True)
        assert writer.flush(limit_s=LIMIT_S)
        writer.lead_to(first[1])
        writer.put(b"three\n", urgent=True)
        assert writer.close()
        writer.lead_to(second[1])
        assert (os.read(first[0], 99), os.read(second[0], 99)) == (b"one\nthree\n", b"two\n")
    finally:
        for descriptor in (*first, *second):
            os.close(descriptor)


def test_one_without_a_descriptor_cannot_be_led() -> None:
    output = Output()
    with LogWriter(output.write) as writer:
        writer.lead_to(2)
        writer.put(b"here\n")
    assert output.text == b"here\n"
