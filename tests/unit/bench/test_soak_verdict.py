"""When a soak is good: what counts as growth, and which failures an incident excuses."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.soak_chaos import AFTERMATH_S, Incident
from bench.soak_client import Ended
from bench.soak_plot import draw
from bench.soak_watch import Growth, Sample, judge, slope

REST = Sample(0.0, 80.0, 20, 5, 8)
FLAT = [Sample(5.0 * n, 100.0, 80, 5, 30) for n in range(60)]


def verdict(samples: list[Sample], *, after: Sample = REST) -> dict[str, Growth]:
    return {one.series: one for one in judge(samples, (REST, after))}


def test_what_stays_as_it_is_is_flat() -> None:
    assert all(one.is_flat for one in verdict(FLAT).values())
    assert set(verdict(FLAT)) == {"rss_mb", "fds", "threads", "tasks"}


def test_comings_and_goings_are_no_growth() -> None:
    rng = random.Random(1)
    noisy = [replace(one, fds=80 + rng.randint(-15, 15), tasks=30 + rng.randint(-9, 9)) for one in FLAT]
    assert all(one.is_flat for one in verdict(noisy).values())


@pytest.mark.parametrize(
    ("series", "rise"), [("rss_mb", 20.0), ("fds", 60.0), ("threads", 4.0), ("tasks", 40.0)]
)
def test_what_rises_all_the_time_is_found(series: str, rise: float) -> None:
    rising = [
        replace(one, **{series: getattr(one, series) + int(rise * n / len(FLAT))})
        for n, one in enumerate(FLAT)
    ]
    found = verdict(rising)
    assert not found[series].is_flat
    assert all(one.is_flat for name, one in found.items() if name != series)


def test_what_rises_at_first_only_is_warm_up() -> None:
    settling = [replace(one, rss_mb=60.0 + min(n, 25)) for n, one in enumerate(FLAT)]
    assert verdict(settling)["rss_mb"].is_flat


def test_what_is_left_at_rest_is_found_though_nothing_rose_meanwhile() -> None:
    assert not verdict(FLAT, after=replace(REST, fds=40))["fds"].is_flat
    assert not verdict(FLAT, after=replace(REST, tasks=20))["tasks"].is_flat
    assert verdict(FLAT, after=replace(REST, rss_mb=95.0))["rss_mb"].is_flat


def test_a_process_that_does_not_tell_its_tasks_is_judged_by_the_rest() -> None:
    silent = [replace(one, tasks=None) for one in FLAT]
    assert set(verdict(silent)) == {"rss_mb", "fds", "threads"}


@given(st.floats(-100, 100), st.floats(-10, 10))
def test_the_slope_of_a_line_is_its_own(start: float, rise: float) -> None:
    assert slope([(x, start + rise * x) for x in range(20)]) == pytest.approx(rise, abs=1e-6)


def test_only_requests_on_the_machine_that_broke_are_excused_and_only_meanwhile() -> None:
    incident = Incident("sshd killed", 7, began=100.0, ended=110.0)
    failed = Ended("stream", began=90.0, ended=105.0, reason="it broke off", instance=7)
    assert incident.excuses(failed)
    assert incident.excuses(replace(failed, instance=None))
    assert incident.excuses(replace(failed, ended=110.0 + AFTERMATH_S))
    assert not incident.excuses(replace(failed, instance=8))
    assert not incident.excuses(replace(failed, ended=99.0))
    assert not incident.excuses(replace(failed, ended=111.0 + AFTERMATH_S))


def test_an_api_that_fails_excuses_nobody() -> None:
    incident = Incident("api failing", None, began=100.0, ended=110.0)
    assert not incident.excuses(Ended("small", 100.0, 105.0, reason="status 503"))


def test_the_picture_has_every_series_and_incident() -> None:
    picture = draw(FLAT, [Incident("engine frozen", 7, 50.0, 60.0)], began=0.0, title="<soak>")
    assert picture.count("<polyline") == 4
    assert picture.count('opacity="0.18"') == 1
    assert "&lt;soak&gt;" in picture
