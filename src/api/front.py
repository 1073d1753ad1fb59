"""The fork in the road, behind the check of the key: our own pages on one side, what is proxied on the other.

There are two ways in. Our own server's connections come through `Entrance`, without a task or a router; any other
ASGI server comes through `Front`, which stands before the application's routes. Both ask the same questions: what is
asked for, by whom, and has he the right to.
"""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from vastproxy.api.auth import KeyRing
from vastproxy.api.browsers import Answered, Browsers, Told, told
from vastproxy.api.client import Client, Handler
from vastproxy.api.errors import BAD_KEY, ApiError, send_error
from vastproxy.api.foreign import AsgiClient, request_of
from vastproxy.api.foreign import path_of as path_of_scope
from vastproxy.api.gate import Gate
from vastproxy.api.guest import Guest
from vastproxy.api.health import Glance, HealthEndpoints
from vastproxy.api.http.asgi import AsgiCall, path_of
from vastproxy.api.http.request import Request
from vastproxy.api.key_errors import no_right
from vastproxy.api.page_headers import hardened
from vastproxy.api.proxy import Proxy
from vastproxy.services.access.callers import Caller
from vastproxy.services.access.records import Right
from vastproxy.services.tasks import Tasks
from vastproxy.settings.exposure import Exposure

#: Answered here, whatever the method; everything else, and all of /v1 beyond the list of models, is proxied.
OWN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/metrics", "/v1/models", "/vastproxy"})
OWN_PREFIXES = ("/vastproxy/", "/webhooks/")

#: Answered without a key: monitoring must not need one, and they say nothing of requests; events bring a signature or
#: a token of their own.
OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/webhooks/vastai"})
#: Of these, what may come by any name and from anywhere: it is signed.
SIGNED_PATHS = frozenset({"/webhooks/vastai"})
#: What shows or changes the proxy itself.
ADMIN_PATHS = frozenset({"/metrics", "/vastproxy"})
ADMIN_PREFIX = "/vastproxy/"

#: For what is proxied; made once, since a client may be refused very often.
_NO_INFERENCE = no_right(Right.INFERENCE)
_NOTHING_TOLD = Browsers(Exposure())


def is_own(path: str) -> bool:
    """Is this decoded path one of ours?"""
    return path in OWN_PATHS or path.startswith(OWN_PREFIXES)


def needed_right(path: str) -> Right:
    """What a caller must have to ask for this decoded path."""
    return Right.ADMIN if _is_admin(path) else Right.INFERENCE


def _is_admin(path: str) -> bool:
    return path in ADMIN_PATHS or path.startswith(ADMIN_PREFIX)


def refusal_of(caller: Caller | None, path: str) -> ApiError | None:
    """Why a caller, None where his key is none, does not get this decoded path; None when he does."""
    if caller is None:
        return BAD_KEY
    right = needed_right(path)
    return None if right in caller.rights else no_right(right)


def is_admitted(keys: KeyRing, scope: Scope) -> bool:
    """May whoever sent this request ask for its path, as keys are now?"""
    caller = keys.current().find(_authorizations(scope))
    return refusal_of(caller, path_of_scope(scope)) is None


def _authorizations(scope: Scope) -> Sequence[bytes]:
    return [value for name, value in scope["headers"] if name == b"authorization"]


