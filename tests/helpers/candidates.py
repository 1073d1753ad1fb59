"""A candidate that is whatever a test says."""

from dataclasses import dataclass

from vastproxy.services.routing.candidate import candidate_key
from vastproxy.services.routing.policy import Policy

PORT = 8000


@dataclass(slots=True, eq=False)
class StandIn:
    """One engine of instance `instance_id`."""

    instance_id: int
    in_flight: int = 0
    limit: int | None = None
    speed: float = 1.0
    weight: float = 1.0
    waiting: int | None = None
    waiting_at: float = float("-inf")
    hourly_cost: float | None = None
    port: int = PORT

    @property
    def key(self) -> int:
        return candidate_key(self.instance_id, self.port)


def offered(policy: Policy, *candidates: StandIn) -> None:
    """All of these may be chosen from now on."""
    for each in candidates:
        policy.offer(each)


def key(instance_id: int) -> int:
    return candidate_key(instance_id, PORT)
