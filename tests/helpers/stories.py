"""Requests whose story is told, without anybody who serves them."""

import random
from collections.abc import Sequence

from tests.helpers.builders import make_engine, make_instance
from vastproxy.services.backends.backend import Backend
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.dispatch.claim import Claim, Lease
from vastproxy.services.dispatch.need import Need
from vastproxy.services.routing.candidate import candidate_key
from vastproxy.services.routing.policies.make import make_policy
from vastproxy.services.routing.policy import Choice
from vastproxy.settings.routing import RoutingSettings

PORT = 8000
NOW = 13.0


def begun(request_id: bytes = b"r1", at: float = 10.0) -> Claim:
    return Claim(at, request_id, b"POST", b"/v1/chat/completions?key=secret")


def lease(instance_id: int, at: float, why: str = "", scores: Sequence[tuple[int, float]] = ()) -> Lease:
    """A place at the engine of an instance; `scores` by instance id."""
    engine = make_engine(EngineKind.VLLM, PORT, instance_id=instance_id)
    backend = Backend(
        make_instance(id=instance_id), token=None, now=0.0, last_seen=0, on_event=lambda *_: None
    )
    keyed = tuple((candidate_key(id, PORT), score) for id, score in scores)
    choice = Choice(engine, why, keyed, max(1, len(keyed)))
    need = Need("m", make_policy(RoutingSettings(), random.Random(1)))
    return Lease(backend, engine, need, choice, at, 1)


def at_b(at: float, why: str) -> Lease:
    return lease(102, at, why)
