"""What the cycles report: which death a failure is put down to, and when a goal is met."""

from typing import Any

import pytest

from bench.cycles_client import Asked
from bench.cycles_figures import (
    Cycle,
    count_requests,
    cycle_of,
    describe_kind,
    describe_times,
    left_behind,
    reasons,
    switched_after_s,
    table,
    verdicts,
)
from bench.soak_watch import Sample

REST = Sample(0.0, 80.0, 20, 5, 8)
CYCLES = [
    Cycle("reset", 1, 100.0, 0.4, 102.0, 2.0),
    Cycle("freeze", 1, 200.0, 9.0, 211.0, 3.0),
    Cycle("reset", 1, 300.0, 0.6, 302.0, 4.0),
]


def asked(kind: str, began: float, ended: float, reason: str = "", *, answered: bool | None = None) -> Asked:
    return Asked(kind, began, ended, reason, not reason if answered is None else answered, 1)


def test_a_failure_is_put_down_to_the_last_death_before_its_end() -> None:
    assert cycle_of(asked("plain", 90.0, 99.0), CYCLES) is None
    assert cycle_of(asked("plain", 90.0, 100.0), CYCLES) is CYCLES[0]
    assert cycle_of(asked("plain", 199.0, 215.0), CYCLES) is CYCLES[1]
    assert cycle_of(asked("plain", 310.0, 311.0), CYCLES) is CYCLES[2]


def test_requests_are_counted_by_kind_and_by_whether_anything_had_come() -> None:
    found = count_requests(
        [
            asked("plain", 1, 2),
            asked("plain", 1, 2, "status 502"),
            asked("stream", 1, 2, "broken", answered=True),
            asked("stream", 1, 2, "status 503"),
        ]
    )
    assert found["plain"] == {"asked": 2, "failed_before_a_byte": 1, "failed_after_a_byte": 0}
    assert found["stream"] == {"asked": 2, "failed_before_a_byte": 1, "failed_after_a_byte": 1}


def test_times_are_percentiles_in_seconds() -> None:
    assert describe_times([]) is None
    assert describe_times([3.0, 1.0, 2.0]) == {"p50_s": 2.0, "p99_s": 3.0, "max_s": 3.0}


def test_each_kind_of_death_has_its_own_figures() -> None:
    seen = [
        asked("plain", 99.9, 100.1, "status 502"),
        asked("stream", 99.0, 100.2, "broken", answered=True),
        asked("stream", 199.9, 210.0, "status 502"),
        asked("probe", 200.5, 212.0, "status 502"),
        asked("plain", 250.0, 251.0),
    ]
    reset, freeze = (describe_kind(kind, seen, CYCLES) for kind in ("reset", "freeze"))
    assert (reset["cycles"], reset["served_again"]["max_s"], reset["never_served_again"]) == (2, 0.6, 0)
    assert (reset["plain_errors"], reset["stream_errors_after_a_byte"]) == (1, 1)
    assert reset["broken_requests_ended"]["max_s"] == pytest.approx(0.2)
    assert (freeze["plain_errors"], freeze["stream_errors_before_a_byte"]) == (1, 1)
    assert freeze["broken_requests_ended"]["max_s"] == 10.0, "the probe began after the death"
    assert reset["direct_again"]["p50_s"] == 2.0


def test_reasons_say_which_death_and_when() -> None:
    seen = [asked("plain", 99.9, 100.1, "status 502")] * 2 + [asked("stream", 1, 2, "broken", answered=True)]
    assert reasons(seen, CYCLES) == {
        "reset: plain, before any byte: status 502": 2,
        "before any death: stream, after the first byte: broken": 1,
    }


@pytest.mark.parametrize(("series", "more"), [("fds", 40), ("threads", 3), ("tasks", 20)])
def test_what_is_left_behind_is_found(series: str, more: int) -> None:
    after = Sample(0.0, 95.0, 20, 5, 8)
    assert all(row["is_good"] for row in left_behind(REST, after).values())
    grown = {"rss_mb": 95.0, "fds": 20, "threads": 5, "tasks": 8}
    grown[series] += more
    found = left_behind(REST, Sample(0.0, **grown))  # type: ignore[arg-type]
    assert [name for name, row in found.items() if not row["is_good"]] == [series]


def report(seen: list[Asked], cycles: list[Cycle]) -> dict[str, Any]:
    kinds = {kind: describe_kind(kind, seen, cycles) for kind in ("reset", "freeze")}
    left = left_behind(REST, REST)
    return {
        "requests": count_requests(seen),
        "kinds": kinds,
        "failures": reasons(seen, cycles),
        "left": left,
        "log_problems": [],
        "goals": verdicts(kinds, left),
    }


def test_all_goals_are_met_when_nothing_failed_in_time() -> None:
    assert all(report([asked("plain", 1, 2)], CYCLES)["goals"].values())


def test_a_stream_that_broke_after_its_first_byte_misses_no_goal() -> None:
    assert all(report([asked("stream", 99.0, 100.2, "broken", answered=True)], CYCLES)["goals"].values())


@pytest.mark.parametrize(
    ("failure", "goal"),
    [
        (asked("plain", 100.5, 101, "status 503"), "no plain request failed"),
        (asked("probe", 100.5, 101, "status 503"), "no plain request failed"),
        (asked("stream", 101, 102, "status 503"), "no stream failed that had not sent a byte"),
        (
            asked("stream", 199, 216, "broken", answered=True),
            "after a freeze broken requests ended within 15 s",
        ),
    ],
)
def test_a_failure_misses_its_goal_alone(failure: Asked, goal: str) -> None:
    goals = report([failure], CYCLES)["goals"]
    assert [name for name, met in goals.items() if not met] == [goal]


def test_a_path_that_never_serves_misses_its_goal() -> None:
    goals = report([], [*CYCLES, Cycle("reset", 1, 400.0, None)])["goals"]
    assert [name for name, met in goals.items() if not met] == [
        "after a reset all is served again within 1 s"
    ]


@pytest.mark.parametrize(
    ("one", "after_s"),
    [
        (asked("plain", 305.0, 308.5), 5.0),
        (asked("probe", 305.0, 305.1, "status 503"), 5.0),
        (asked("plain", 305.0, 307.0), 0.0),
        (asked("stream", 305.0, 320.0), 0.0),
        (asked("plain", 299.0, 305.0, "status 502"), 0.0),
        (asked("plain", 311.0, 315.0), 0.0),
    ],
)
def test_a_path_has_switched_when_no_question_asked_later_fails_or_hangs(one: Asked, after_s: float) -> None:
    cycle = Cycle("freeze", 1, 300.0, 0.1, 310.0)
    assert switched_after_s(cycle, [asked("plain", 301.0, 301.5), one]) == after_s


def test_a_path_that_switches_too_late_misses_its_goal() -> None:
    goals = report([asked("plain", 101.5, 106.0)], CYCLES)["goals"]
    assert [name for name, met in goals.items() if not met] == [
        "after a reset all is served again within 1 s"
    ]


def test_the_table_shows_everything() -> None:
    seen = [asked("plain", 99.9, 100.1, "status 502"), asked("stream", 1, 2)]
    text = table(report(seen, [*CYCLES, Cycle("freeze", 1, 400.0, None)]))
    for words in (
        "served again",
        "(1 not in time)",
        "0.40 / 0.60 / 0.60",
        "status 502",
        "MISSED",
        "met",
        "fds",
    ):
        assert words in text
