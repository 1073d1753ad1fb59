"""Who hears of what happens: listeners at once, readers of a stream when they come to it, latecomers from a memory.

Listeners are called in the order in which they subscribed, on the event loop; they must be quick and must not block.
One that raises is logged and stays subscribed: an onlooker cannot stop the fleet. A stream is for whoever takes his
time: it holds so much for him, then loses the oldest, and says how many.
"""

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Final, Self

from vastproxy.services.events import FleetEvent, Heard, RequestFailed, line_of

logger = logging.getLogger(__name__)

Listener = Callable[[FleetEvent], None]

#: Events remembered, about half a kilobyte each.
KEPT: Final = 1_000
#: Events that a stream holds for a reader who takes his time.
STREAM_LIMIT: Final = 1_000
_WORD = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Happening:
    """One event, when it happened (`at_unix`: seconds since 1970) and its number: later events have higher ones, also
    those of a process that was started later."""

    seq: int
    at_unix: float
    event: FleetEvent

    @property
    def kind(self) -> str:
        """What has happened, in one word, such as `state_changed`."""
        return kind_of(type(self.event))

    @property
    def level(self) -> str:
        """`info`, `warning` or `error`."""
        if isinstance(self.event, RequestFailed):
            return "warning"  # the log has it in the line of the request, so there this one is a detail
        level = line_of(self.event).level
        return "error" if level >= logging.ERROR else "warning" if level >= logging.WARNING else "info"

    @property
    def text(self) -> str:
        """One line for a person."""
        return line_of(self.event).text

    @property
    def instance_id(self) -> int | None:
        """Whom it is about, if it is about one instance."""
        return getattr(self.event, "instance_id", None)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values, the event's own fields behind the others."""
        common = {
            "seq": self.seq,
            "at_unix": round(self.at_unix, 3),
            "kind": self.kind,
            "level": self.level,
            "instance": self.instance_id,
            "text": self.text,
        }
        return common | _own_fields(self.event)


def kind_of(event: type[FleetEvent]) -> str:
    """The name of a kind of event for programs: `StateChanged` is `state_changed`."""
    return _WORD.sub("_", event.__name__).lower()


def _own_fields(event: FleetEvent) -> dict[str, Any]:
    if isinstance(event, Heard):
        decision = event.decision
        return {
            "verdict": decision.verdict.value,
            "instances": list(decision.instance_ids),
            "reason": decision.reason,
        }
    told = {field.name: getattr(event, field.name) for field in fields(event)}
    told.pop("instance_id", None)
    return {name: value.value if isinstance(value, Enum) else value for name, value in told.items()}


class EventStream:
    """The events from now on, one after the other: `async for happening in stream`. For one reader; belongs to the
    event loop. Ends when it is closed; leave it by `close` or a `with` block, or it goes on collecting.

    `lost`: events that were dropped, in all, because they were not taken in time.
    """

    def __init__(self, limit: int, *, closed: Callable[["EventStream"], None]) -> None:
        self._held: deque[Happening] = deque()
        self._limit = limit
        self._closed = closed
        self._is_closed = False
        self._news = asyncio.Event()
        self.lost = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    def __len__(self) -> int:
        """Events that wait to be taken."""
        return len(self._held)

    async def __anext__(self) -> Happening:
        while not self._held:
            if self._is_closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._held.popleft()

    async def wait(self) -> None:
        """Until there is an event to take, or the end."""
        while not self._held and not self._is_closed:
            self._news.clear()
            await self._news.wait()

    def take(self) -> list[Happening]:
        """All that wait, without waiting."""
        taken = list(self._held)
        self._held.clear()
        return taken

    def put(self, happening: Happening) -> None:
        """One more."""
        if len(self._held) >= self._limit:
            self._held.popleft()
            self.lost += 1
        self._held.append(happening)
        self._news.set()

    @property
    def is_closed(self) -> bool:
        """Has it been closed?"""
        return self._is_closed

    def close(self) -> None:
        """Nothing more comes; what is held can still be taken. More than once does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._closed(self)
            self._news.set()


class EventBus:
    """Hands each event to each listener and each stream, and remembers the last `kept`."""

    def __init__(self, *, kept: int = KEPT, wall_clock: Callable[[], float] = time.time) -> None:
        self._listeners: list[Listener] = []
        self._streams: list[EventStream] = []
        self._wall_clock = wall_clock
        self._last: deque[Happening] = deque(maxlen=kept)
        # Numbers go on where those of a process before have ended, so that a reader who comes back is not misled.
        self._first_seq = int(wall_clock() * 1000) + 1
        self._seq = self._first_seq - 1

    @property
    def seq(self) -> int:
        """The number of the last event."""
        return self._seq

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every event from now on. Returns what ends that; calling it twice is harmless."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def stream(self, *, limit: int = STREAM_LIMIT) -> EventStream:
        """The events from now on. Of those that are not taken in time the last `limit` are kept."""
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        stream = EventStream(limit, closed=self._streams.remove)
        self._streams.append(stream)
        return stream

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._streams)

    def publish(self, event: FleetEvent) -> None:
        self._seq += 1
        happening = Happening(self._seq, self._wall_clock(), event)
        self._last.append(happening)
        for stream in self._streams:
            stream.put(happening)
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed on %r", event)

    def latest(self, count: int, *, instance_id: int | None = None) -> list[Happening]:
        """The last ones that are remembered, the oldest first; with `instance_id` those about this instance alone."""
        found = [one for one in self._last if instance_id is None or one.instance_id == instance_id]
        return found[-count:] if count > 0 else []

    def since(self, seq: int) -> tuple[list[Happening], int]:
        """The events after this number, the oldest first, and how many more there were that are not remembered. A
        number that none of this process's events has been given means all."""
        if not self._first_seq <= seq <= self._seq:
            return list(self._last), 0
        found = [one for one in self._last if one.seq > seq]
        return found, self._seq - seq - len(found)
