"""The policy that the settings ask for."""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from vastproxy.services.routing.policies.cheapest_first import CheapestFirst
from vastproxy.services.routing.policies.homes import Homes
from vastproxy.services.routing.policies.least_loaded import LeastLoaded
from vastproxy.services.routing.policies.own import Guarded, own_policy
from vastproxy.services.routing.policies.pooled import PooledPolicy
from vastproxy.services.routing.policies.prefix_affinity import AffinityLimits, PrefixAffinity
from vastproxy.services.routing.policies.round_robin import RoundRobinPolicy
from vastproxy.services.routing.policies.sticky import Places, Sticky
from vastproxy.settings.routing import RoutingSettings

#: What makes a policy for one set of candidates.
Maker = Callable[[random.Random, RoutingSettings, "Memory"], PooledPolicy]


class Memory:
    """What the policies of all models have in common: how they are made, and what they remember, so that its bound is
    one for the process."""

    def __init__(self, settings: RoutingSettings) -> None:
        """Raises SettingsError when the policy that the settings name cannot be had."""
        self.make = maker(settings.policy)
        self.homes = Homes(settings.affinity_max_prefixes)
        self.places = Places(max_sessions=settings.max_sessions, idle_s=settings.session_idle_s)


def _prefix_affinity(rng: random.Random, settings: RoutingSettings, memory: Memory) -> PooledPolicy:
    limits = AffinityLimits(
        load_factor=settings.affinity_load_factor, wait_factor=settings.affinity_wait_factor
    )
    return PrefixAffinity(rng, limits, homes=memory.homes)


POLICIES: Mapping[str, Maker] = MappingProxyType(
    {
        "prefix_affinity": _prefix_affinity,
        "least_loaded": lambda rng, settings, memory: LeastLoaded(rng),
        "round_robin": lambda rng, settings, memory: RoundRobinPolicy(rng),
        "cheapest_first": lambda rng, settings, memory: CheapestFirst(rng, knee=settings.cheapest_knee),
    }
)


def maker(name: str) -> Maker:
    """What makes a policy of this name. Raises SettingsError when it is one of the user's own that cannot be used."""
    if ":" not in name:
        return POLICIES[name]
    own = own_policy(name)
    return lambda rng, settings, memory: Guarded(own(rng), rng)


def make_policy(settings: RoutingSettings, rng: random.Random, memory: Memory | None = None) -> Sticky:
    """What `routing.policy` names, behind pins and sessions. One for each set of candidates, such as those of a
    model."""
    memory = Memory(settings) if memory is None else memory
    inner = memory.make(rng, settings, memory)
    return Sticky(inner, rng, places=memory.places)
