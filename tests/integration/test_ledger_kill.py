"""A ledger survives the sudden end of the process that writes it, and of several that write the same one."""

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from vastproxy.services.ledger.store import open_to_read

ROOT = Path(__file__).parents[2]
KILLS = 30

#: Writes batch after batch: one request with seven tokens, and the next second of one instance. It says when it has
#: begun to write one, and when that was done.
WRITER = """
import sys
from pathlib import Path
from vastproxy.services.ledger.batch import Batch, Experience, Rent, Served
from vastproxy.services.ledger.store import Store

path, name, hour = Path(sys.argv[1]), sys.argv[2], 1_800_000_000
store = Store(path, writer=name)
for number in range(1, 3_000):
    rent = Rent(hour, 1, 7, "1@1", "1x A", True, 3600.0, seen=(1 << number) - 1)
    served = Served(hour, 1, "m", name, requests=1, tokens_in=3, tokens_out=4)
    print("begun", number, flush=True)
    batch = Batch(number, hour + number, (rent,), (served,), (Experience(7, requests=1),))
    store.write(batch)
    store.write(batch)
    print("done", number, flush=True)
"""


class Writer:
    """A process that writes."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), name],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_after(self, words: int, spins: int) -> tuple[int, int]:
        """Kill it some lines and a moment later. Returns the batches that it had begun, and those it had done."""
        assert self._process.stdout is not None
        begun = done = 0
        for _ in range(words):
            begun, done = _after(self._process.stdout.readline(), begun, done)
        for _ in range(spins):  # somewhere in the middle of what it does
            pass
        with self._process as process:
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                begun, done = _after(line, begun, done)
            assert process.stderr.read() == ""
        return begun, done


def _after(line: str, begun: int, done: int) -> tuple[int, int]:
    word, _, number = line.partition(" ")
    if not number.strip().isdigit():
        return begun, done  # the pipe ends in the middle of a line
    return (int(number), done) if word == "begun" else (begun, int(number))


def read(path: Path) -> tuple[sqlite3.Connection, dict[str, int]]:
    """The file, and the requests of each writer."""
    connection = open_to_read(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return connection, dict(connection.execute("SELECT key, requests FROM served"))


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """30 kills: the file is whole each time, what was written is there, nothing is there twice."""
    path, rng = tmp_path / "ledger.db", random.Random()
    written: dict[str, tuple[int, int]] = {}
    for number in range(KILLS):
        writer = Writer(path, f"w{number}")
        written[writer.name] = writer.kill_after(rng.randrange(2, 40), rng.randrange(60_000))
        connection, requests = read(path)
        for name, (begun, done) in written.items():
            assert done <= requests.get(name, 0) <= begun, name
        (tokens_in, tokens_out) = connection.execute(
            "SELECT sum(tokens_in), sum(tokens_out) FROM served"
        ).fetchone()
        all_requests = sum(requests.values())
        assert (tokens_in, tokens_out) == (3 * all_requests, 4 * all_requests)
        (seconds, dollars) = connection.execute("SELECT seconds, dollars FROM rent").fetchone()
        assert seconds == max(requests.values())
        assert dollars == pytest.approx(seconds)
        assert connection.execute("SELECT requests FROM machine").fetchone() == (all_requests,)
        connection.close()


def test_several_at_once(tmp_path: Path) -> None:
    """Three processes write the same file and are killed: each has its own requests, and the rent is there once."""
    path = tmp_path / "ledger.db"
    writers = [Writer(path, name) for name in "abc"]
    written = {writer.name: writer.kill_after(12, 0) for writer in writers}
    connection, requests = read(path)
    for name, (begun, done) in written.items():
        assert done <= requests.get(name, 0) <= begun
    assert connection.execute("SELECT seconds FROM rent").fetchone() == (max(requests.values()),)
    connection.close()
