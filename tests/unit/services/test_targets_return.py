"""An engine that was taken for gone and comes back is not given more than its cap: what it had may still run."""

import random

from tests.helpers.builders import make_engine, make_instance
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.engine import Engine
from vastproxy.services.dispatch.targets import Targets
from vastproxy.settings import Settings
from vastproxy.settings.admission import AdmissionSettings

CAP = 6


def make_targets() -> Targets:
    return Targets(
        Settings(admission=AdmissionSettings(max_in_flight_per_backend=CAP)),
        random.Random(1),
        clock=lambda: 0.0,
        publish=lambda event: None,
        doubt=lambda instance_id: None,
        room=lambda: None,
    )


def served(targets: Targets, engine: Engine) -> Backend:
    """An instance with this engine, which may be given requests."""
    instance = make_instance(id=engine.instance_id)
    backend = Backend(instance, token=None, now=0.0, last_seen=1, on_event=lambda *event: None)
    backend.engines = (engine,)
    targets.refresh(backend, serving=True, probed=True)
    return backend


def test_requests_that_still_run_count_when_their_instance_comes_back() -> None:
    targets = make_targets()
    before = make_engine(instance_id=7)
    gone = served(targets, before)
    assert before.limit == CAP
    before.in_flight = 4
    targets.forget(gone)
    after = make_engine(instance_id=7)
    back = served(targets, after)
    assert after.limit == CAP - 4
    before.in_flight = 1
    targets.refresh(back, serving=True, probed=True)
    assert after.limit == CAP - 1
    before.in_flight = 0
    targets.refresh(back, serving=True, probed=True)
    assert after.limit == CAP


def test_one_that_left_and_came_back_more_than_once_has_all_that_runs() -> None:
    targets = make_targets()
    for running in (4, 3):
        engine = make_engine(instance_id=7)
        backend = served(targets, engine)
        engine.in_flight = running
        targets.forget(backend)
    last = make_engine(instance_id=7)
    served(targets, last)
    assert last.limit == 0


def test_what_others_had_is_nobodys_else() -> None:
    targets = make_targets()
    before = make_engine(instance_id=7)
    gone = served(targets, before)
    before.in_flight = 4
    targets.forget(gone)
    for other in (make_engine(instance_id=8), make_engine(port=9000, instance_id=7)):
        served(targets, other)
        assert other.limit == CAP
