"""Settings become policies."""

import random

from vastproxy.services.routing.policies.make import POLICIES, make_policy
from vastproxy.services.routing.policies.prefix_affinity import PrefixAffinity
from vastproxy.settings.routing import POLICY_NAMES, RoutingSettings


def test_every_policy_that_can_be_set_can_be_made() -> None:
    assert set(POLICIES) == set(POLICY_NAMES)


def test_the_default_is_affinity_for_prefixes() -> None:
    assert isinstance(make_policy(RoutingSettings(), random.Random(1)).inner, PrefixAffinity)
