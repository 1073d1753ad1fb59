"""Who may ask: inbound API keys, compared in constant time.

Keys are held as digests, so that no dump of this process shows one: BLAKE2b under a secret of the process, the cheapest
that hashlib has. What was sent is digested too, and every known digest is compared in constant time, whichever matches.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable


class KeyRing:
    """The accepted keys."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._secret = secrets.token_bytes(32)
        self._digests = tuple(self._digest(key.encode()) for key in keys if key)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._digests)} keys>"

    def accepts(self, authorization: bytes) -> bool:
        """Is this the value of an Authorization header that carries one of the keys as bearer?"""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        digest = self._digest(token.strip())
        # Every key is compared, whichever matches: the time does not say which one it was.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, digest_size=32, key=self._secret).digest()
