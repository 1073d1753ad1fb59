"""The private keys that vastproxy logs in with: from files, or held by an ssh-agent.

Which they are is decided once at the start, so that a person learns at once what is wrong. Every login then asks for
an offer; keys of an agent are borrowed from it each time, as it may have been started anew.
"""

import logging
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import asyncssh

from vastproxy.services.tunnels.agent import AgentKey, AgentSession
from vastproxy.services.tunnels.base import TunnelTarget
from vastproxy.services.tunnels.keyaccess import KeyAccess
from vastproxy.services.tunnels.keyfile import KeyElsewhere, KeyLocked, PrivateKey, WrongPassphrase
from vastproxy.services.tunnels.publickey import parse_line
from vastproxy.settings.errors import SettingsError
from vastproxy.settings.model import TunnelSettings
from vastproxy.settings.paths import expand_home

logger = logging.getLogger(__name__)

#: Tried in this order where no key is named; all that can be used are offered.
DEFAULT_CANDIDATES = ("id_ed25519", "id_ecdsa", "id_rsa")
_NAMED, _DEFAULT = "tunnels.key_path (SSH_KEY_PATH)", "SSH key"
#: Enough of a key's text to find it among the others of an agent.
_TELLTALE_CHARS = 24


@dataclass(frozen=True, slots=True)
class ClientKey:
    """One key. Its `repr` shows where it is and its fingerprint, never the private half."""

    #: None for a key that an agent holds.
    path: Path | None
    #: The path as a person types it in a shell, such as `~/.ssh/id_ed25519`; of an agent's key what it is called.
    name: str = field(repr=False)
    fingerprint: str
    #: The public half as one line of authorized_keys, without comment.
    public: str
    local: asyncssh.SSHKey | None = field(repr=False, compare=False)
    comment: str = ""

    @property
    def private(self) -> asyncssh.SSHKey:
        """The private half. Raises LookupError for a key that an agent holds, see `ClientKeys.offer`."""
        if self.local is None:
            raise LookupError(f"the private half of {self.name} is with the ssh-agent")
        return self.local

    @property
    def source(self) -> Literal["file", "agent"]:
        """Who has the private half."""
        return "agent" if self.path is None else "file"

    @property
    def show_public(self) -> str:
        """What prints the public half in a shell."""
        if self.path is None:
            return f"ssh-add -L | grep -F {self.public.rstrip('=')[-_TELLTALE_CHARS:]}"
        beside = self.path.with_name(f"{self.path.name}.pub")
        return f"cat {self.name}.pub" if os.path.isfile(beside) else f"ssh-keygen -y -f {self.name}"

    def to_json(self) -> dict[str, Any]:
        """What may be told of it: name, source, type, bits, fingerprint, comment."""
        public = parse_line(self.public)[0]
        return {
            "name": self.name,
            "source": self.source,
            "type": public.kind,
            "bits": public.bits,
            "fingerprint": self.fingerprint,
            "comment": self.comment,
        }

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The keys that are offered to every instance, in this order; at least one. All are files, or all an agent's."""

    keys: tuple[ClientKey, ...]
    #: Where the agent listens that holds them, None for files.
    agent_socket: Path | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("at least one key is needed")

    def __str__(self) -> str:
        return " or ".join(key.name for key in self.keys)

    def attach_hint(self, target: TunnelTarget) -> str:
        """The official CLI's command that makes an instance accept the first key (vastai 1.9)."""
        return f'vastai attach ssh {target.instance_id} "$({self.keys[0].show_public})"'

    def offer(self) -> "KeyOffer":
        """The keys for one login, as a context manager that is held until the login has ended."""
        return KeyOffer(self)


class KeyOffer:
    """The keys of one login in the form that asyncssh takes as `client_keys`."""

    def __init__(self, keys: ClientKeys) -> None:
        self._keys = keys
        self._session: AgentSession | None = None
        self.keys: Sequence[asyncssh.SSHKey | asyncssh.SSHKeyPair] = ()

    async def __aenter__(self) -> Self:
        """Raises AgentUnusable when the agent is gone or has lost the keys. The caller bounds the time."""
        if self._keys.agent_socket is None:
            self.keys = [key.private for key in self._keys.keys]
        else:
            wanted = [parse_line(key.public)[0] for key in self._keys.keys]
            self._session = AgentSession(self._keys.agent_socket, wanted)
            self.keys = (await self._session.__aenter__()).keys
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.__aexit__(kind, error, trace)

    @property
    def trouble(self) -> str | None:
        """Why a login failed, if the agent is to blame: it would not sign, or not in time."""
        return None if self._session is None else self._session.trouble


