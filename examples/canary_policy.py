"""A routing policy of your own: the newest instance is tried out with one request in twenty.

A policy says who of those that may serve a request is to serve it. It is a class made from `vastproxy.Pooled` with two
methods: `choose`, and `judge`, which tells `vastproxy explain` how a candidate was seen. Candidates are engines that
are healthy and have the request's model; `self.pool` holds them. There is one policy for each model.

`choose` is called for every request: it must be quick and must not wait. Time and chance come as arguments, so that a
policy can be tried without a network, as `main` below does. If it raises, the least loaded engine is asked instead and
the log says so.

    python examples/canary_policy.py                                          # on machines made up for it

    cd examples                                                               # in a real proxy
    VASTPROXY_ROUTING__POLICY=canary_policy:Canary python -m vastproxy.simulator vastproxy serve
"""

import random
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass

import vastproxy

#: The share of requests that the newest instance gets.
SHARE = 0.05


class Canary(vastproxy.LeastLoaded):
    """The least loaded of those that have proven themselves; now and then the newest one, as ids of instances grow."""

    def __init__(self, rng: random.Random) -> None:
        """`rng`: all chance comes from here. A policy has no other argument; subclass it for another share."""
        super().__init__(rng)
        self._rng = rng

    def choose(
        self, hint: vastproxy.Hint, now: float, *, exclude: Collection[int] = ()
    ) -> vastproxy.Choice | None:
        """Who serves. `exclude` are the keys of those that have failed this request, or are left alone for now."""
        newest = self.newest()
        if newest is None or len(self.pool) == 1:
            return super().choose(hint, now, exclude=exclude)
        if self._rng.random() < SHARE and vastproxy.may_take(newest, exclude):
            return vastproxy.Choice(newest, "canary")
        chosen = super().choose(hint, now, exclude={*exclude, newest.key})
        # If nobody else has a place, it is better to be served by the newest than by nobody.
        return chosen or super().choose(hint, now, exclude=exclude)

    def judge(self, candidate: vastproxy.Candidate, hint: vastproxy.Hint, now: float) -> tuple[float, str]:
        """A score, the lowest is the best, and a word that says why."""
        score, why = super().judge(candidate, hint, now)
        return (score, "canary") if candidate is self.newest() else (score, why)

    def newest(self) -> vastproxy.Candidate | None:
        """The candidate of the instance that was rented last."""
        return max(self.pool, key=lambda each: each.instance_id, default=None)


@dataclass(slots=True)
class Machine:
    """A candidate for trying a policy out: what `vastproxy.Candidate` asks for, and no network behind it."""

    key: int
    in_flight: int = 0
    limit: int | None = 8
    speed: float = 1.0
    weight: float = 1.0
    waiting: int | None = None
    waiting_at: float = float("-inf")
    hourly_cost: float | None = 0.35

    @property
    def instance_id(self) -> int:
        """Here there is one engine in each instance."""
        return self.key


def main() -> None:
    """Ten thousand requests, ten of them at a time, for three machines of which the second is twice as fast."""
    policy = Canary(random.Random(1))
    for machine in (Machine(101), Machine(102, speed=2.0), Machine(103)):
        policy.offer(machine)
    served: Counter[int] = Counter()
    running: deque[Machine] = deque()
    for number in range(10_000):
        if len(running) == 10:
            running.popleft().in_flight -= 1
        choice = policy.choose(vastproxy.Hint(), now=float(number))
        assert isinstance(choice, vastproxy.Choice)
        chosen = choice.candidate
        assert isinstance(chosen, Machine)
        chosen.in_flight += 1
        running.append(chosen)
        served[chosen.key] += 1
    for key, count in sorted(served.items()):
        print(f"machine {key}: {count / 100:.1f} % of the requests")


if __name__ == "__main__":
    main()
