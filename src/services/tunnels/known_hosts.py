"""Host keys that somebody has listed in a known_hosts file (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").

asyncssh reads and matches the entries: names, wildcards, `[host]:port`, negation, hashed names, `@revoked`. What is
decided here is which names are looked up and what the answer means, as OpenSSH 9 does it: first `[host]:port`, and
the bare host name only where that has no key. Authorities that sign host keys are left out, as no instance of
vast.ai has a certificate.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path as FilePath

import asyncssh

from vastproxy.services.tunnels.publickey import parse_blob, printable
from vastproxy.settings.errors import SettingsError

logger = logging.getLogger(__name__)

#: A file with 50,000 hosts has about 10 MB.
MAX_FILE_BYTES = 16 << 20
_SSH_PORT = 22
#: Lines that are left out are each told, up to here: somebody's own known_hosts may hold many.
_MAX_NOTES = 10


class Standing(Enum):
    """What the file says about a host key."""

    KNOWN = "known"
    #: No key is listed for the host.
    UNLISTED = "unlisted"
    #: Only other keys are listed for the host.
    OTHER = "other"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the file says about a host key, and which keys it lists for that host, as in authorized_keys."""

    standing: Standing
    listed: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownHosts:
    """What one known_hosts file says. `notes` are the lines that were left out, for a person."""

    entries: "asyncssh.SSHKnownHosts" = field(repr=False)
    count: int
    notes: tuple[str, ...] = ()

    def look_up(self, host: str, port: int, key: str) -> Finding:
        """What is said about `key`, as in authorized_keys, presented at `host:port`."""
        if any(key in self._keys(name, revoked=True) for name in names(host, port)):
            return Finding(Standing.REVOKED)
        listed = self.listed(host, port)
        if key in listed:
            return Finding(Standing.KNOWN, listed)
        return Finding(Standing.OTHER if listed else Standing.UNLISTED, listed)

    def listed(self, host: str, port: int) -> tuple[str, ...]:
        """The keys of `host:port`: of the first of its names that has any."""
        return next(filter(None, (self._keys(name) for name in names(host, port))), ())

    def _keys(self, name: str, *, revoked: bool = False) -> tuple[str, ...]:
        found = self.entries.match(name, "", None)
        return tuple(_line(key) for key in (found[2] if revoked else found[0]))


def names(host: str, port: int) -> tuple[str, ...]:
    """The names that a host goes by in known_hosts, the most exact one first."""
    host = host.lower()
    return (host,) if port == _SSH_PORT else (f"[{host}]:{port}", host)


def parse_known_hosts(text: str) -> KnownHosts:
    """Read the text of a known_hosts file.

    Lines that cannot be used are left out with a note, as fewer keys are accepted then. Raises ValueError for a
    `@revoked` line that cannot be read: without it a key would be accepted that must not be.
    """
    notes: list[str] = []
    kept = list(_usable_lines(text, notes))
    count = sum(not line.startswith("@") for line in kept)
    return KnownHosts(asyncssh.import_known_hosts("\n".join(kept)), count, tuple(notes))


class KnownHostsFile:
    """A known_hosts file, read again before each login, so that an entry counts as soon as it is written."""

    def __init__(self, path: FilePath) -> None:
        """Reads the file; blocking. Raises SettingsError when it cannot be read or lists no key."""
        self.path = path
        self._complaint: str | None = None
        try:
            self.known = _read(path)
        except (OSError, ValueError) as exc:
            raise SettingsError(f"tunnels.known_hosts: {path} cannot be used: {_reason(exc)}") from None
        if not self.known.count:
            raise SettingsError(
                f"tunnels.known_hosts: {path} lists no host key that can be used, so every instance would be refused; "
                "add lines such as `[host]:port ssh-ed25519 AAAA…`"
            )
        self._tell_notes(self.known.notes)

    def __repr__(self) -> str:
        return f"<KnownHostsFile {self.path} entries={self.known.count}>"

    async def refresh(self) -> None:
        """Read the file again. Where that fails, what was read before goes on to count, with one warning."""
        try:
            known = await asyncio.to_thread(_read, self.path)
        except (OSError, ValueError) as exc:
            complaint = _reason(exc)
            if complaint != self._complaint:
                logger.warning(
                    "%s cannot be read (%s); the host keys that were listed before go on to count",
                    self.path,
                    complaint,
                )
            self._complaint = complaint
            return
        self._complaint = None
        if known.notes != self.known.notes:
            self._tell_notes(known.notes)
        self.known = known

    def _tell_notes(self, notes: tuple[str, ...]) -> None:
        for note in notes[:_MAX_NOTES]:
            logger.warning("%s %s", self.path, note)
        if len(notes) > _MAX_NOTES:
            logger.warning("%s has %d more lines that are left out", self.path, len(notes) - _MAX_NOTES)


def _read(path: FilePath) -> KnownHosts:
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
    return parse_known_hosts(content.decode(errors="replace"))


def _reason(exc: OSError | ValueError) -> str:
    return printable((exc.strerror if isinstance(exc, OSError) else None) or str(exc))


def _usable_lines(text: str, notes: list[str]) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if marker == "@cert-authority":
            notes.append(f"line {number}: @cert-authority is not supported; list the host's own key instead")
        elif marker not in ("", "@revoked"):
            notes.append(f"line {number}: the marker {printable(marker)} is not known")
        elif (usable := _usable(words)) is not None:
            yield f"{marker} {usable}".strip()
        elif marker:
            raise ValueError(f"line {number}: the revoked key cannot be read")
        else:
            notes.append(f"line {number} is not an entry of known_hosts that can be used")


def _usable(words: list[str]) -> str | None:
    """An entry as asyncssh reads it without fail: names in lower case, kind and key; None if it cannot."""
    if len(words) < 3:
        return None
    pattern = words[0] if words[0].startswith("|") else words[0].lower()
    entry = f"{pattern} {words[1]} {words[2]}"
    try:
        asyncssh.import_public_key(f"{words[1]} {words[2]}")
        asyncssh.import_known_hosts(entry).match("probe", "", None)
    except ValueError:
        return None
    return entry


def kinds(keys: Iterable[str]) -> tuple[str, ...]:
    """The kinds of these keys, each once."""
    return tuple(dict.fromkeys(key.partition(" ")[0] for key in keys))


def _line(key: asyncssh.SSHKey) -> str:
    return parse_blob(key.public_data).line
