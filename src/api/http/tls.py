"""TLS of the listening side: the certificate and its key, and how they are replaced without losing a connection.

Each certificate has a context of its own, which was complete before anybody met it: changing the one in use would
leave it broken where the new files do not fit together, and would go on offering the old certificate to whoever prefers
its kind of key. A handshake gets the present context when it names its host, or does not (`SSLContext.sni_callback` is
called either way, CPython 3.11 to 3.13). Who is connected is not concerned.
"""

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from vastproxy.services.ownfile import stamp_of
from vastproxy.settings import SettingsError

logger = logging.getLogger(__name__)

#: For TLS 1.2; those of 1.3 are all fine. Forward secrecy and authenticated encryption only (RFC 9325 §4.2).
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
#: A chain has a few certificates of 2 KB.
_MAX_FILE_BYTES = 1 << 20
_DAY_S = 86_400.0
#: Names shown of a certificate.
_MAX_NAMES = 5


@dataclass(frozen=True, slots=True)
class Served:
    """A certificate with its key, ready for handshakes."""

    context: ssl.SSLContext
    names: tuple[str, ...]
    expires_at: float
    """Unix time."""

    def __str__(self) -> str:
        more = f" and {len(self.names) - _MAX_NAMES} more" if len(self.names) > _MAX_NAMES else ""
        until = datetime.fromtimestamp(self.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"certificate for {', '.join(self.names[:_MAX_NAMES]) or 'no host'}{more}, valid until {until}"


class ServerTls:
    """See the module's docstring. `cert`, `key`: PEM files; without `key` it is in the file of the certificate.

    Raises SettingsError when they cannot be used. `clock` tells Unix time.
    """

    def __init__(
        self, cert: Path, key: Path | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._cert = cert
        self._key = key
        self._clock = clock
        self._used = self._seen = self._stamps()
        self.served = load_served(cert, key)
        """What the next handshake gets."""
        self.context = self.served.context
        """For the listening socket."""
        self.context.sni_callback = self._choose
        self._announce("TLS: %s")

    def look(self) -> None:
        """Take files that have changed, once they have been left alone between two looks: a certificate and its key
        are written one after the other. Files that cannot be used change nothing, and that is said once."""
        stamps, before = self._stamps(), self._seen
        self._seen = stamps
        if stamps == self._used or stamps != before:
            return
        self._used = stamps
        try:
            self.served = load_served(self._cert, self._key)
        except SettingsError as error:
            logger.warning("the TLS certificate was not replaced, the one before goes on: %s", error)
        else:
            self._announce("TLS certificate replaced: %s")

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        if self.served.context is not context:
            connection.context = self.served.context

    def _stamps(self) -> tuple[tuple[int, ...], ...]:
        return tuple(stamp_of(path) for path in (self._cert, self._key) if path is not None)

    def _announce(self, text: str) -> None:
        logger.info(text, self.served)
        left_s = self.served.expires_at - self._clock()
        if left_s <= 0:
            logger.warning("the TLS certificate in %s has expired; clients will refuse it", self._cert)
        elif left_s < _DAY_S:
            logger.warning("the TLS certificate in %s expires within a day", self._cert)


def load_served(cert: Path, key: Path | None) -> Served:
    """Read a certificate and its key. Raises SettingsError, in one line that says which file is not right and why."""
    chain = _read(cert, "server.tls_cert")
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        names, expires_at = _names(leaf), leaf.not_valid_after_utc.timestamp()
    except ValueError:
        raise SettingsError(f"server.tls_cert: {cert} holds no certificate in PEM form") from None
    _check_key(leaf, cert, key, chain if key is None else _read(key, "server.tls_key"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")  # never asks on a terminal
    except (OSError, ValueError) as error:  # SSLError is an OSError
        why = getattr(error, "reason", None) or str(error)
        raise SettingsError(f"server.tls_cert: {cert} cannot be used for TLS: {why}") from None
    return Served(context, names, expires_at)


def _check_key(leaf: x509.Certificate, cert: Path, key: Path | None, pem: bytes) -> None:
    where = f"server.tls_key: {key}" if key is not None else f"server.tls_cert: {cert}"
    try:
        private = load_pem_private_key(pem, None)
    except TypeError:
        raise SettingsError(f"{where} holds a key with a passphrase; store one without") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "" if key is not None else "; name its file with server.tls_key"
        raise SettingsError(f"{where} holds no private key in PEM form{hint}") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise SettingsError(f"{where} holds a key that does not belong to the certificate in {cert}")


def _read(path: Path, setting: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not a path"
        raise SettingsError(f"{setting}: cannot read {path}: {why}") from None


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """The hosts that a certificate is for."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))
