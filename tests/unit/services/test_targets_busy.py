"""An engine that turns requests away is probed at once: one that is loading again is not asked until its next round."""

import random

import pytest

from tests.helpers.builders import make_engine, make_instance
from vastproxy.services.backends.backend import Backend
from vastproxy.services.dispatch.claim import Lease
from vastproxy.services.dispatch.need import ANY_MODEL
from vastproxy.services.dispatch.targets import Targets
from vastproxy.services.routing.policy import NO_HINT
from vastproxy.settings import Settings


class Bench:
    """One engine and its lease, a clock that is set, and a list of whom a probe is wanted of."""

    def __init__(self) -> None:
        self.now = 0.0
        self.doubted: list[int] = []
        self.targets = Targets(
            Settings(),
            random.Random(1),
            clock=lambda: self.now,
            publish=lambda event: None,
            doubt=self.doubted.append,
            room=lambda: None,
        )
        engine = make_engine(instance_id=7)
        backend = Backend(make_instance(id=7), token=None, now=0.0, last_seen=1, on_event=lambda *event: None)
        backend.engines = (engine,)
        self.targets.refresh(backend, serving=True, probed=True)
        need = self.targets.needs.find(ANY_MODEL)
        choice = need.policy.choose(NO_HINT, 0.0, exclude=frozenset())
        assert choice is not None
        self.lease = Lease(backend, engine, need, choice, 0.0, 1)

    def answer(self, status: int, at: float, retry_after_s: float | None = None) -> None:
        self.now = at
        self.targets.answered(self.lease, status, retry_after_s)


@pytest.mark.parametrize("status", [429, 503])
def test_the_first_that_is_turned_away_has_it_probed(status: int) -> None:
    bench = Bench()
    bench.answer(status, 1.0)
    assert bench.doubted == [7]


def test_of_many_turned_away_within_its_pause_one_is_enough() -> None:
    bench = Bench()
    bench.answer(503, 1.0, retry_after_s=5.0)
    bench.answer(503, 2.0)
    bench.answer(503, 5.9)
    assert bench.doubted == [7]
    bench.answer(503, 60.0)
    assert bench.doubted == [7, 7]


@pytest.mark.parametrize("status", [200, 404, 500, 401])
def test_other_answers_cause_no_probe(status: int) -> None:
    bench = Bench()
    bench.answer(status, 1.0)
    assert bench.doubted == []
