"""The bench of `/healthz` says what it has seen, and does not pass where nothing was proven."""

import os

import pytest

from bench.health import Busy, Row, problem_of, rows_of, scheduled, table
from bench.processes import BenchError

MS = 1_000_000


def row(load: str = "200 streams, 64 clients", *, max_ms: float = 20.0, wanted: float = 0.99) -> Row:
    return Row(load, "new", 100, 2.0, 10.0, max_ms, 0.9, wanted, 8_000.0, 9.0)


def test_times_become_figures_of_each_kind_of_connection() -> None:
    times = {"new": [1 * MS, 2 * MS, 30 * MS], "kept": [MS]}
    new, kept = rows_of("quiet", times, (0.5, 0.6), 7.0, 3.0)
    assert (new.connection, new.answers, new.p50_ms, new.max_ms) == ("new", 3, 2.0, 30.0)
    assert (kept.connection, kept.share, kept.wanted, kept.requests_per_s) == ("kept", 0.5, 0.6, 7.0)
    with pytest.raises(BenchError, match="not answered once"):
        rows_of("quiet", {"new": []}, (0.5, 0.6), 0.0, 0.0)


def test_it_passes_only_when_saturated_and_in_time() -> None:
    assert problem_of([row("quiet", wanted=0.01), row()], 50.0) is None
    assert "51.0 ms" in (problem_of([row(max_ms=51.0)], 50.0) or "")
    assert "not saturated" in (problem_of([row(wanted=0.6)], 50.0) or "")
    assert "51.0 ms" in (problem_of([row("quiet", max_ms=51.0, wanted=0.01), row()], 50.0) or "")


def test_the_table_has_a_line_for_each_row() -> None:
    lines = table([row("quiet"), row()]).splitlines()
    assert len(lines) == 3
    assert "20.0 ms" in lines[2]
    assert "99%" in lines[2]


def test_what_a_process_used_and_wanted() -> None:
    """Of our own, which works meanwhile: it wants at least what it gets."""
    pid, before = os.getpid(), scheduled([os.getpid()])
    busy = Busy([pid])
    assert sum(number * number for number in range(1_500_000)) > 0
    used, wanted = busy.shares()
    assert 0 < used <= wanted <= 1.5
    assert scheduled([pid])[0] > before[0]
