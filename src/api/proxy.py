"""The balancing proxy: an `Exchange` for each request that is not for us."""

import itertools
import re
import secrets

from vastproxy.api.access import AccessLog
from vastproxy.api.client import Client
from vastproxy.api.errors import ApiError
from vastproxy.api.exchange import Exchange
from vastproxy.api.http.request import Request
from vastproxy.api.tools import ProxyTools
from vastproxy.services.fleet import Fleet
from vastproxy.services.ledger.ledger import Ledger
from vastproxy.services.metrics.operations import OTHER
from vastproxy.services.metrics.requests import RequestMetrics
from vastproxy.services.tracing.tracing import Tracing

#: A request id of the client's is kept when it is one: short, printable, no surprises in a log line.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class Proxy:
    """See the module's docstring. `aclose` after the server has stopped."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        access_log: AccessLog | None = None,
        metrics: RequestMetrics | None = None,
        tracing: Tracing | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        log = access_log if access_log is not None else AccessLog()
        self._tools = ProxyTools(fleet, access_log=log, metrics=metrics, tracing=tracing, ledger=ledger)
        # Unique among processes by its beginning, within one by its end.
        self._request_ids = map(f"{secrets.token_hex(6)}%08x".encode().__mod__, itertools.count(1))

    async def aclose(self) -> None:
        """End what is under way."""
        await self._tools.aclose()

    def handle(self, request: Request, client: Client) -> Exchange:
        """The handler for a request that is to be proxied."""
        known = request.known
        if b"x-request-id" in known and _REQUEST_ID.fullmatch(known[b"x-request-id"][-1]):
            request_id = known[b"x-request-id"][-1]
        else:
            request_id = next(self._request_ids)
        return Exchange(self._tools, request, client, request_id)

    def log_refused(self, error: ApiError, client: Client) -> None:
        """A connection was refused before there was a request to name."""
        # fmt: off
        self._tools.access_log.log(
            b"-", b"-", b"-", None, None, None, "", error.status, error.code, False, 0, 0, 0, 0.0, None, 0.0,
            None, None, client.peer,
        )
        # fmt: on
        self._tools.finished(
            OTHER, None, None, error.status, error.code, 0, None, None, 0.0, 0, 0, None, None, 0, False
        )
