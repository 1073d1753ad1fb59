"""What a public key tells: its kind, size and fingerprint, and whether vastproxy logs in with such a key. Pure.

The binary form is that of RFC 4253 §6.6 and RFC 5656 §3.1, the text that of authorized_keys.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

#: The kinds that vastproxy logs in with, and their sizes where the kind tells it.
USABLE_KINDS = {
    "ssh-ed25519": 256,
    "ecdsa-sha2-nistp256": 256,
    "ecdsa-sha2-nistp384": 384,
    "ecdsa-sha2-nistp521": 521,
    "ssh-rsa": None,
}
#: Fewer bits can be factored or soon will be (NIST SP 800-131A forbids them since 2014).
MIN_RSA_BITS = 2048
_LENGTH_BYTES = 4
_MAX_COMMENT = 80


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One public key: its kind, such as "ssh-ed25519", and its binary form."""

    kind: str
    blob: bytes

    @property
    def line(self) -> str:
        """As in authorized_keys, without comment."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """As OpenSSH shows it: "SHA256:…"."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def bits(self) -> int | None:
        """The size of the key; None for a kind whose size is not known here."""
        if self.kind != "ssh-rsa":
            return USABLE_KINDS.get(self.kind)
        modulus = read_strings(self.blob, 3)[2]
        return int.from_bytes(modulus, "big").bit_length()

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint}"


def parse_blob(blob: bytes) -> PublicKey:
    """The key in its binary form. Raises ValueError for what is none."""
    try:
        kind = read_strings(blob, 1)[0].decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("not a public key") from None
    if not kind or not kind.isprintable() or " " in kind:
        raise ValueError("not a public key")
    key = PublicKey(kind, blob)
    if kind == "ssh-rsa":
        key.bits  # noqa: B018 - raises where the key is cut off
    return key


def parse_line(line: str) -> tuple[PublicKey, str]:
    """The key and its comment from a line of authorized_keys without options. Raises ValueError."""
    words = line.split(None, 2)
    if len(words) < 2:
        raise ValueError("not a public key")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        raise ValueError("not a public key") from None
    key = parse_blob(blob)
    if key.kind != words[0]:
        raise ValueError("not a public key: it says to be another kind than it is")
    return key, printable(words[2]) if len(words) > 2 else ""


def shown(line: str) -> str:
    """A key's line as OpenSSH shows keys, type and fingerprint; what is no key is shown as it is, cut short."""
    try:
        return str(parse_line(line)[0])
    except ValueError:  # somebody edited the file
        return printable(line) or "nothing"


def unusable(key: PublicKey) -> str | None:
    """Why vastproxy does not log in with such a key, None if it does."""
    if key.kind not in USABLE_KINDS:
        return f"a key of type {printable(key.kind)}; ed25519, ecdsa or rsa is needed"
    if (bits := key.bits) is not None and key.kind == "ssh-rsa" and bits < MIN_RSA_BITS:
        return (
            f"an RSA key of {bits} bits, which is too weak (at least {MIN_RSA_BITS}); "
            "make a new one with: ssh-keygen -t ed25519"
        )
    return None


def read_strings(data: bytes, count: int) -> list[bytes]:
    """The first `count` strings of SSH's binary form (RFC 4251 §5). Raises ValueError where they are cut off."""
    found = []
    for _ in range(count):
        length = int.from_bytes(data[:_LENGTH_BYTES], "big")
        end = _LENGTH_BYTES + length
        if len(data) < max(end, _LENGTH_BYTES):
            raise ValueError("not a public key: it is cut off")
        found.append(data[_LENGTH_BYTES:end])
        data = data[end:]
    return found


def printable(text: str) -> str:
    """One printable line of bounded length, of a text that others wrote."""
    kept = "".join(char if char.isprintable() else " " for char in text[: 4 * _MAX_COMMENT])
    line = " ".join(kept.split())
    return line if len(line) <= _MAX_COMMENT else line[: _MAX_COMMENT - 1] + "…"