class Front:
    """ASGI middleware. What is not ours goes to the proxy without meeting a router. Our own pages find who asks in
    `request.state.caller`. `gate`: keeps web pages away; None lets in whoever comes."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        proxy: Proxy,
        keys: KeyRing,
        tasks: Tasks,
        browsers: Browsers = _NOTHING_TOLD,
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate
        self._ours = app
        self._proxy = proxy
        self._keys = keys
        self._tasks = tasks
        self._browsers = browsers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "not proxied by this server"})
        elif scope["type"] != "http":
            await self._ours(scope, receive, send)
        elif not self._browsers.told:
            await self._answer(scope, receive, send)
        elif (allowed := self._browsers.preflight(scope["method"].encode(), scope["headers"])) is not None:
            await send({"type": "http.response.start", "status": 204, "headers": allowed})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            added = self._browsers.headers(scope.get("scheme", "http"), scope["headers"])
            await self._answer(scope, receive, send if added is None else told(send, added))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, callers = path_of_scope(scope), self._keys.current()
        if is_ours := is_own(path):
            send = hardened(send)
        refusal = self._refusal(scope, path, needs_key=callers.asks_for_key)
        caller = callers.find(_authorizations(scope))
        if refusal is None and path in OPEN_PATHS:
            scope.setdefault("state", {})["caller"] = caller
            await self._ours(scope, receive, send)
            return
        if caller is not None and refusal is None:
            caller.used = True
        refusal = refusal or refusal_of(caller, path)
        if refusal is not None:
            await send_error(send, refusal)
        elif is_ours:
            scope.setdefault("state", {})["caller"] = caller
            await self._ours(scope, receive, send)
        else:
            request = request_of(scope)
            request.facts.admitted_by = caller
            client = AsgiClient(scope, receive, send)
            exchange = self._proxy.handle(request, client)
            if caller is not None and caller.is_limited:
                exchange.admit(Guest(caller))
            await client.serve(exchange, self._tasks)

    def _refusal(self, scope: Scope, path: str, *, needs_key: bool) -> ApiError | None:
        """Why a web page may not ask for this path, if it is one that asks."""
        if self._gate is None or path in SIGNED_PATHS:
            return None
        return self._gate.refusal_for(
            scope["method"].encode("latin-1"),
            scope["headers"],
            needs_key=needs_key,
            is_own=is_own(path),
            is_admin=_is_admin(path),
        )


class Entrance:
    """Where our own server's connections bring their requests. `app` is the whole application; `gate` as for
    `Front`; what `health` tells is told without either."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        proxy: Proxy,
        keys: KeyRing,
        tasks: Tasks,
        browsers: Browsers = _NOTHING_TOLD,
        gate: Gate | None = None,
        health: HealthEndpoints | None = None,
    ) -> None:
        self._gate = gate
        self._app = app
        self._glances = {} if health is None else health.pages
        self._proxy = proxy
        self._keys = keys
        self._tasks = tasks
        self._browsers = browsers
        self._tells = browsers.told

    @property
    def keys(self) -> KeyRing:
        """The accepted keys."""
        return self._keys

    def handle(self, request: Request, client: Client) -> Handler:
        """Who answers this request."""
        facts = request.facts
        if facts.is_own is None:
            facts.is_own = is_own(path_of(request))
        if facts.is_own:
            return self._own(request, client)
        if self._tells:
            headers = request.headers
            if (allowed := self._browsers.preflight(request.method, headers)) is not None:
                return Answered(client, 204, allowed)
            if (added := self._browsers.headers(client.scheme, headers)) is not None:
                client = Told(client, added)
        exchange = self._proxy.handle(request, client)
        # What was found out for the last request with this head holds while the keys do.
        callers, caller = self._keys.current(), facts.admitted_by
        if not isinstance(caller, Caller) or caller.table is not callers:
            if self._gate is not None:
                needs_key = callers.asks_for_key
                exchange.refusal = self._gate.refusal(
                    request.method, request.host, request.known, needs_key=needs_key
                )
                if exchange.refusal is not None:
                    return exchange
            caller = facts.admitted_by = callers.find(request.known.get(b"authorization", ()))
        if caller is None:
            exchange.refusal = BAD_KEY
            return exchange
        caller.used = True
        if not caller.may_infer:
            exchange.refusal = _NO_INFERENCE
        elif caller.is_limited:
            exchange.admit(Guest(caller))
        return exchange

    def _own(self, request: Request, client: Client) -> Handler:
        page = self._glances.get(path_of(request))
        if page is None or request.method not in (b"GET", b"HEAD") or self._is_suspect(request):
            return AsgiCall(self._app, request, client, self._tasks)  # all is asked inside
        if self._tells and (added := self._browsers.headers(client.scheme, request.headers)) is not None:
            client = Told(client, added)
        caller = self._keys.current().find(request.known.get(b"authorization", ()))
        return Glance(client, page, knows=caller is not None, head_only=request.method == b"HEAD")

    def _is_suspect(self, request: Request) -> bool:
        """Does a web page ask that may not?"""
        needs_key, gate = self._keys.current().asks_for_key, self._gate
        return gate is not None and bool(
            gate.refusal(request.method, request.host, request.known, needs_key=needs_key)
        )

    def refused(self, error: ApiError, client: Client) -> None:
        """What a client sent was no request: one line, as for requests."""
        self._proxy.log_refused(error, client)
