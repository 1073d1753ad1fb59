"""Getting at one key: its file, a passphrase that is set or typed, or an agent that holds it."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from vastproxy.services.tunnels.agent import AgentKey, AgentUnusable, list_keys
from vastproxy.services.tunnels.keyfile import PrivateKey, WrongPassphrase, read_private_key
from vastproxy.services.tunnels.passphrase import MAX_TRIES, Prompt
from vastproxy.services.tunnels.publickey import PublicKey, unusable
from vastproxy.settings.errors import SettingsError

logger = logging.getLogger(__name__)

#: sshd ends a connection at the sixth key that it does not know (MaxAuthTries).
MAX_OFFERED = 5

AgentMode = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """What may be used to get at a key, besides files that are open to us. Its `repr` holds no secret.

    All methods block: they read small files, ask an agent, and may ask a person.
    """

    #: `auto`: an agent is asked when no key file can be used; `on`: keys come from it alone; `off`: never.
    agent: AgentMode = "auto"
    #: Where the agent listens ($SSH_AUTH_SOCK), None where there is none.
    agent_socket: Path | None = None
    #: The passphrase of key files.
    passphrase: SecretStr | None = None
    #: Asks a person for it; None where nobody can be asked.
    prompt: Prompt | None = field(default=None, repr=False)

    def read(self, path: Path, *, what: str) -> PrivateKey:
        """Read a key file, with the passphrase that is set if it needs one. Raises as `read_private_key`."""
        passphrase = None if self.passphrase is None else self.passphrase.get_secret_value()
        return read_private_key(path, what=what, passphrase=passphrase)

    def ask(self, path: Path, *, what: str) -> PrivateKey | None:
        """Read a key file with the passphrase that a person types, who has a few tries.

        None where nobody can be asked. Raises SettingsError when it did not come.
        """
        if self.prompt is None:
            return None
        for number in range(1, MAX_TRIES + 1):
            again = f"That is not it. Try {number} of {MAX_TRIES}. " if number > 1 else ""
            try:
                typed = self.prompt(f"{again}Passphrase of {path}: ")
                return read_private_key(path, what=what, passphrase=typed)
            except WrongPassphrase:
                continue
            except EOFError as exc:
                why = f" ({exc})" if str(exc) else ""
                raise SettingsError(
                    f"{what}: {path} is protected by a passphrase, and none was typed{why}"
                ) from None
        raise SettingsError(
            f"{what}: {path} is protected by a passphrase, and it was typed wrong {MAX_TRIES} times"
        )

    def held(self, public: PublicKey | None) -> AgentKey | None:
        """This key, if the agent may be asked and holds it.

        Raises SettingsError where keys must come from an agent and it does not answer; else that is a warning.
        """
        if self.agent == "off" or self.agent_socket is None or public is None or unusable(public) is not None:
            return None
        try:
            return next((key for key in list_keys(self.agent_socket) if key.public == public), None)
        except AgentUnusable as exc:
            if self.agent == "on":
                raise SettingsError(f"{self._insists}{exc}") from None
            logger.warning("%s", exc)
            return None

    def agent_keys(self) -> tuple[AgentKey, ...]:
        """The keys of the agent that servers will be shown, in its order. Raises SettingsError if there are none."""
        if self.agent_socket is None:
            raise SettingsError(f"{self._insists}no ssh-agent is known: SSH_AUTH_SOCK is not set")
        try:
            held = list_keys(self.agent_socket)
        except AgentUnusable as exc:
            raise SettingsError(f"{self._insists}{exc}") from None
        fit = tuple(key for key in held if unusable(key.public) is None)
        if not fit:
            others = [f"{key.comment or key.public.fingerprint} is {unusable(key.public)}" for key in held]
            why = (
                f" that can be used: {'; '.join(others)}"
                if others
                else "; add one with ssh-add, or unlock it"
            )
            raise SettingsError(f"{self._insists}the ssh-agent at {self.agent_socket} holds no key{why}")
        if len(fit) > MAX_OFFERED:
            logger.warning(
                "the ssh-agent at %s holds %d keys; servers are shown the first %d, as they end the connection at "
                "the sixth; name the right one with tunnels.key_path",
                self.agent_socket,
                len(fit),
                MAX_OFFERED,
            )
        return fit[:MAX_OFFERED]

    @property
    def _insists(self) -> str:
        return "tunnels.agent is on, but " if self.agent == "on" else ""
