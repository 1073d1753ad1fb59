"""What other programs and the kernel write, as the bench reads it."""

import pytest

from bench.answers import chat_answer, chat_request, token_parts
from bench.http_load import parse_result
from bench.machine import busy_jiffies, read_field, require_cores
from bench.processes import BenchError

WRK = """\
Running 3s test @ http://127.0.0.1:8080
  1 threads and 32 connections
RESULT {"requests": 3000, "bytes": 900000, "duration_us": 3000000, "p50_us": 250, "p90_us": 400, "p99_us": 1500, \
"max_us": 9000, "connect": 1, "read": 0, "write": 0, "status": 2, "timeout": 0}
"""


def test_the_figures_of_wrk_are_found_among_its_words() -> None:
    seen = parse_result(WRK)
    assert (seen.requests, seen.per_second, seen.errors) == (3000, 1000.0, 3)
    assert (seen.p50_ms, seen.p90_ms, seen.p99_ms, seen.max_ms) == (0.25, 0.4, 1.5, 9.0)


@pytest.mark.parametrize(
    ("output", "said"),
    [("", "it wrote nothing"), ("Running\\nunable to connect to 127.0.0.1:1\\n", "unable to connect")],
)
def test_wrk_without_figures_is_an_error_with_its_last_words(output: str, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        parse_result(output.replace("\\n", "\n"))


def test_time_spent_waiting_is_not_busy() -> None:
    """/proc/stat: user nice system idle iowait irq softirq steal guest guest_nice."""
    text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 1 5 70 4 2 3 5 0 0\ncpu1 0 0 0 100 0 0 0 0 0 0\n"
    assert busy_jiffies(text, 0) == (26, 100)
    assert busy_jiffies(text, 1) == (0, 100)


def test_a_machine_with_one_core_is_told_that_two_are_needed() -> None:
    with pytest.raises(BenchError, match="needs two"):
        busy_jiffies("cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n", 1)


def test_both_cores_must_be_allowed() -> None:
    require_cores({0, 1, 2})
    with pytest.raises(BenchError, match="may not use core 1"):
        require_cores({0, 2})


def test_a_field_of_cpuinfo_is_found_or_unknown() -> None:
    text = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor\n"
    assert read_field(text, "model name") == "AMD EPYC"
    assert read_field(text, "flags").split()[-1] == "hypervisor"
    assert read_field(text, "MemTotal") == "unknown"


def test_an_answer_has_the_size_that_was_asked_for() -> None:
    assert len(chat_answer(500)) == 500
    assert len(chat_answer(20_000)) == 20_000
    with pytest.raises(ValueError, match="at least"):
        chat_answer(10)


def test_a_token_is_one_http_chunk_whatever_its_stamp() -> None:
    before, after = token_parts()
    whole = b"%b%019d%b" % (before, 123, after)
    length, _, rest = whole.partition(b"\r\n")
    assert len(rest) == int(length, 16) + 2
    assert rest.endswith(b"\n\n\r\n")


def test_an_engine_finds_what_it_needs_at_the_beginning_of_a_long_request() -> None:
    body = chat_request(stream=True, max_tokens=7, prompt_bytes=1_000_000)
    assert len(body) > 1_000_000
    assert b'"max_tokens": 7' in body[:200]
    assert b'"stream": true' in body[:200]
