"""The overview as bytes, made once for all who want it at about the same time, in slices so that nobody has to wait.

Encoding is most of the work, so what has not changed since the last time is not encoded again: a thousand backends with
eight GPUs each are 6 MB, of which two thirds stay the same from one second to the next.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vastproxy.api.json_answer import encoded
from vastproxy.services.overview import Overview, shown

#: Work after which others have their turn.
SLICE_S: Final = 0.001
_BEFORE: Final = b"event: fleet\ndata: "
_AFTER: Final = b"\n\n"


@dataclass(frozen=True, slots=True)
class Page:
    """The overview at one moment. `version` is the same as long as nothing but the time has changed. `event`: as one
    Server-Sent Event; JSON has no line ends in it."""

    made_at: float
    version: int
    event: bytes

    @property
    def body(self) -> bytes:
        """As a JSON document."""
        return self.event[len(_BEFORE) : -len(_AFTER)]


@dataclass(frozen=True, slots=True)
class _Row:
    told: Mapping[str, Any]
    body: bytes


class FleetPages:
    """Makes pages of one fleet. Belongs to one event loop."""

    def __init__(
        self,
        overview: Overview,
        ids: Callable[[], tuple[int, ...]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ids`: of the backends there are."""
        self._overview = overview
        self._ids = ids
        self._clock = clock
        self._turn = asyncio.Lock()
        self._rows: dict[int, _Row] = {}
        self._head: _Row | None = None
        self._is_changed = True
        self._page = Page(float("-inf"), 0, b"")

    async def page(self, max_age_s: float) -> Page:
        """One that is not older than this."""
        async with self._turn:
            if self._clock() - self._page.made_at > max_age_s:
                self._page = await self._make()
            return self._page

    async def _make(self) -> Page:
        made_at = self._clock()
        told, clocks = self._overview.head()
        if self._head is None or self._head.told != told:
            self._head = _Row(told, encoded(told))
            self._is_changed = True
        rows: list[bytes] = []
        ids = self._ids()
        began = self._clock()
        for id in ids:
            if (row := self._row(id)) is not None:
                rows.append(row)
            if self._clock() - began > SLICE_S:
                await asyncio.sleep(0)
                began = self._clock()
        for gone in self._rows.keys() - set(ids):
            del self._rows[gone]
            self._is_changed = True
        version = self._page.version + self._is_changed
        self._is_changed = False
        head = _with(self._head.body, clocks)[:-1]
        event = b"".join((_BEFORE, head, b',"backends":[', b",".join(rows), b"]}", _AFTER))
        return Page(made_at, version, event)

    def _row(self, id: int) -> bytes | None:
        """A backend, None if it has gone meanwhile."""
        try:
            told, clocks = self._overview.row(id)
        except KeyError:
            return None
        row = self._rows.get(id)
        if row is None or row.told != told:
            row = self._rows[id] = _Row(told, encoded(shown(told)))
            self._is_changed = True
        return _with(row.body, clocks)


def _with(body: bytes, more: Mapping[str, Any]) -> bytes:
    """A JSON object with more fields."""
    return body[:-1] + b"," + encoded(more)[1:]
