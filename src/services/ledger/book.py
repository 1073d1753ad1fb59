"""The ledger between two writings: what requests leave behind, and the seconds that instances were seen. Pure.

A request costs one append to `entries`; everything else is done on a timer. A second is busy if the instance had a
request in flight at its beginning or end, or one that ended in it; all others are idle.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from vastproxy.services.ledger.batch import TTFT_BOUNDS, Batch, Experience, Rent, Served
from vastproxy.services.ledger.entry import Entry, tokens_of
from vastproxy.services.ledger.rented import Rented
from vastproxy.services.ledger.seconds import hour_of, marked
from vastproxy.services.ledger.totals import Totals

#: Cells kept for a file that cannot be written: some 100 MB. What comes beyond is lost, and counted.
MAX_CELLS: Final = 200_000
#: Requests that may wait to be taken in: seconds of the busiest proxy, and some 15 MB where nobody takes them.
MAX_ENTRIES: Final = 65_536
#: By so much may the wall clock run away from the monotonic one between two looks, before it counts as set anew.
_CLOCK_SLACK_S: Final = 2.0
_LEFT: Final = 499

_RentKey = tuple[int, int, float, bool]
_ServedKey = tuple[int, int, str, str]


class Book:
    """Everything belongs to the event loop's thread."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        """Requests that have ended, to be appended to; `digest` takes them out."""
        self.totals = Totals()
        """Since the start of the process."""
        self.lost = 0
        """Requests that are in no batch, as there were too many cells."""
        self.rented: Mapping[int, Rented] = {}
        """The instances as last listed, by id. To be set."""
        self._rent: dict[_RentKey, Rent] = {}
        self._served: dict[_ServedKey, Served] = {}
        self._machines: dict[int, Experience] = {}
        self._worked: set[int] = set()
        self._busy: frozenset[int] = frozenset()
        self._failures: dict[int, int] = {}
        self._marked_until: int | None = None
        self._number = 0

    # ── time ───────────────────────────────────────────────────────────────────────────────────

    def tick(self, now: float, elapsed_s: float, busy: Iterable[int]) -> None:
        """Note the seconds since the last tick. `now`: unix time; `elapsed_s`: the same distance on a clock that nobody
        sets; `busy`: ids of the instances that have requests in flight."""
        at_work = frozenset(busy)
        worked = self._worked | self._busy | at_work
        self._busy, self._worked = at_work, set()
        until, since = int(now), self._marked_until
        self._marked_until = until
        if since is None or until <= since:
            return
        if until - since > elapsed_s + _CLOCK_SLACK_S:
            since = until - int(elapsed_s)
        for hour, mask in marked(since, until):
            seconds = mask.bit_count()
            for one in self.rented.values():
                is_busy = one.id in worked
                cell = self._rent_of(hour, one)
                cell.seen |= mask
                if is_busy:
                    cell.busy |= mask
                self.totals.rent(one.dollars_per_hour * seconds / 3600, is_busy)

    def _rent_of(self, hour: int, one: Rented) -> Rent:
        key = (hour, one.id, one.dollars_per_hour, one.is_running)
        found = self._rent.get(key)
        if found is None:
            found = self._rent[key] = Rent(
                hour, one.id, one.machine_id, one.identity, one.gpu, one.is_running, one.dollars_per_hour
            )
        return found

    # ── requests ───────────────────────────────────────────────────────────────────────────────

    def digest(self, now: float, *, most: int = 1000) -> None:
        """Take up to `most` of the entries in."""
        hour, entries = hour_of(now), self.entries
        for _ in range(min(most, len(entries))):
            self._take(hour, entries.popleft())

    def _take(self, hour: int, entry: Entry) -> None:
        instance_id, model, key, _, status, error, _, _, _, _, received, sent, _, _ = entry
        tokens_in, tokens_out, estimated = tokens_of(entry)
        is_error = error is not None or (status >= 400 and status != _LEFT)
        self._worked.add(instance_id)
        one = self.rented.get(instance_id)
        dollars = 0.0
        if one is not None:
            dollars = received * one.dollars_per_byte_in + sent * one.dollars_per_byte_out
            if one.machine_id is not None:
                _had(self._experience(one.machine_id), entry)
        self.totals.request(model or "", tokens_in, tokens_out, estimated, dollars)
        names = (hour, instance_id, model or "", key or "")
        cell = self._served.get(names)
        if cell is None:
            if len(self._served) >= MAX_CELLS:
                self.lost += 1
                return
            cell = self._served[names] = Served(*names)
        cell.requests += 1
        cell.errors += is_error
        cell.tokens_in += tokens_in
        cell.tokens_out += tokens_out
        cell.estimated_tokens += estimated
        cell.received_bytes += received
        cell.sent_bytes += sent
        cell.bandwidth_dollars += dollars

    # ── machines ───────────────────────────────────────────────────────────────────────────────

    def way_lost(self, instance_id: int) -> None:
        """There is no way to it any more, though it runs and nobody has closed it."""
        one = self.rented.get(instance_id)
        if one is not None and one.machine_id is not None and one.is_running:
            self._experience(one.machine_id).drops += 1

    def failed(self, counts: Mapping[int, int]) -> None:
        """How many attempts have failed at each instance, by id, ever since it is served."""
        for instance_id, count in counts.items():
            new = count - self._failures.get(instance_id, 0)
            one = self.rented.get(instance_id)
            if new > 0 and one is not None and one.machine_id is not None:
                self._experience(one.machine_id).errors += new
        self._failures = dict(counts)

    def _experience(self, machine_id: int) -> Experience:
        found = self._machines.get(machine_id)
        if found is None:
            found = self._machines[machine_id] = Experience(machine_id)
        return found

    # ── writing ────────────────────────────────────────────────────────────────────────────────

    def close(self, now: float) -> Batch | None:
        """What has been noted since the last batch, to be written; None where that is nothing."""
        if not (self._rent or self._served or self._machines):
            return None
        self._number += 1
        batch = Batch(
            self._number,
            now,
            tuple(self._rent.values()),
            tuple(self._served.values()),
            tuple(self._machines.values()),
        )
        self._rent, self._served, self._machines = {}, {}, {}
        return batch


def _had(experience: Experience, entry: Entry) -> None:
    """What one request tells of the machine. An error of ours is counted as a failed attempt where it was one."""
    _, _, _, _, status, error, _, told_out, pieces, streamed, _, _, ttft_s, took_s = entry
    experience.requests += 1
    if status >= 500 and error is None:
        experience.errors += 1
    if not streamed or ttft_s is None or status >= 400:
        return
    experience.ttft[bisect_left(TTFT_BOUNDS, ttft_s)] += 1
    tokens = pieces if told_out is None else told_out
    if tokens > 1 and took_s > ttft_s:
        experience.tokens += tokens - 1
        experience.seconds += took_s - ttft_s
