"""Who may ask: inbound API keys, compared in constant time.

Keys are held as SHA-256 digests, so that no dump of this process shows one. What was sent is digested too, and every
known digest is compared in constant time, whichever matches.
"""

import hashlib
import hmac
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from vastproxy.api.errors import BAD_KEY, send_error

#: Answered without a key: monitoring must not need one, and they say nothing of requests.
OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz"})


class KeyRing:
    """The accepted keys."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(hashlib.sha256(key.encode()).digest() for key in keys if key)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._digests)} keys>"

    def accepts(self, authorization: bytes) -> bool:
        """Is this the value of an Authorization header that carries one of the keys as bearer?"""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        digest = hashlib.sha256(token.strip()).digest()
        # Every key is compared, whichever matches: the time does not say which one it was.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


class RequireKey:
    """ASGI middleware: lets through who brings a key; everybody when there are no keys."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._allows(scope):
            await self._app(scope, receive, send)
        else:
            await send_error(send, BAD_KEY)

    def _allows(self, scope: Scope) -> bool:
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(sent) == 1 and self._keys.accepts(sent[0])
