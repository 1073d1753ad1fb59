"""When the only SSH connection to an instance ends, its places are nobody's from the first request on that is told."""

import random
from types import SimpleNamespace
from typing import cast

import pytest

from tests.helpers.builders import make_engine, make_instance
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.carrier import Carrier
from vastproxy.services.backends.state import State
from vastproxy.services.dispatch.claim import Lease
from vastproxy.services.dispatch.need import ANY_MODEL
from vastproxy.services.dispatch.targets import Targets
from vastproxy.services.errors import ResponseInterrupted
from vastproxy.services.routing.policy import NO_HINT
from vastproxy.services.tunnels.base import Path, SshAddress
from vastproxy.settings import Settings


class Way:
    """An SSH connection as far as it is asked whether it may be used."""

    is_usable = True
    tunnel = SimpleNamespace(address=SshAddress("192.0.2.1", 22, Path.DIRECT))


@pytest.mark.parametrize(("spare", "offered"), [(False, False), (True, True)])
def test_its_engines_are_offered_only_if_there_is_another_way(spare: bool, offered: bool) -> None:
    targets = Targets(
        Settings(),
        random.Random(1),
        clock=lambda: 0.0,
        publish=lambda event: None,
        doubt=lambda instance_id: None,
        room=lambda: None,
    )
    backend = Backend(make_instance(id=7), token=None, now=0.0, last_seen=1, on_event=lambda *event: None)
    backend.state = State.HEALTHY
    backend.engines = (make_engine(instance_id=7), make_engine(port=9000, instance_id=7))
    backend.engine = backend.engines[0]
    way = Way()
    backend.use((cast(Carrier, way),), (cast(Carrier, Way()),) if spare else ())
    targets.refresh(backend, serving=True, probed=True)
    need = targets.needs.find(ANY_MODEL)
    choice = need.policy.choose(NO_HINT, 0.0, exclude=frozenset())
    assert choice is not None
    lease = Lease(backend, need.members[choice.candidate.key], need, choice, 0.0, 1)

    way.is_usable = False
    error = ResponseInterrupted("its SSH connection ended", received=False)
    error.way_lost = True
    targets.failed(lease, error, reached=False)
    keys = {engine.key for engine in backend.engines}
    assert targets.needs.offered.keys() == (keys if offered else set())

    way.is_usable = True
    targets.refresh(backend, serving=True, probed=True)
    assert targets.needs.offered.keys() == keys
