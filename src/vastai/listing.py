"""The complete list of instances: walking the pages of the new endpoint, or asking the old one.

A list is complete or there is none: who is missing from a list is taken for destroyed.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from vastproxy.vastai.calls import Caller
from vastproxy.vastai.errors import VastError, VastNotFound, VastProtocolError, VastRejected
from vastproxy.vastai.parsing import as_int
from vastproxy.vastai.transport import Call

logger = logging.getLogger(__name__)

PAGE_SIZE = 25  # the most that vast.ai allows
MAX_PAGES = 400  # 10,000 instances: a bound for the loop, not for customers
#: The new endpoint is tried again after this, should it have been missing for a moment only.
_OLD_FOR_S = 3600.0
_DOING = "listing instances"
#: Letter for letter what the official command line sends (vastai 1.9).
_QUERY = {"select_filters": "{}", "order_by": '[{"col": "id", "dir": "asc"}]', "limit": str(PAGE_SIZE)}


class Lister:
    """Reads the list, and remembers which of the two endpoints answers."""

    def __init__(self, caller: Caller, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._caller = caller
        self._clock = clock
        self._old_until: float | None = None

    def fetch(self) -> list[Any]:
        """The rows of all instances as they came. Raises VastError; nothing half read is ever returned."""
        if self._old_until is not None and self._clock() < self._old_until:
            return self._fetch_old()
        try:
            return self._fetch_new()
        except VastError as missing:
            # A bad key can be a 404 too, but that is VastUnauthorized.
            if not (isinstance(missing, VastNotFound) or missing.http_status == 405):
                raise
            rows = self._fetch_old()
            logger.info(
                "vast.ai has no /api/v1/instances/ (%s); using /api/v0/instances/", missing.http_status
            )
            self._old_until = self._clock() + _OLD_FOR_S
            return rows

    def _fetch_new(self) -> list[Any]:
        try:
            return self._walk()
        except (VastProtocolError, VastRejected) as error:
            # An instance that went away between two pages, or a cursor that did not last: walk again, once.
            if error.code not in ("incomplete_list", "paging_loop", "invalid_token"):
                raise
            logger.info("%s; reading the list again", error)
            return self._walk()

    def _walk(self) -> list[Any]:
        rows: list[Any] = []
        seen: set[str] = set()
        token: str | None = None
        for _ in range(MAX_PAGES):
            params = _QUERY if token is None else {**_QUERY, "after_token": token}
            page = self._caller.run(
                Call("list_instances", "GET", "/api/v1/instances/", "instances.list", _DOING, params=params)
            )
            rows += _rows_of(page)
            token = page.get("next_token") or None
            if token is None:
                return _complete(rows, page.get("total_instances"))
            if not isinstance(token, str) or token in seen:
                break
            seen.add(token)
        raise VastProtocolError(
            f"vast.ai sends the same pages over and over while {_DOING}; try again later", "paging_loop"
        )

    def _fetch_old(self) -> list[Any]:
        answer = self._caller.run(
            Call(
                "list_instances_v0", "GET", "/api/v0/instances/", "instances.list_v0", _DOING, {"owner": "me"}
            )
        )
        return _complete(_rows_of(answer), answer.get("instances_found"))


def _rows_of(answer: object) -> list[Any]:
    rows = answer.get("instances") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise VastProtocolError(f"the answer of vast.ai has no list of instances while {_DOING}", "no_list")
    return rows


def _complete(rows: list[Any], announced: object) -> list[Any]:
    """The rows, each id once (the last is the newest), if they are as many as announced."""
    by_id: dict[Any, Any] = {}
    for index, row in enumerate(rows):
        number = as_int(row.get("id")) if isinstance(row, dict) else None
        by_id[("row", index) if number is None else number] = row
    expected = as_int(announced)
    if expected is not None and len(by_id) < expected:
        raise VastProtocolError(
            f"vast.ai announced {expected} instances and sent {len(by_id)} while {_DOING}", "incomplete_list"
        )
    return list(by_id.values())
