"""The state of an instance in plain words."""

from typing import Any

import pytest

from tests.helpers.builders import ROW, make_instance
from vastproxy.services.diagnosis.check import Verdict
from vastproxy.services.diagnosis.machine import _PHASES, not_served, state_check
from vastproxy.vastai import Phase

START = ROW["start_date"]
STOPPED = {
    "actual_status": "exited",
    "intended_status": "stopped",
    "cur_state": "stopped",
    "next_state": "stopped",
}


def test_every_phase_has_words_and_what_is_not_well_has_something_to_do() -> None:
    assert set(_PHASES) == set(Phase)
    for phase, (verdict, told, fix) in _PHASES.items():
        assert told
        assert bool(fix) == (verdict is not Verdict.OK), phase


@pytest.mark.parametrize(
    ("over", "verdict", "says"),
    [
        ({}, Verdict.OK, "1x RTX 4090, running for 1 min"),
        ({"actual_status": "loading"}, Verdict.WARN, "the image is being pulled"),
        (
            {
                "actual_status": "loading",
                "status_msg": "Error response from daemon: manifest unknown\n",
            },
            Verdict.FAIL,
            "its machine says: Error response from daemon: manifest unknown",
        ),
        ({"image_runtype": "args"}, Verdict.FAIL, "without sshd"),
        (STOPPED, Verdict.WARN, "stopped"),
        ({"actual_status": "exited"}, Verdict.FAIL, "container has ended"),
        ({"actual_status": "offline"}, Verdict.FAIL, "not connected"),
        ({"label": "mine", "num_gpus": None}, Verdict.OK, "?x RTX 4090, label mine, running"),
    ],
)
def test_states(over: dict[str, Any], verdict: Verdict, says: str) -> None:
    check = state_check(make_instance(**over), now=START + 61)
    assert check.verdict is verdict
    assert says in check.detail
    assert bool(check.fix) == (verdict is not Verdict.OK)
    assert "{id}" not in check.fix


@pytest.mark.parametrize(
    ("age_s", "says"),
    [(60, "for 1 min"), (7_300, "for 2 h"), (864_000, "for 10 days"), (-5, "running")],
)
def test_how_long_it_runs(age_s: float, says: str) -> None:
    assert state_check(make_instance(), now=START + age_s).detail.endswith(says)


def test_what_the_settings_keep_out_is_skipped() -> None:
    check = not_served(make_instance(), "excluded by id 48001001")
    assert (check.verdict, check.instance) == (Verdict.SKIP, 48001001)
