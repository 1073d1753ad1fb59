"""The fork in the road, behind the check of the key: our own pages on one side, what is proxied on the other.

There are two ways in. Our own server's connections come through `Entrance`, without a task or a router; any other
ASGI server comes through `Front`, which stands before the application's routes. Both ask the same two questions.
"""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from vastproxy.api.auth import KeyRing
from vastproxy.api.client import Client, Handler
from vastproxy.api.errors import BAD_KEY, ApiError, send_error
from vastproxy.api.foreign import AsgiClient, request_of
from vastproxy.api.foreign import path_of as path_of_scope
from vastproxy.api.http.asgi import AsgiCall, path_of
from vastproxy.api.http.request import Request
from vastproxy.api.proxy import Proxy
from vastproxy.services.tasks import Tasks

#: Answered here, whatever the method; everything else, and all of /v1 beyond the list of models, is proxied.
OWN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/metrics", "/v1/models", "/vastproxy"})
OWN_PREFIXES = ("/vastproxy/", "/webhooks/")

#: Answered without a key: monitoring must not need one, and they say nothing of requests; events bring a signature or
#: a token of their own.
OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/webhooks/vastai"})


def is_own(path: str) -> bool:
    """Is this decoded path one of ours?"""
    return path in OWN_PATHS or path.startswith(OWN_PREFIXES)


def may_pass(keys: KeyRing, authorizations: Sequence[bytes]) -> bool:
    """Does a request with these Authorization fields bring a key, or is none needed?"""
    return not keys or (len(authorizations) == 1 and keys.accepts(authorizations[0]))


def _authorizations(scope: Scope) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == b"authorization"]


class Front:
    """ASGI middleware. What is not ours goes to the proxy without meeting a router."""

    def __init__(self, app: ASGIApp, *, proxy: Proxy, keys: KeyRing, tasks: Tasks) -> None:
        self._ours = app
        self._proxy = proxy
        self._keys = keys
        self._tasks = tasks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of_scope(scope) if scope["type"] == "http" else ""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "not proxied by this server"})
        elif scope["type"] != "http":
            await self._ours(scope, receive, send)
        elif path not in OPEN_PATHS and not may_pass(self._keys, _authorizations(scope)):
            await send_error(send, BAD_KEY)
        elif is_own(path):
            await self._ours(scope, receive, send)
        else:
            client = AsgiClient(scope, receive, send)
            await client.serve(self._proxy.handle(request_of(scope), client), self._tasks)


class Entrance:
    """Where our own server's connections bring their requests. `app` is the whole application."""

    def __init__(self, app: ASGIApp, *, proxy: Proxy, keys: KeyRing, tasks: Tasks) -> None:
        self._app = app
        self._proxy = proxy
        self._keys = keys
        self._tasks = tasks

    def handle(self, request: Request, client: Client) -> Handler:
        """Who answers this request."""
        facts = request.facts
        if facts.is_own is None:
            facts.is_own = is_own(path_of(request))
        if facts.is_own:
            return AsgiCall(self._app, request, client, self._tasks)  # the key is asked for inside
        exchange = self._proxy.handle(request, client)
        if facts.admitted_by is not self._keys:
            if may_pass(self._keys, request.known.get(b"authorization", ())):
                facts.admitted_by = self._keys
            else:
                exchange.refusal = BAD_KEY
        return exchange

    def refused(self, error: ApiError, client: Client) -> None:
        """What a client sent was no request: one line, as for requests."""
        self._proxy.log_refused(error.status, client)
