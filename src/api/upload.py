"""The body of one request on its way up: what has come, what is held so that it can be sent again, in which frame."""

from typing import NamedTuple

from vastproxy.services.backends.rids import RidUpload, carry, new_rid
from vastproxy.services.http1.headers import LAST_CHUNK, chunk
from vastproxy.services.routing.ask_usage import ask_usage
from vastproxy.services.routing.rename import rename

#: Bytes of a body that are held so that the request can be sent again, elsewhere. Most prompts are smaller.
REPLAY_LIMIT_BYTES = 1 << 20


class Rename(NamedTuple):
    """Another name for the model, for an engine that knows it by that one."""

    model: str
    content_type: bytes


class Asking(NamedTuple):
    """How usage is asked for. `spare_timings`: not where the client wants timings, which would be lost with it."""

    spare_timings: bool


class Upload:
    """Counts, holds and frames. `length`: bytes that were announced, None when the body comes in chunks."""

    __slots__ = (
        "_carried",
        "_chunked",
        "_held",
        "_length",
        "_rid",
        "asks_usage",
        "complete",
        "sent",
        "total_bytes",
    )

    def __init__(self, length: int | None) -> None:
        self._held: list[bytes] | None = []
        self._length = length
        self._rid: str | None = None
        self._carried: RidUpload | None = None
        self._chunked = False
        self.total_bytes = 0
        self.asks_usage = False
        """Does this attempt ask for the usage of its stream though the client does not?"""
        self.complete = False
        """Has the client sent everything?"""
        self.sent = False
        """Has everything been written to the connection of this attempt?"""

    @property
    def rid(self) -> str | None:
        """The id under which an engine knows the request of this attempt, if it was given one."""
        return self._carried.rid if self._carried is not None else self._rid

    @property
    def replayable(self) -> bool:
        """Could everything that has come be sent once more?"""
        return self._held is not None

    def gathered(self) -> bytes:
        """All that has come. Only while `replayable`."""
        held = self._held
        assert held is not None
        if len(held) == 1:
            return held[0]
        held[:] = [b"".join(held)]
        return held[0]

    def add(self, data: bytes, *, complete: bool, on_its_way: bool) -> None:
        """More has come. `on_its_way`: an attempt is being made, so this piece need not be held to be sent at all."""
        self.complete = complete
        if not data:
            return
        self.total_bytes += len(data)
        if self._held is not None:
            if on_its_way and self.total_bytes > REPLAY_LIMIT_BYTES:
                self._held = None
            else:
                self._held.append(data)

    def release(self) -> None:
        """An answer has begun: nothing will be sent a second time, so nothing is held for it any more."""
        self._held = None

    def begin(
        self, carrying: bytes | None, renaming: Rename | None = None, asking: Asking | None = None
    ) -> tuple[int | None, bytes]:
        """An attempt begins: the length to announce (None: chunks), and what is written right behind the head.

        `carrying`: the target of a request whose body shall carry an id by which it can be aborted, a fresh one
        each time. `renaming`: the model that it shall ask for. `asking`: it asks for a stream, and shall ask for its
        usage, too. Only while `replayable`.
        """
        data = self.gathered()
        self.sent = self.complete
        self._rid = self._carried = None
        self.asks_usage = False
        length = len(data) if self.complete else self._length
        if renaming is not None:
            length, data = self._rename(renaming, length, data)
        if asking is not None and self.complete:
            length, data = self._ask(asking, data)
        if carrying is not None:
            length, data = self._carry(carrying, length, data)
        self._chunked = length is None
        if self.total_bytes > REPLAY_LIMIT_BYTES:
            self._held = None  # held for its model's sake; it is not sent a second time
        return length, chunk(data) if self._chunked else data

    def more(self, data: bytes) -> bytes:
        """A further piece, as it is written to the connection of the attempt."""
        self.sent = self.complete
        if self._carried is not None:
            data = self._carried.feed(data, last=self.complete)
        if not self._chunked:
            return data
        return chunk(data) + LAST_CHUNK if self.complete else chunk(data)

    def _rename(self, to: Rename, length: int | None, data: bytes) -> tuple[int | None, bytes]:
        edit = rename(data, to.model, to.content_type, complete=self.complete)
        if edit is None:  # what the engine makes of it, it will say
            return length, data
        return (None if length is None else length + edit.growth), edit.apply(data)

    def _ask(self, asking: Asking, data: bytes) -> tuple[int, bytes]:
        edit = ask_usage(data, spare_timings=asking.spare_timings)
        if edit is None:
            return len(data), data
        self.asks_usage = True
        data = edit.apply(data)
        return len(data), data

    def _carry(self, target: bytes, length: int | None, data: bytes) -> tuple[int | None, bytes]:
        if self.complete:
            carried = carry(target, data, new_rid())
            if carried is None:
                return length, data
            self._rid = carried.rid
            return len(carried.body), carried.body
        self._carried = growing = RidUpload.begin(target, data, new_rid())
        if growing is None:
            return length, data
        return (None if length is None else length + growing.extra), growing.feed(data, last=False)
