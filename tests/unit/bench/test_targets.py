"""Verdicts follow from figures alone."""

from pathlib import Path

import pytest

from bench.contenders.all import CONTENDERS
from bench.figures import Results
from bench.targets import TARGETS, Target, Verdict
from bench.works import WORKS

ROOT = Path(__file__).resolve().parents[3]


def results(**figures: float) -> Results:
    """One sample of each contender named, with this CPU per request."""
    return Results(
        {
            "samples": [
                {"work": "json-32", "contender": name, "round": 1, "figures": {"cpu_us_per_request": value}}
                for name, value in figures.items()
            ]
        }
    )


RATIO = Target("CPU", "json-32", "cpu_us_per_request", "ours", 1.5, 1.0, "theirs")


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (9.0, Verdict.GOAL),
        (10.0, Verdict.GOAL),
        (14.0, Verdict.MET),
        (15.0, Verdict.MET),
        (15.1, Verdict.MISSED),
    ],
)
def test_a_ratio_is_judged_by_limit_and_goal(ours: float, verdict: Verdict) -> None:
    assert RATIO.verdict(results(ours=ours, theirs=10.0)) is verdict


@pytest.mark.parametrize("figures", [{}, {"ours": 1.0}, {"theirs": 1.0}])
def test_what_was_not_measured_is_not_met(figures: dict[str, float]) -> None:
    assert RATIO.verdict(results(**figures)) is Verdict.UNKNOWN


def test_an_absolute_target_looks_at_nobody_else() -> None:
    target = Target("CPU", "json-32", "cpu_us_per_request", "ours", 20.0)
    assert target.verdict(results(ours=20.0)) is Verdict.MET
    assert target.verdict(results(ours=20.5)) is Verdict.MISSED


def test_without_a_limit_only_the_goal_counts() -> None:
    target = Target("CPU", "json-32", "cpu_us_per_request", "ours", None, 15.0)
    assert target.verdict(results(ours=15.0)) is Verdict.GOAL
    assert target.verdict(results(ours=16.0)) is Verdict.MISSED


def test_two_figures_of_one_contender_can_be_compared() -> None:
    figures = {"lease and release, µs @ 3": 2.0, "lease and release, µs @ 1000": 2.1}
    seen = Results({"samples": [{"work": "scale", "contender": "vastproxy", "round": 1, "figures": figures}]})
    target = next(one for one in TARGETS if one.theirs == one.ours)
    assert target.seen(seen) == pytest.approx(1.05)
    assert target.verdict(seen) is Verdict.GOAL


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.what} / {target.work}")
def test_every_target_is_about_something_that_is_measured(target: Target) -> None:
    work = WORKS[target.work]
    assert target.limit is not None or target.goal is not None
    for contender in (target.ours, target.theirs):
        assert contender is None or (contender in CONTENDERS and contender in work.contenders)


def test_the_figures_of_a_large_fleet_are_those_that_bench_scale_has() -> None:
    source = "".join(path.read_text() for path in sorted((ROOT / "bench").glob("scale*.py")))
    for target in TARGETS:
        if target.work == "scale":
            what, _, unit = target.figure.partition(" @ ")[0].rpartition(", ")
            assert f'Figure("{what}"' in source
            assert f'"{unit}"' in source
