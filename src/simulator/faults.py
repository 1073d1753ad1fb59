"""Misbehaviour of the API on demand: which answers go wrong, and how."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """How one answer goes wrong. Shapes: vast.ai API docs and captures of the official CLI, 2026-08."""

    RATE_LIMIT_TEXT = "rate_limit_text"
    RATE_LIMIT_DETAIL = "rate_limit_detail"
    RATE_LIMIT_JSON = "rate_limit_json"
    SEARCH_QUOTA = "search_quota"
    SERVER_ERROR_JSON = "server_error_json"
    SERVER_ERROR_HTML = "server_error_html"
    BAD_GATEWAY_HTML = "bad_gateway_html"
    FORBIDDEN_HTML = "forbidden_html"
    BAD_KEY_401 = "bad_key_401"
    BAD_KEY_404 = "bad_key_404"
    SUCCESS_FALSE = "success_false"
    TRUNCATED_JSON = "truncated_json"
    EMPTY_LIST = "empty_list"
    NO_V1 = "no_v1"
    HANG = "hang"


#: These spoil only a list of instances; others meet any call.
LIST_ONLY = frozenset({Fault.EMPTY_LIST, Fault.NO_V1})


@dataclass(slots=True)
class _Order:
    fault: Fault
    times: int | None
    path: str
    method: str


class Faults:
    """What goes wrong next, in the order in which it was asked for."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []
        self._released = asyncio.Event()
        #: Calls that hang now.
        self.hanging = 0

    def next(self, fault: Fault | str, *, times: int = 1, path: str = "", method: str = "") -> None:
        """Spoil the next `times` calls whose path contains `path` and whose method is `method` (empty: any).

        HANG answers nothing until `release`; then the call is served as if nothing had been.
        """
        self._orders.append(_Order(Fault(fault), times, path, method.upper()))

    def always(self, fault: Fault | str, *, path: str = "", method: str = "") -> None:
        """Spoil every such call until `clear`."""
        self._orders.append(_Order(Fault(fault), None, path, method.upper()))

    def clear(self) -> None:
        """Forget all orders and let hanging calls go on."""
        self._orders.clear()
        self.release()

    @property
    def pending(self) -> int:
        """Orders that have not been used up."""
        return len(self._orders)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this call meets, used up by asking."""
        for order in self._orders:
            if order.path not in path or order.method not in ("", method):
                continue
            if order.fault in LIST_ONLY and not is_list(method, path):
                continue
            if order.fault is Fault.NO_V1 and "/v1/" not in path:
                continue
            if order.times is not None:
                order.times -= 1
                if order.times <= 0:
                    self._orders.remove(order)
            return order.fault
        return None

    async def hang(self) -> None:
        """Wait for `release`."""
        self.hanging += 1
        try:
            await self._released.wait()
        finally:
            self.hanging -= 1

    def release(self) -> None:
        """Let the calls that hang now go on; later ones hang again."""
        self._released.set()
        self._released = asyncio.Event()


def is_list(method: str, path: str) -> bool:
    """Is this a call for the list of instances, of either version?"""
    return method == "GET" and path in ("/api/v1/instances/", "/api/v0/instances/")
