"""Whether a connection lives: when to ask it for a sign of life, when to doubt it, when to give it up. Pure.

    silence ──▶ asked ──▶ doubted ──▶ dead
       ▲          │          │
       └──────────┴──────────┴── anything that comes

Whatever comes is a sign of life, not only the answer to a question: on a full line the answer queues behind data. A
connection is looked at once in each period, and what came since the last look counts as heard at the look.

An answer is owed from when the question has arrived. It waits in our own queue behind whatever we send, and over a slow
line that takes long: as long as the other side's TCP goes on acknowledging what is before it, nothing is overdue. What
arrives after the question does not count: a stopped sshd has a kernel that acknowledges for it.

What we send may be lost while data still comes in. TCP then sends it again and again, and says how often; a path that
swallows packets is doubted for it at once, without a question.
"""

from enum import Enum, auto
from typing import NamedTuple

#: Silence after which a connection is asked on which somebody waits for something.
_BUSY_SILENCE_S = 1.0
#: How late an answer may be before the connection is doubted: a far instance over a full line answers in less.
_ANSWER_S = 2.0
#: Attempts of TCP to send something again, in a row, that tell of more than a lost packet.
_MANY_RETRANSMITS = 2
#: The longest time between two looks, and into how many looks an interval is divided at least.
_PERIOD_S = 0.5
_LOOKS = 4
#: How much later than due a look may be that still concludes something.
_LATE_S = 1.0


class Act(Enum):
    """What to do about a connection now."""

    NONE = auto()
    ASK = auto()
    """Ask for a sign of life."""
    END = auto()
    """Give it up: it is dead."""


class Question(Enum):
    """Where the first question is that is open."""

    ARRIVED = auto()
    """The other side's TCP has acknowledged it, or nobody knows."""
    MOVING = auto()
    """It has not arrived, but some of what was sent before it has since the last look."""
    STANDING = auto()
    """It has not arrived, and nothing has since the last look."""


class NoSignOfLife(Exception):
    """Why a connection was given up."""

    def __init__(self, silent_s: float) -> None:
        length = f"{silent_s:.1f}" if silent_s < 10 else f"{silent_s:.0f}"
        super().__init__(f"no sign of life for {length} s (keepalives unanswered)")


class Rules:
    """The times by which connections are judged, in seconds. Made once: the properties are read at every look."""

    __slots__ = ("answer_s", "busy_s", "death_s", "interval_s", "late_s", "period_s", "unacknowledged_s")

    def __init__(self, interval_s: float, count: int) -> None:
        """An idle connection is asked after `interval_s`; dead is who leaves `count` questions unanswered."""
        self.interval_s = interval_s
        self.busy_s = min(_BUSY_SILENCE_S, interval_s)
        self.death_s = interval_s * count
        self.answer_s = min(_ANSWER_S, interval_s, self.death_s / 2)
        self.period_s = min(_PERIOD_S, interval_s / _LOOKS)
        #: Looks that are further apart than this conclude nothing.
        self.late_s = 2 * self.period_s + min(_LATE_S, self.death_s / 2)
        #: How long TCP may keep trying to deliver something. New work is kept away by doubt long before; and behind a
        #: slow relay Linux counts the time in which the window is shut, though data moves (see `tcp.give_up_after`).
        self.unacknowledged_s = 4 * interval_s * (count + 1)


class Life(NamedTuple):
    """What is known of one connection. Times are of the caller's clock."""

    received: int
    """The count of what had come at the last look at which it had changed."""
    heard_at: float
    """When that look was."""
    owes_since: float | None = None
    """Since when an answer is due: when the first question was asked that is unanswered, or when it was last seen to be
    moving."""
    asked_at: float = float("-inf")
    """When it was last asked."""
    is_doubted: bool = False
    has_arrived: bool = True
    """False while the first question that is unanswered may be on its way."""


def look(
    life: Life,
    now: float,
    *,
    received: int,
    is_busy: bool,
    retransmits: int,
    rules: Rules,
    question: Question = Question.ARRIVED,
) -> tuple[Life, Act]:
    """Judge a connection.

    `received` changes with whatever comes in. `is_busy`: somebody waits for something to come. `retransmits`: how
    often in a row TCP has sent again what is not acknowledged; 0 where that is not known. `question` is of interest
    until `life.has_arrived`.
    """
    is_stuck = retransmits >= _MANY_RETRANSMITS
    if received != life.received:
        is_doubted = is_stuck or (life.is_doubted and retransmits > 0)
        return Life(received, now, None, life.asked_at, is_doubted), Act.NONE
    is_doubted = life.is_doubted or is_stuck
    since = life.owes_since
    if since is None:
        patience_s = rules.busy_s if is_busy or is_doubted else rules.interval_s
        if now - life.heard_at < patience_s:
            return (life if is_doubted is life.is_doubted else life._replace(is_doubted=True)), Act.NONE
        return Life(received, life.heard_at, now, now, is_doubted, has_arrived=False), Act.ASK
    if not life.has_arrived:
        if question is Question.MOVING:
            is_doubted = is_stuck or (life.is_doubted and retransmits > 0)
            return life._replace(owes_since=now, is_doubted=is_doubted), Act.NONE
        if question is Question.ARRIVED:
            life = life._replace(has_arrived=True)
    overdue_s = now - since
    if overdue_s >= rules.death_s and life.is_doubted:
        return life, Act.END
    is_doubted = is_doubted or overdue_s >= rules.answer_s
    if now - life.asked_at >= rules.interval_s:
        return Life(received, life.heard_at, since, now, is_doubted, life.has_arrived), Act.ASK
    return (life if is_doubted is life.is_doubted else life._replace(is_doubted=is_doubted)), Act.NONE


def look_again(life: Life, now: float, *, received: int) -> tuple[Life, Act]:
    """Judge nothing, as nobody has looked for too long: the machine slept, or this process was held up, and answers
    may wait unread. A connection from which nothing has come is asked anew."""
    if received != life.received:
        return Life(received, now, None, life.asked_at, life.is_doubted), Act.NONE
    return Life(received, life.heard_at, now, now, life.is_doubted, has_arrived=False), Act.ASK
