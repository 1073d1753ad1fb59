"""What an event means for the fleet.

An event is a hint and never an order: the worst that a false one can do is a look at the account or at an instance.
What we do not know makes us look at the account, as vast.ai adds kinds of events without notice.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from vastproxy.vastai.handlers.webhooks import Notice, Origin


class Verdict(StrEnum):
    """What is to be done, each including those before it."""

    NOTHING = "nothing"
    POLL = "poll"
    """Read the instance list now: something on the account has changed."""
    LOOK = "look"
    """Look at these instances now: they may have come up."""
    SUSPECT = "suspect"
    """Begin nothing new on these instances until a probe has succeeded: they may be gone."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, with which of the instances that we serve, and why, for people."""

    verdict: Verdict
    instance_ids: tuple[int, ...] = ()
    reason: str = ""


#: By slug (vast.ai documentation and its Slack example, 2026-08; `instance_resumed`, `instance_deleted`: as third
#: parties have seen them). `low_credit`, `upcoming_downtime` and whatever else there is or will be: POLL.
VAST_EVENTS: Mapping[str, Verdict] = MappingProxyType(
    {
        "webhook_test": Verdict.NOTHING,
        "payment_receipt": Verdict.NOTHING,
        "instance_started": Verdict.LOOK,
        "instance_online": Verdict.LOOK,
        "instance_resumed": Verdict.LOOK,
        "outbid": Verdict.SUSPECT,
        "instance_stopped": Verdict.SUSPECT,
        "instance_offline": Verdict.SUSPECT,
        "instance_deleted": Verdict.SUSPECT,
    }
)
#: What instances may say of themselves. Anything else: POLL.
INSTANCE_EVENTS: Mapping[str, Verdict] = MappingProxyType(
    {
        "test": Verdict.NOTHING,
        "onstart": Verdict.LOOK,
        "up": Verdict.LOOK,
        "ready": Verdict.LOOK,
        "down": Verdict.SUSPECT,
        "stopping": Verdict.SUSPECT,
    }
)


def decide(notice: Notice, known: Container[int]) -> Decision:
    """What the event means. `known` are the instances that we serve: nothing is done to any other."""
    table = VAST_EVENTS if notice.origin is Origin.VAST else INSTANCE_EVENTS
    verdict = table.get(notice.slug, Verdict.POLL)
    reason = f"{notice.origin} says: {notice.slug or 'something has happened'}"
    ids = tuple(number for number in notice.ids if number in known)
    if verdict in (Verdict.LOOK, Verdict.SUSPECT):
        return Decision(verdict, ids, reason) if ids else Decision(Verdict.POLL, (), reason)
    return Decision(verdict, (), reason)
