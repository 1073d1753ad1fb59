"""What a login does about the host key it is shown, the same for every SSH implementation.

Two rules: `PinnedHostKeys` accepts a key at first sight and insists on it from then on, `ListedHostKeys` accepts what
a known_hosts file lists and nothing else. A login asks a rule for a check of its own, and then:

1. `check.kinds` are the kinds of key to ask the server for first: another key of the same server would be a change.
2. `check.accepts(key)` is called by the SSH library in the middle of the handshake; it looks at memory only.
3. When the handshake is done, `await check.confirm()` writes down what was accepted.
4. When it has failed, `await check.refusal()` is the reason, if the host key was it.
"""

import logging
import shlex
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from vastproxy.services.errors import TunnelRefused
from vastproxy.services.tunnels.base import Path, SshAddress, TunnelTarget
from vastproxy.services.tunnels.hostkeys import HostKeyPins
from vastproxy.services.tunnels.known_hosts import KnownHostsFile, Standing, kinds, names
from vastproxy.services.tunnels.pins import Change, Pin, Sibling, Verdict
from vastproxy.services.tunnels.publickey import shown

logger = logging.getLogger(__name__)

#: How sshd's own key is looked at from within an instance, such as in the console's terminal.
LOOK_INSIDE = "for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $key; done"

_NO_LOGIN = "Somebody may be between you and the instance, so no login was tried."


class HostKeyRefused(TunnelRefused):
    """The host key is not accepted. The message says whose, why, and how to accept it."""

    def __init__(self, message: str, *, path: Path, presented: str) -> None:
        super().__init__(message)
        self.path = path
        #: The key as in authorized_keys.
        self.presented = presented


class HostKeyCheck(Protocol):
    """What one login does about the host key. Not used again for another one."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of key to ask for before others, such as "ssh-ed25519"."""
        ...

    def accepts(self, key: str) -> bool:
        """Whether to go on, given the key as in authorized_keys, without comment. Called again when keys are agreed
        on anew."""
        ...

    async def confirm(self) -> None:
        """The login is made: keep the key. Raises HostKeyRefused when another one was pinned meanwhile."""
        ...

    async def refusal(self) -> HostKeyRefused | None:
        """Why the login failed, if the host key was not accepted; None if it failed for another reason."""
        ...


class HostKeyRules(Protocol):
    """Which host keys are accepted. One instance serves the whole process."""

    async def begin(self, target: TunnelTarget, address: SshAddress) -> HostKeyCheck:
        """A check for one login. Reads what other processes have decided meanwhile; never raises."""
        ...

    async def recycled(self, identity: str) -> None:
        """See `TunnelEngine.recycled`."""
        ...


@runtime_checkable
class HostKeyDecisions(Protocol):
    """Rules under which a person may accept a key that was refused."""

    async def changes(self, instance_id: int) -> tuple[Change, ...]:
        """The changed keys of an instance that wait for a person to accept them."""
        ...

    async def accept(self, change: Change) -> bool:
        """A person has looked at it and accepts it. False where one of its keys has changed since. Raises
        PinsNotStored."""
        ...


@runtime_checkable
class KnowsHostKeys(Protocol):
    """An SSH engine that lets others ask which host keys it accepts."""

    host_keys: HostKeyRules


class PinnedHostKeys:
    """Trust at first sight, per instance identity and path."""

    def __init__(self, pins: HostKeyPins) -> None:
        self._pins = pins

    async def begin(self, target: TunnelTarget, address: SshAddress) -> HostKeyCheck:
        """See `HostKeyRules.begin`."""
        await self._pins.refresh()
        return _PinCheck(self._pins, target, address)

    async def recycled(self, identity: str) -> None:
        """See `TunnelEngine.recycled`."""
        await self._pins.recycled(identity)

    async def changes(self, instance_id: int) -> tuple[Change, ...]:
        """See `HostKeyDecisions.changes`."""
        await self._pins.refresh()
        return self._pins.changes(instance_id)

    async def accept(self, change: Change) -> bool:
        """See `HostKeyDecisions.accept`."""
        return await self._pins.accept(change)


class ListedHostKeys:
    """Trust in a known_hosts file alone."""

    def __init__(self, file: KnownHostsFile) -> None:
        self._file = file

    async def begin(self, target: TunnelTarget, address: SshAddress) -> HostKeyCheck:
        """See `HostKeyRules.begin`."""
        await self._file.refresh()
        return _ListCheck(self._file, target, address)

    async def recycled(self, identity: str) -> None:
        """Nothing is kept: the file is somebody else's."""


