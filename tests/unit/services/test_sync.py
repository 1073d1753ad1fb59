"""Making backends match the account."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.builders import make_instance
from vastproxy.services.sync import (
    Add,
    Known,
    Observation,
    Remove,
    SetLabel,
    Update,
    plan,
    plan_labels,
)
from vastproxy.settings.model import FleetSettings, Selector
from vastproxy.vastai.types import Instance

FLEET = FleetSettings()
EXITED: dict[str, Any] = {"actual_status": "exited", "intended_status": "stopped", "cur_state": "stopped"}


def apply(observed: Observation, known: dict[int, Known], fleet: FleetSettings = FLEET) -> dict[int, Known]:
    """Carry out a plan on the bookkeeping, as the fleet does."""
    after = dict(known)
    for action in plan(observed, known, fleet):
        match action:
            case Add(instance) | Update(instance):
                after[instance.id] = Known(instance, observed.number)
            case Remove(instance_id):
                del after[instance_id]
    return after


def see(number: int, *instances: Instance) -> Observation:
    return Observation(number, instances)


def one(id: int = 1, **over: Any) -> Instance:
    return make_instance(id=id, **over)


def test_a_running_instance_is_added() -> None:
    assert plan(see(1, one()), {}, FLEET) == [Add(one())]


def test_one_that_does_not_run_is_not() -> None:
    assert plan(see(1, one(**EXITED)), {}, FLEET) == []


def test_one_that_is_seen_stopped_is_out_at_once() -> None:
    assert plan(see(2, one(**EXITED)), {1: Known(one(), 1)}, FLEET) == [Remove(1, "it is stopped")]


def test_one_that_is_missing_is_out_after_two_lists_and_not_after_one() -> None:
    known = {1: Known(one(), 1)}
    assert plan(see(2), known, FLEET) == []
    assert plan(see(3), known, FLEET) == [Remove(1, "no longer in the account")]


def test_coming_back_resets_the_count_of_absences() -> None:
    known = apply(see(3, one()), {1: Known(one(), 1)})
    assert plan(see(4), known, FLEET) == []


def test_asking_twice_about_the_same_list_does_not_count_twice() -> None:
    known = apply(see(2), {1: Known(one(), 1)})
    assert apply(see(2), known) == known == {1: Known(one(), 1)}


@pytest.mark.parametrize("status", ["unknown", "offline"])
def test_hearsay_keeps_a_backend_and_begins_none(status: str) -> None:
    """vast.ai's line to a host says nothing of ours."""
    doubtful = one(actual_status=status)
    assert plan(see(2, doubtful), {1: Known(one(), 1)}, FLEET) == [Update(doubtful)]
    assert plan(see(2, doubtful), {}, FLEET) == []


def test_an_instance_that_the_settings_exclude_is_neither_added_nor_kept() -> None:
    fleet = FleetSettings(exclude=Selector(ids=(1,)))
    assert plan(see(1, one()), {}, fleet) == []
    assert plan(see(2, one()), {1: Known(one(), 1)}, fleet) == [Remove(1, "excluded by id 1")]


INSTANCES = st.builds(
    one,
    id=st.integers(1, 6),
    actual_status=st.sampled_from(["running", "exited", "unknown", "loading", None]),
    ssh_port=st.integers(1, 5),
)
LISTS = st.lists(st.lists(INSTANCES, unique_by=lambda instance: instance.id), max_size=8)


@given(LISTS)
def test_a_plan_that_was_applied_leaves_nothing_to_do(lists: list[list[Instance]]) -> None:
    """Planning is idempotent, over any history of lists."""
    known: dict[int, Known] = {}
    for number, instances in enumerate(lists, start=1):
        observed = see(number, *instances)
        known = apply(observed, known)
        assert plan(observed, known, FLEET) == []


@given(LISTS)
def test_every_running_instance_is_served_after_each_list(lists: list[list[Instance]]) -> None:
    known: dict[int, Known] = {}
    for number, instances in enumerate(lists, start=1):
        known = apply(see(number, *instances), known)
        running = {instance.id for instance in instances if instance.is_running}
        assert running <= known.keys()
        gone = {
            instance.id for instance in instances if instance.actual_status in ("exited", "loading", None)
        }
        assert not gone & known.keys()


def test_healthy_ones_get_the_label_and_others_lose_it() -> None:
    instances = [one(1), one(2), one(3, label="proxied"), one(4, label="proxied")]
    assert plan_labels(instances, [1, 4], FLEET) == [SetLabel(1, "proxied"), SetLabel(3, "")]


def test_a_label_that_somebody_else_gave_is_left_alone() -> None:
    assert plan_labels([one(1, label="mine"), one(2, label="mine")], [1], FLEET) == []


def test_an_excluded_instance_is_not_touched() -> None:
    fleet = FleetSettings(exclude=Selector(ids=(1,)))
    assert plan_labels([one(1, label="proxied")], [], fleet) == []


@pytest.mark.parametrize("none", ["none", "None", "NONE"])
def test_none_switches_labels_off(none: str) -> None:
    assert plan_labels([one(1), one(2, label=none)], [1], FleetSettings(label=none)) == []
