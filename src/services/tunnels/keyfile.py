"""Reading the file of one private key, and saying what is wrong with it.

Rules are those of OpenSSH's client where it has one: a key file that others can read is refused
(sshkey_perm_ok in OpenSSH 9), an encrypted key needs its passphrase.
"""

import base64
import binascii
import errno
import os
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from vastproxy.services.tunnels.publickey import (
    PublicKey,
    parse_blob,
    parse_line,
    printable,
    read_strings,
    unusable,
)
from vastproxy.settings.errors import SettingsError

#: An RSA key of 16,384 bits has 13 KB; a larger file is something else.
MAX_KEY_BYTES = 64 * 1024

_EXPECTED = "expected the file of a private SSH key"
_OPENSSH_HEAD, _OPENSSH_MAGIC = b"-----BEGIN OPENSSH PRIVATE KEY-----", b"openssh-key-v1\0"
_OPENSSH_FOOT = b"-----END OPENSSH PRIVATE KEY-----"


class KeyElsewhere(SettingsError):
    """The private key cannot be had from the file as it is; an agent may hold it. `public` is None if unknown."""

    def __init__(self, message: str, *, public: PublicKey | None) -> None:
        super().__init__(message)
        self.public = public


class KeyLocked(KeyElsewhere):
    """The file is protected by a passphrase and none was given."""


class WrongPassphrase(KeyElsewhere):
    """The file is protected by another passphrase than the one given, or damaged."""


