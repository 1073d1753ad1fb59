"""The members of a policy: coming, going and drawing at random cost the same for any number of them."""

import random
from collections.abc import Collection, Iterable, Iterator

from mypy_extensions import mypyc_attr

from vastproxy.services.routing.candidate import Candidate, may_take, power

#: Up to so many members are all compared: the normal case, and hardly dearer than drawing two.
COMPARE_ALL = 4
#: Draws after which two members that have a place are looked for by going through them all.
_DRAWS = 8
#: How often the totals are renewed: after this share of as many choices as there are members.
_RENEWED_PER_MEMBERS = 8


@mypyc_attr(allow_interpreted_subclasses=True)
class Pool:
    """Candidates by key, in an indexable order of their own."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self.members: list[Candidate] = []
        """In an order of their own. For looking at."""
        self.count = 0
        """Of members."""
        self._at: dict[int, int] = {}
        """Key -> index in the list."""
        self._of_instance: dict[int, set[int]] = {}
        self._in_flight = 0
        self._power = 0.0
        self._asked = 0
        """Times that the totals may still be given before they are renewed."""

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.members)

    def __contains__(self, key: object) -> bool:
        return key in self._at

    def get(self, key: int) -> Candidate | None:
        at = self._at.get(key)
        return None if at is None else self.members[at]

    def of_instance(self, instance_id: int) -> list[Candidate]:
        """The members inside one instance, in the order of keys."""
        return [self.members[self._at[key]] for key in sorted(self._of_instance.get(instance_id, ()))]

    def add(self, candidate: Candidate) -> bool:
        """Is it new? If not, it takes the place of the one with its key."""
        key = candidate.key
        self._asked = 0
        at = self._at.get(key)
        if at is not None:
            self.members[at] = candidate
            return False
        self._at[key] = len(self.members)
        self.members.append(candidate)
        self.count += 1
        self._of_instance.setdefault(candidate.instance_id, set()).add(key)
        return True

    def discard(self, key: int) -> bool:
        """Was it a member?"""
        at = self._at.pop(key, None)
        if at is None:
            return False
        self._asked = 0
        self.count -= 1
        gone, last = self.members[at], self.members.pop()
        if last is not gone:
            self.members[at] = last
            self._at[last.key] = at
        siblings = self._of_instance[gone.instance_id]
        siblings.discard(key)
        if not siblings:
            del self._of_instance[gone.instance_id]
        return True

    def toss(self) -> bool:
        """Heads?"""
        return self._random() < 0.5

    def draw(self, exclude: Collection[int] = ()) -> list[Candidate]:
        """Two different members that have a place, or all of them where they are few, in random order; fewer if there
        are no more. Not to be changed."""
        members, count = self.members, self.count
        if count <= COMPARE_ALL:
            if count == 1 and not exclude:  # as often as not
                limit = members[0].limit
                return members if limit is None or members[0].in_flight < limit else []
            if count > 1 and (start := int(self._random() * count)):
                members = members[start:] + members[:start]
            if exclude:
                return [each for each in members if may_take(each, exclude)]
            return [each for each in members if (limit := each.limit) is None or each.in_flight < limit]
        first: Candidate | None = None
        for _ in range(_DRAWS):
            each = members[int(self._random() * count)]
            limit = each.limit  # `may_take`, without the price of a call
            if each is first or (limit is not None and each.in_flight >= limit) or each.key in exclude:
                continue
            if first is not None:
                return [first, each]
            first = each
        return self._draw_from([each for each in members if may_take(each, exclude)])

    def _draw_from(self, able: list[Candidate]) -> list[Candidate]:
        if len(able) < 2:
            return able
        first = int(self._random() * len(able))
        second = int(self._random() * (len(able) - 1))
        return [able[first], able[second + (second >= first)]]

    def due(self, candidate: Candidate, *, exact: bool = False) -> float:
        """The requests in flight that it would have, this one more included, if all had their share by power.

        The totals behind it are as old as an eighth of as many choices as there are members: exact for up to
        fifteen, and a thousand are not added up each time. `exact`: add up now, and leave what is kept as it is.
        """
        if exact:
            in_flight, all_power = totals(self.members)
            return (in_flight + 1) * power(candidate) / all_power
        self._asked -= 1
        if self._asked < 0:
            self._asked = len(self.members) // _RENEWED_PER_MEMBERS - 1
            self._in_flight, self._power = totals(self.members)
        return (self._in_flight + 1) * power(candidate) / self._power


def totals(candidates: Iterable[Candidate]) -> tuple[int, float]:
    """Requests in flight and power of all."""
    in_flight, sum_of_power = 0, 0.0
    for each in candidates:
        in_flight += each.in_flight
        sum_of_power += power(each)
    return in_flight, sum_of_power
