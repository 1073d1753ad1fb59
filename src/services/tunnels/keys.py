"""The private keys that vastproxy logs in with.

Rules are those of OpenSSH's client where it has one: a key file that others can read is refused
(sshkey_perm_ok in OpenSSH 9), an encrypted key needs its passphrase, which a server cannot ask for.
"""

import errno
import logging
import os
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from vastproxy.services.tunnels.base import TunnelTarget
from vastproxy.settings.errors import SettingsError
from vastproxy.settings.model import TunnelSettings
from vastproxy.settings.paths import expand_home

logger = logging.getLogger(__name__)

#: Tried in this order where no key is named; all that can be used are offered.
DEFAULT_CANDIDATES = ("id_ed25519", "id_ecdsa", "id_rsa")
#: An RSA key of 16,384 bits has 13 KB; a larger file is something else.
MAX_KEY_BYTES = 64 * 1024

_SUPPORTED = ("ssh-ed25519", "ecdsa-sha2-", "ssh-rsa")


@dataclass(frozen=True, slots=True)
class ClientKey:
    """One private key. Its `repr` shows where it is and its fingerprint, never the key."""

    path: Path
    #: The path as a person types it in a shell, such as `~/.ssh/id_ed25519`.
    name: str = field(repr=False)
    fingerprint: str
    #: The public half as one line of authorized_keys, without comment.
    public: str
    private: asyncssh.SSHKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The keys that are offered to every instance, in this order; at least one."""

    keys: tuple[ClientKey, ...]

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("at least one key is needed")

    def __str__(self) -> str:
        return " or ".join(key.name for key in self.keys)

    def attach_hint(self, target: TunnelTarget) -> str:
        """The official CLI's command that makes an instance accept the first key (vastai 1.9)."""
        return f'vastai attach ssh {target.instance_id} "$(cat {self.keys[0].name}.pub)"'


def load_client_keys(settings: TunnelSettings, *, home: Path | None) -> ClientKeys:
    """Read the key named by `tunnels.key_path`, or every usable default key below `home`/.ssh.

    Blocking: reads small files. Raises SettingsError, one line that says what to do, when the named key
    or every default key cannot be used; a default key that cannot be used while another one can is a warning.
    """
    if settings.key_path is not None:
        environ = {} if home is None else {"HOME": str(home)}
        path = expand_home(settings.key_path, environ)
        return ClientKeys((_load(path, home, what="tunnels.key_path (SSH_KEY_PATH)"),))
    directory = None if home is None else home / ".ssh"
    candidates = [] if directory is None else [directory / name for name in DEFAULT_CANDIDATES]
    keys, failures = [], []
    for path in candidates:
        if not path.exists():
            continue
        try:
            keys.append(_load(path, home, what="SSH key"))
        except SettingsError as exc:
            failures.append(str(exc))
    if keys:
        for failure in failures:
            logger.warning("%s (not used; %s is)", failure, ", ".join(str(key.path) for key in keys))
        return ClientKeys(tuple(keys))
    if failures:
        raise SettingsError("; ".join(failures))
    looked_at = f"{directory}/{{{','.join(DEFAULT_CANDIDATES)}}}" if directory else "no home directory"
    raise SettingsError(
        f"no SSH key found ({looked_at}): make one with `ssh-keygen -t ed25519`, add its public half to the "
        "vast.ai account, or set SSH_KEY_PATH"
    )


def _load(path: Path, home: Path | None, *, what: str) -> ClientKey:
    content = _read(path, what)
    try:
        key = asyncssh.import_private_key(content)
    except ValueError as exc:  # KeyImportError, KeyEncryptionError
        raise SettingsError(f"{what}: {_explain(path, content, exc)}") from None
    algorithm = key.get_algorithm()
    if not algorithm.startswith(_SUPPORTED):
        raise SettingsError(f"{what}: {path} is a key of type {algorithm}; ed25519, ecdsa or rsa is needed")
    public = " ".join(key.export_public_key("openssh").decode().split()[:2])
    name = _shell_name(path, home)
    return ClientKey(path=path, name=name, fingerprint=key.get_fingerprint(), public=public, private=key)


def _read(path: Path, what: str) -> bytes:
    try:
        # Non-blocking, so that a named pipe in this place cannot hold up the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        reason = "does not exist" if exc.errno == errno.ENOENT else f"cannot be read: {exc.strerror}"
        raise SettingsError(f"{what}: {path} {reason}; expected the file of a private SSH key") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise SettingsError(f"{what}: {path} is {kind}; expected the file of a private SSH key")
        content = os.read(descriptor, MAX_KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_KEY_BYTES:
        raise SettingsError(f"{what}: {path} is too large for a private SSH key")
    if _is_public(content):
        private = f" (perhaps {path.with_suffix('')})" if path.suffix == ".pub" else ""
        raise SettingsError(f"{what}: {path} is a public key; name the private key instead{private}")
    if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o077:
        raise SettingsError(
            f"{what}: {path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}) and is refused, "
            f"as OpenSSH does; run: chmod 600 {shlex.quote(str(path))}"
        )
    return content


def _is_public(content: bytes) -> bool:
    start = content.lstrip()
    return start.startswith(
        (b"ssh-", b"ecdsa-sha2-", b"sk-", b"---- BEGIN SSH2 PUBLIC", b"-----BEGIN PUBLIC")
    ) or (start.startswith(b"-----BEGIN ") and b"PUBLIC KEY-----" in start[:64])


def _explain(path: Path, content: bytes, exc: Exception) -> str:
    if "passphrase" in str(exc).lower() or b"ENCRYPTED" in content[:256]:
        return (
            f"{path} is protected by a passphrase, which a server cannot type; use another key, "
            f"or remove it with: ssh-keygen -p -N '' -f {shlex.quote(str(path))}"
        )
    return f"{path} is not a private SSH key that can be read (OpenSSH or PEM format is needed)"


def _shell_name(path: Path, home: Path | None) -> str:
    """The path as people type it: with `~` where it is below home, quoted for a shell where needed."""
    if home is not None and path.is_relative_to(home):
        return f"~/{shlex.quote(str(path.relative_to(home)))}"
    return shlex.quote(str(path))
