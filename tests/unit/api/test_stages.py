"""The transition table of a request: what it lists, and that nothing else is possible."""

import itertools

import pytest

from vastproxy.api.stages import NEXT, Stage, Step

LISTED = {
    (Stage.GATHER, Step.DISPATCH): Stage.CONNECT,
    (Stage.GATHER, Step.HOLD): Stage.QUEUE,
    (Stage.GATHER, Step.END): Stage.OVER,
    (Stage.QUEUE, Step.DISPATCH): Stage.CONNECT,
    (Stage.QUEUE, Step.END): Stage.OVER,
    (Stage.CONNECT, Step.HOLD): Stage.QUEUE,
    (Stage.WAIT, Step.HOLD): Stage.QUEUE,
    (Stage.CONNECT, Step.DISPATCH): Stage.CONNECT,
    (Stage.CONNECT, Step.CONNECTED): Stage.WAIT,
    (Stage.CONNECT, Step.END): Stage.OVER,
    (Stage.WAIT, Step.DISPATCH): Stage.CONNECT,
    (Stage.WAIT, Step.ANSWERED): Stage.RELAY,
    (Stage.WAIT, Step.SWITCHED): Stage.PIPE,
    (Stage.WAIT, Step.END): Stage.OVER,
    (Stage.RELAY, Step.END): Stage.OVER,
    (Stage.PIPE, Step.END): Stage.OVER,
}


@pytest.mark.parametrize(("stage", "step"), list(itertools.product(Stage, Step)), ids=str)
def test_every_step_is_listed_or_impossible(stage: Stage, step: Step) -> None:
    if (stage, step) in LISTED:
        assert NEXT[stage, step] is LISTED[stage, step]
    else:
        with pytest.raises(KeyError):
            NEXT[stage, step]


def test_every_stage_can_end_and_the_end_is_the_end() -> None:
    for stage in set(Stage) - {Stage.OVER}:
        assert NEXT[stage, Step.END] is Stage.OVER
    assert not any(stage is Stage.OVER for stage, _ in LISTED)


def test_what_the_client_has_seen_is_never_begun_anew() -> None:
    assert not any(step is Step.DISPATCH for stage, step in LISTED if stage in (Stage.RELAY, Stage.PIPE))
