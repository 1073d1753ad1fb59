"""What can be learnt from requests that have just ended, of those that are remembered: who failed, who found his place
again, and how soon answers began.

Under a heavy load more requests come between two looks than are looked at; then it is a sample.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from vastproxy.services.dispatch.claim import NEVER, Claim
from vastproxy.services.events import RequestFailed
from vastproxy.services.live.blame import is_failure
from vastproxy.services.routing.policies.prefix_affinity import PrefixAffinity
from vastproxy.services.traces import Traces

#: Requests that are looked at of those that have come since the last look, and of those that have not ended.
MAX_NEW: Final = 1_000
MAX_OPEN: Final = 2_000
#: Times to the first byte that are kept of one backend and step: enough for a median.
MAX_TIMES: Final = 64
#: Words of a choice that followed a session or the beginning of a prompt; and of one that did not, though it could.
_HITS: Final = frozenset({"session", "prefix"})
_MISSES: Final = frozenset({"session moved", "spilled", "second home"})


class Endings:
    """Follows requests from when they come until they have ended. `take` looks at the new and the open ones alone."""

    __slots__ = ("_newest", "_traces", "open")

    def __init__(self, traces: Traces) -> None:
        self._traces = traces
        self._newest: Claim | None = None
        self.open: list[Claim] = []
        """Those that had not ended when last looked at."""

    def take(self) -> list[Claim]:
        """Those that have ended since the last time."""
        if new := self._traces.after(self._newest, MAX_NEW):
            self._newest = new[0]
            self.open += reversed(new)
        if not self.open:
            return []
        ended = [claim for claim in self.open if claim.ended_at != NEVER]
        if ended or len(self.open) > MAX_OPEN:
            self.open = [claim for claim in self.open if claim.ended_at == NEVER][-MAX_OPEN:]
        return ended


@dataclass(slots=True)
class Learnt:
    """`homes`: requests whose conversation or prompt had a place where it had been; `hits`: those that went there.
    `times_s`: until the first byte of a stream, by instance."""

    homes: int = 0
    hits: int = 0
    failures: list[RequestFailed] = field(default_factory=list)
    times_s: dict[int, list[float]] = field(default_factory=dict)


def learn(claims: Iterable[Claim]) -> Learnt:
    """From requests that have ended."""
    learnt = Learnt()
    for claim in claims:
        if (hit := went_home(claim)) is not None:
            learnt.homes += 1
            learnt.hits += hit
        if (failure := failure_of(claim)) is not None:
            learnt.failures.append(failure)
        elif claim.pieces > 1 and claim.first_byte_at != NEVER and claim.lease is not None:
            times = learnt.times_s.setdefault(claim.lease.backend.id, [])
            if len(times) < MAX_TIMES:
                times.append(claim.first_byte_at - claim.began_at)
    return learnt


def went_home(claim: Claim) -> bool | None:
    """Did it go where its session or the beginning of its prompt had been? None where there was no such place."""
    if not claim.leases:
        return None
    first = claim.leases[0]
    why = first.choice.why
    if why in _HITS:
        return True
    if why not in _MISSES:
        return None
    if why == "spilled" and not isinstance(first.need.policy.inner, PrefixAffinity):
        return None  # there it is a word for something else
    return False


def failure_of(claim: Claim) -> RequestFailed | None:
    """What is to be told of it, if it has failed and its client is not to blame."""
    status, code = claim.status, claim.error_code
    if not is_failure(status, code):
        return None
    lease = claim.lease
    return RequestFailed(
        None if lease is None else lease.backend.id,
        claim.request_id.decode("latin-1"),
        claim.named_model,
        status,
        code or f"http_{status}",
        "" if lease is None else lease.error or ("" if code else "the engine said so itself"),
    )
