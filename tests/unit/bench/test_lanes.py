"""What the bench of several connections reckons: the line's rate, answers' lengths, the connections that it sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.lanes import Row, table
from bench.lanes_line import Metered
from bench.lanes_load import answer_bytes, changes, established

ROW = Row("far", "mixed", 4, 3, 45.2, 96.0, 1200.0, 9.5, 80.0, 0.031, 0, [(5.1, 2), (9.8, 3)], 4.2)


@given(st.lists(st.integers(1, 65_536), min_size=1, max_size=50))
def test_a_line_that_is_always_used_carries_its_rate(sizes: list[int]) -> None:
    metered, now = Metered(1e6), 100.0
    for size in sizes:
        now = metered.put(size, now)
    assert now == pytest.approx(100.0 - 0.02 + sum(sizes) / 1e6)


def test_a_pause_is_not_saved_up() -> None:
    metered = Metered(1e6)
    metered.put(1000, 10.0)
    assert metered.put(100_000, 20.0) == pytest.approx(20.0 - 0.02 + 0.1)


def test_the_length_of_an_answer_is_read_from_its_head() -> None:
    assert answer_bytes(b"HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length: 20") == 20
    with pytest.raises(ValueError, match="503"):
        answer_bytes(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 20")
    with pytest.raises(ValueError, match="200"):
        answer_bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked")


def test_only_connections_to_the_port_that_exist_are_counted() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n"
        "   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000\n"
        "   2: 0100007F:C001 0100007F:1F90 01 00000000:00000000\n"
        "   3: 0100007F:1F90 0100007F:C002 06 00000000:00000000\n"
        "   4: 0100007F:1F90 0100007F:C003 01 00000000:00000000\n\n"
    )
    assert established(table, 8080) == 2
    assert established("", 8080) == 0


def test_changes_are_told_from_the_beginning_of_the_load() -> None:
    assert changes([(9.9, 1), (10.5, 1), (15.02, 2), (15.1, 2), (30.0, 1)], 10.0) == [(5.0, 2), (20.0, 1)]
    assert changes([], 10.0) == []


def test_the_table_has_a_line_for_each_load_and_says_where_nobody_waited() -> None:
    head, first = table([ROW]).splitlines()
    assert "lag p99" in head
    assert "96.0 ms" in first
    assert first.endswith("2@5.1s 3@9.8s")
    never = Row("near", "many", 4, 4, 1.0, 2.0, 6000.0, 0.0, 9.0, 0.2, 0, [], None)
    assert table([ROW, never]).splitlines()[2].endswith(" -")
