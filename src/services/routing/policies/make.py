"""The policy that the settings ask for."""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from vastproxy.services.routing.policies.cheapest_first import CheapestFirst
from vastproxy.services.routing.policies.least_loaded import LeastLoaded
from vastproxy.services.routing.policies.pooled import PooledPolicy
from vastproxy.services.routing.policies.prefix_affinity import AffinityLimits, PrefixAffinity
from vastproxy.services.routing.policies.round_robin import RoundRobinPolicy
from vastproxy.services.routing.policies.sticky import Sticky
from vastproxy.settings.routing import RoutingSettings

_Maker = Callable[[random.Random, RoutingSettings], PooledPolicy]


def _prefix_affinity(rng: random.Random, settings: RoutingSettings) -> PooledPolicy:
    limits = AffinityLimits(
        load_factor=settings.affinity_load_factor,
        wait_factor=settings.affinity_wait_factor,
        max_prefixes=settings.affinity_max_prefixes,
    )
    return PrefixAffinity(rng, limits)


POLICIES: Mapping[str, _Maker] = MappingProxyType(
    {
        "prefix_affinity": _prefix_affinity,
        "least_loaded": lambda rng, settings: LeastLoaded(rng),
        "round_robin": lambda rng, settings: RoundRobinPolicy(rng),
        "cheapest_first": lambda rng, settings: CheapestFirst(rng, knee=settings.cheapest_knee),
    }
)


def make_policy(settings: RoutingSettings, rng: random.Random) -> Sticky:
    """What `routing.policy` names, behind pins and sessions. One for each set of candidates, such as those of a
    model."""
    inner = POLICIES[settings.policy](rng, settings)
    return Sticky(inner, max_sessions=settings.max_sessions, idle_s=settings.session_idle_s)