def load_client_keys(
    settings: TunnelSettings, *, home: Path | None, access: KeyAccess | None = None
) -> ClientKeys:
    """Read the key named by `tunnels.key_path`, or every usable default key below `home`/.ssh, or ask the agent.

    Blocking: reads small files, asks an agent, and may ask a person for a passphrase. Raises SettingsError, one line
    that says what to do, when no key can be used; a default key that cannot be used while another one can is a warning.
    """
    access = KeyAccess() if access is None else access
    if settings.key_path is not None:
        environ = {} if home is None else {"HOME": str(home)}
        return _named(expand_home(settings.key_path, environ), home, access)
    return _of_agent(access.agent_keys(), access) if access.agent == "on" else _defaults(home, access)


def _named(path: Path, home: Path | None, access: KeyAccess) -> ClientKeys:
    """The key that was named: its file, the agent that holds it, or its file once its passphrase is typed."""
    try:
        key = access.read(path, what=_NAMED)
    except WrongPassphrase:
        raise
    except KeyElsewhere as exc:
        if (held := access.held(exc.public)) is not None:
            return _of_agent([held], access)
        if access.agent == "on":
            raise SettingsError(f"{exc}; tunnels.agent is on, but the ssh-agent does not hold it") from None
        if isinstance(exc, KeyLocked) and (typed := access.ask(path, what=_NAMED)) is not None:
            return _of_files([typed], home)
        raise
    if access.agent != "on":
        return _of_files([key], home)
    if (held := access.held(key.public)) is not None:
        return _of_agent([held], access)
    raise SettingsError(
        f"{_NAMED}: tunnels.agent is on, but the ssh-agent does not hold {path} ({key.public}); "
        f"add it with: ssh-add {shlex.quote(str(path))}"
    )


def _defaults(home: Path | None, access: KeyAccess) -> ClientKeys:
    """The default key files that can be used; else the agent's keys; else the first file that a person opens."""
    candidates = [] if home is None else [home / ".ssh" / name for name in DEFAULT_CANDIDATES]
    keys: list[PrivateKey] = []
    failures: list[SettingsError] = []
    locked: list[Path] = []
    for path in filter(_is_there, candidates):
        try:
            keys.append(access.read(path, what=_DEFAULT))
        except SettingsError as exc:
            failures.append(exc)
            locked += [path] if isinstance(exc, KeyLocked) else []
    if keys:
        for failure in failures:
            logger.warning("%s (not used; %s is)", failure, ", ".join(str(key.path) for key in keys))
        return _of_files(keys, home)
    no_agent = "tunnels.agent is off"
    if access.agent == "auto":
        try:
            return _of_agent(access.agent_keys(), access)
        except SettingsError as exc:
            no_agent = str(exc)
    if locked and (typed := access.ask(locked[0], what=_DEFAULT)) is not None:
        return _of_files([typed], home)
    raise SettingsError("; ".join(map(str, failures)) if failures else _none_found(home, no_agent))


def _is_there(path: Path) -> bool:
    """Whether there is such a file, also one that cannot be read: who reads it learns why."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _none_found(home: Path | None, no_agent: str) -> str:
    looked_at = "no home directory" if home is None else f"{home}/.ssh/{{{','.join(DEFAULT_CANDIDATES)}}}"
    return (
        f"no SSH key found ({looked_at}; {no_agent}): make one with `ssh-keygen -t ed25519`, add its public half to "
        "the vast.ai account, or set SSH_KEY_PATH"
    )


def _of_agent(held: Iterable[AgentKey], access: KeyAccess) -> ClientKeys:
    keys = [
        ClientKey(
            None, _agent_name(key), key.public.fingerprint, key.public.line, local=None, comment=key.comment
        )
        for key in held
    ]
    return ClientKeys(tuple(keys), agent_socket=access.agent_socket)


def _agent_name(key: AgentKey) -> str:
    return f"{key.comment or key.public} (ssh-agent)"


def _of_files(keys: Iterable[PrivateKey], home: Path | None) -> ClientKeys:
    return ClientKeys(
        tuple(
            ClientKey(
                path=key.path,
                name=_shell_name(key.path, home),
                fingerprint=key.public.fingerprint,
                public=key.public.line,
                local=key.private,
                comment=key.comment,
            )
            for key in keys
        )
    )


def _shell_name(path: Path, home: Path | None) -> str:
    """The path as people type it: with `~` where it is below home, quoted for a shell where needed."""
    if home is not None and path.is_relative_to(home):
        return f"~/{shlex.quote(str(path.relative_to(home)))}"
    return shlex.quote(str(path))
