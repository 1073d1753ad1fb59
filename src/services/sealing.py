"""Bytes left with somebody who must neither read nor change them, such as a Redis that others use too.

What proxies of one account have in common is the API key. Everything here comes from it, and nothing leads back to it:
it is random and long, so it cannot be guessed from a digest either.
"""

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class Unsealable(ValueError):
    """These bytes were not sealed by anybody who holds the secret, or not for this purpose."""


class Seal:
    """AES-256-GCM under a key derived from `secret`. `scope` tells apart what one secret is used for."""

    def __init__(self, secret: str, scope: str) -> None:
        self.name = self._derive(secret, scope, "name").hex()[:32]
        """The same for everybody with the same secret and scope, and for nobody else."""
        self._cipher = AESGCM(self._derive(secret, scope, "key"))

    def __repr__(self) -> str:
        return f"<Seal {self.name}>"

    def close(self, plain: bytes, purpose: str) -> bytes:
        """The bytes, sealed; whoever opens them has to name the same purpose."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, purpose.encode())

    def open(self, sealed: bytes, purpose: str) -> bytes:
        """What was sealed. Raises Unsealable."""
        try:
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, rest, purpose.encode())
        except (InvalidTag, ValueError):
            raise Unsealable("not sealed by anybody who holds the secret") from None

    @staticmethod
    def _derive(secret: str, scope: str, use: str) -> bytes:
        return hmac.digest(secret.encode(), f"vastproxy {use}\0{scope}".encode(), "sha256")