class PublicKeyGiven(KeyElsewhere):
    """The file holds a public key."""


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key as read from `path`. Its `repr` shows the public half alone."""

    path: Path
    public: PublicKey
    comment: str
    private: asyncssh.SSHKey = field(repr=False, compare=False)


def read_private_key(path: Path, *, what: str, passphrase: str | None = None) -> PrivateKey:
    """Read one key file in OpenSSH's, PEM (PKCS#1) or PKCS#8 format.

    Blocking. Raises SettingsError, one line that names the file and says what to do; `what` is how it begins.
    KeyLocked, WrongPassphrase and PublicKeyGiven are the cases in which something else may help.
    """
    content = _content(path, what)
    try:
        key = asyncssh.import_private_key(content, passphrase if _is_encrypted(content) else None)
    except Exception as exc:  # KeyImportError, KeyEncryptionError; of garbage whatever asyncssh stumbles over
        raise _failure(path, content, exc, what=what, with_passphrase=passphrase is not None) from None
    public = parse_blob(key.public_data)
    if (why := unusable(public)) is not None:
        raise SettingsError(f"{what}: {path} is {why}")
    comment = printable(key.get_comment(errors="replace") or "") or _public_file(path)[1]
    return PrivateKey(path, public, comment, key)


def public_half(path: Path, content: bytes) -> PublicKey | None:
    """The public key that belongs to a file which cannot be read as it is: from within it, or from `path`.pub."""
    return _public_half_within(content) or _public_file(path)[0]


def _content(path: Path, what: str) -> bytes:
    status, content = _read(path, what)
    if len(content) > MAX_KEY_BYTES:
        raise SettingsError(f"{what}: {path} is too large for a private SSH key")
    if _is_public(content):
        private = f" (perhaps {path.with_suffix('')})" if path.suffix == ".pub" else ""
        message = f"{what}: {path} is a public key; name the private key instead{private}"
        raise PublicKeyGiven(message, public=_public_in(content)[0])
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == os.getuid() and mode & 0o077:
        raise SettingsError(
            f"{what}: {path} can be read by others (mode {mode:04o}) and is refused, "
            f"as OpenSSH does; run: chmod 600 {shlex.quote(str(path))}"
        )
    return content


def _read(path: Path, what: str) -> tuple[os.stat_result, bytes]:
    """The file's first bytes, one more than are allowed."""
    try:
        # Non-blocking, so that a named pipe in this place cannot hold up the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as exc:
        raise SettingsError(f"{what}: {path} {_why_not_open(exc)}; {_EXPECTED}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise SettingsError(f"{what}: {path} is {kind}; {_EXPECTED}")
        return status, os.read(descriptor, MAX_KEY_BYTES + 1)
    except OSError as exc:
        raise SettingsError(f"{what}: {path} cannot be read: {exc.strerror}; {_EXPECTED}") from None
    finally:
        os.close(descriptor)


def _why_not_open(exc: OSError | ValueError) -> str:
    if not isinstance(exc, OSError):
        return "is not a path"
    return "does not exist" if exc.errno == errno.ENOENT else f"cannot be read: {exc.strerror}"


def _is_public(content: bytes) -> bool:
    start = content.lstrip()
    return start.startswith(
        (b"ssh-", b"ecdsa-sha2-", b"sk-", b"---- BEGIN SSH2 PUBLIC", b"-----BEGIN PUBLIC")
    ) or (start.startswith(b"-----BEGIN ") and b"PUBLIC KEY-----" in start[:64])


def _is_encrypted(content: bytes) -> bool:
    if (container := _openssh_container(content)) is not None:
        return not container.startswith(b"\0\0\0\x04none")
    return b"ENCRYPTED" in content[:256]  # "Proc-Type: 4,ENCRYPTED" or "BEGIN ENCRYPTED PRIVATE KEY"


def _failure(
    path: Path, content: bytes, exc: Exception, *, what: str, with_passphrase: bool
) -> SettingsError:
    quoted = shlex.quote(str(path))
    if not _is_encrypted(content):
        return SettingsError(
            f"{what}: {path} is not a private SSH key that can be read (OpenSSH or PEM format is needed)"
        )
    if not with_passphrase:
        return KeyLocked(
            f"{what}: {path} is protected by a passphrase: set VASTPROXY_TUNNELS__KEY_PASSPHRASE, hand the key "
            f"to an agent with `ssh-add {quoted}`, or remove the passphrase with `ssh-keygen -p -N '' -f {quoted}`",
            public=public_half(path, content),
        )
    if "bcrypt" in str(exc):
        return SettingsError(
            f"{what}: {path} is protected by a passphrase in OpenSSH's format, which takes the Python package bcrypt; "
            f"install it, or hand the key to an agent with: ssh-add {quoted}"
        )
    if "cipher" in str(exc).lower() or "kdf" in str(exc).lower():
        return SettingsError(f"{what}: {path} is encrypted in a way that is not known: {printable(str(exc))}")
    return WrongPassphrase(
        f"{what}: the passphrase given does not open {path}; check VASTPROXY_TUNNELS__KEY_PASSPHRASE",
        public=public_half(path, content),
    )


def _openssh_container(content: bytes) -> bytes | None:
    """What follows the magic word in a key file of OpenSSH's format (PROTOCOL.key), None in another one."""
    head, found, rest = content.partition(_OPENSSH_HEAD)
    if not found or head.strip():
        return None
    try:
        packed = base64.b64decode(b"".join(rest.partition(_OPENSSH_FOOT)[0].split()), validate=True)
    except binascii.Error:
        return None
    return packed[len(_OPENSSH_MAGIC) :] if packed.startswith(_OPENSSH_MAGIC) else None


def _public_half_within(content: bytes) -> PublicKey | None:
    """OpenSSH's format holds the public half in the clear: cipher, kdf, its options, a count, the public key."""
    if (container := _openssh_container(content)) is None:
        return None
    try:
        head = read_strings(container, 3)
        after = sum(4 + len(part) for part in head) + 4
        return parse_blob(read_strings(container[after:], 1)[0])
    except ValueError:
        return None


def _public_file(path: Path) -> tuple[PublicKey | None, str]:
    """The public key and its comment beside a private one, if there is any."""
    try:
        content = _read(path.with_name(path.name + ".pub"), "public key")[1]
    except SettingsError:
        return None, ""
    return _public_in(content)


def _public_in(content: bytes) -> tuple[PublicKey | None, str]:
    """The public key and its comment in any of the formats of ssh-keygen."""
    try:
        text = content[:MAX_KEY_BYTES].decode(errors="replace").strip()
        return parse_line(text.split("\n", 1)[0])
    except ValueError:
        pass
    try:
        key = asyncssh.import_public_key(content)
        return parse_blob(key.public_data), printable(key.get_comment(errors="replace") or "")
    except ValueError:
        return None, ""
