"""Who may ask: inbound API keys, compared in constant time.

Keys are held as SHA-256 digests, so that no dump of this process shows one. What was sent is digested too, and every
known digest is compared in constant time, whichever matches.
"""

import hashlib
import hmac
from collections.abc import Iterable


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
