"""Certificates for tests, signed by themselves."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its key as PEM."""

    cert: bytes
    key: bytes
    serial: int

    def write(self, cert: Path, key: Path) -> None:
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)


def make_certificate(
    *names: str, rsa_key: bool = False, valid_s: float = 30 * 86_400.0, passphrase: str | None = None
) -> Made:
    """Valid from an hour ago until `valid_s` from now, for these hosts (default: localhost) and 127.0.0.1."""
    key = rsa.generate_private_key(65_537, 2_048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, (names or ("localhost",))[0])])
    hosts: list[x509.GeneralName] = [x509.DNSName(name) for name in names or ("localhost",)]
    hosts.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(seconds=valid_s))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    protect: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        protect = BestAvailableEncryption(passphrase.encode())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protect)
    return Made(cert.public_bytes(Encoding.PEM), pem, cert.serial_number)