class _PinCheck:
    def __init__(self, pins: HostKeyPins, target: TunnelTarget, address: SshAddress) -> None:
        self._pins = pins
        self._target = target
        self._address = address
        self._key = ""
        self._verdict = Verdict.SAME
        #: What was pinned when the key was found to be another one.
        self._pin: Pin | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        pinned = self._pins.pinned(self._target.identity, self._address.path)
        return () if pinned is None else kinds([pinned])

    def accepts(self, key: str) -> bool:
        self._key = key
        self._verdict = self._pins.check(self._target.identity, self._address.path, key)
        self._pin = self._pins.pin(self._target.identity, self._address.path)
        return self._verdict is not Verdict.CHANGED

    async def confirm(self) -> None:
        if self._verdict is not Verdict.NEW:
            return
        identity, path = self._target.identity, self._address.path
        self._verdict = await self._pins.trust(identity, path, self._key)
        self._pin = self._pins.pin(identity, path)
        if (refusal := await self.refusal()) is not None:  # another process was first, and saw another key
            raise refusal
        note = first_sight(path, self._pins.sibling(identity, path, self._key))
        logger.info("%s: host key %s pinned at first sight%s", self._who, shown(self._key), note)

    async def refusal(self) -> HostKeyRefused | None:
        if self._verdict is not Verdict.CHANGED or self._pin is None:
            return None
        identity, path = self._target.identity, self._address.path
        sibling = self._pins.sibling(identity, path, self._key)
        await self._pins.refuse(identity, path, self._key, address=_host_port(self._address))
        message = changed_text(self._who, self._target.instance_id, path, self._pin, self._key, sibling)
        return HostKeyRefused(message, path=path, presented=self._key)

    @property
    def _who(self) -> str:
        return f"instance {self._target.instance_id} ({self._address})"


class _ListCheck:
    def __init__(self, file: KnownHostsFile, target: TunnelTarget, address: SshAddress) -> None:
        self._file = file
        self._target = target
        self._address = address
        self._key = ""
        self._accepted = True

    @property
    def kinds(self) -> tuple[str, ...]:
        return kinds(self._file.known.listed(self._address.host, self._address.port))

    def accepts(self, key: str) -> bool:
        self._key = key
        finding = self._file.known.look_up(self._address.host, self._address.port, key)
        self._accepted = finding.standing is Standing.KNOWN
        return self._accepted

    async def confirm(self) -> None:
        """Nothing is kept: the file is somebody else's."""

    async def refusal(self) -> HostKeyRefused | None:
        if self._accepted:
            return None
        who = f"instance {self._target.instance_id} ({self._address})"
        message = unlisted_text(who, self._file, self._address, self._key)
        return HostKeyRefused(message, path=self._address.path, presented=self._key)


def first_sight(path: Path, sibling: Sibling) -> str:
    """What is worth telling about a key that was pinned now, given what the other path says about it."""
    other = _other(path)
    if sibling is Sibling.AGREES:
        return f"; it is the one of its {other} path too"
    if sibling in (Sibling.DIFFERS, Sibling.UNCHANGED):
        return f"; its {other} path has another one, so each is pinned for itself"
    return ""


def changed_text(who: str, instance_id: int, path: Path, pin: Pin, key: str, sibling: Sibling) -> str:
    """What a person reads when a host key is not the pinned one."""
    return (
        f"HOST KEY CHANGED: {who} presented {shown(key)}, but {shown(pin.key)} is pinned for its {path} path "
        f"since {when(pin.since)}.{_beside(path, sibling)} {_NO_LOGIN} If you know why it changed, as when its "
        f"container was recreated, accept the new key with: vastproxy trust {instance_id}"
    )


def unlisted_text(who: str, file: KnownHostsFile, address: SshAddress, key: str) -> str:
    """What a person reads when a host key is not one that the known_hosts file lists."""
    finding = file.known.look_up(address.host, address.port, key)
    if finding.standing is Standing.REVOKED:
        return (
            f"HOST KEY REVOKED: {who} presented {shown(key)}, which {file.path} marks @revoked. {_NO_LOGIN}"
        )
    name = names(address.host, address.port)[0]
    scan = f"ssh-keyscan -p {address.port} {shlex.quote(address.host)}"
    if finding.standing is Standing.OTHER:
        listed = " or ".join(map(shown, finding.listed))
        return (
            f"HOST KEY CHANGED: {who} presented {shown(key)}, but {file.path} lists {listed} for {name}. {_NO_LOGIN} "
            f"If you know why it changed, put the new key (`{scan}`) in place of the old one there"
        )
    return (
        f"HOST KEY NOT LISTED: {who} presented {shown(key)}, and {file.path} lists no key for {name} "
        f"(tunnels.host_keys is strict). If it is the instance's own (there: `{LOOK_INSIDE}`), add it with: "
        f"{scan} >> {shlex.quote(str(file.path))}"
    )


def when(seconds: int) -> str:
    """A time for a person, from Unix seconds."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M UTC}"
    except (ValueError, OverflowError, OSError):  # somebody edited the file
        return "an unknown time"


def _beside(path: Path, sibling: Sibling) -> str:
    other = _other(path)
    match sibling:
        case Sibling.AGREES:
            return f" The new key is the one pinned for its {other} path."
        case Sibling.CHANGED_TOO:
            return f" Its {other} path shows the same new key."
        case Sibling.UNCHANGED:
            return f" So far only this path has changed: its {other} path had the same key and has shown no other."
        case Sibling.DIFFERS | Sibling.SILENT:
            return ""


def _other(path: Path) -> Path:
    return Path.RELAY if path is Path.DIRECT else Path.DIRECT


def _host_port(address: SshAddress) -> str:
    return f"{address.host}:{address.port}"
