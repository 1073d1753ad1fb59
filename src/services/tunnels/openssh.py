"""Handing a session over to OpenSSH's own client: which options make it as careful as vastproxy is. Pure.

Host keys are looked up by a name of ours (HostKeyAlias) and not by address: vast.ai's relay gives the same port to
other instances later. Options: ssh_config(5) of OpenSSH 8 to 10.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath

from vastproxy.services.tunnels.base import Path, SshAddress
from vastproxy.services.tunnels.pins import PinBook
from vastproxy.settings.errors import SettingsError

#: An address or a name, and nothing that a shell or ssh takes for something else.
_HOST = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.:-]*")
_HEADER = "# Written by `vastproxy ssh` from the pinned host keys; edits are lost.\n"


def alias(identity: str, path: Path) -> str:
    """What an instance is called in known_hosts, on one path."""
    return f"vastproxy.{identity}.{path}"


def known_hosts_text(book: PinBook) -> str:
    """All pinned keys as a known_hosts file."""
    lines = (f"{alias(identity, path)} {pin.key}\n" for (identity, path), pin in sorted(book.pins.items()))
    return _HEADER + "".join(lines)


def host_key_options(known_hosts: FilePath, *, name: str | None) -> list[str]:
    """Trust what that file lists, and nothing else. `name`: under which the key stands; None: host and port."""
    quoted = '"' + str(known_hosts).replace("%", "%%") + '"'
    options = {
        "UserKnownHostsFile": quoted,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "CheckHostIP": "no",
        **({"HostKeyAlias": name} if name else {}),
    }
    return list(_options(options))


def key_options(files: Sequence[FilePath], *, agent: str, agent_socket: FilePath | None) -> list[str]:
    """Offer these key files, through an agent where it holds them; without files the agent's own keys.

    `agent` is `tunnels.agent`. ssh asks for a passphrase itself.
    """
    found = [word for file in files for word in ("-i", str(file))]
    if agent == "off":
        return [*found, *_options({"IdentityAgent": "none", "IdentitiesOnly": "yes"})]
    if found:
        return [*found, *_options({"IdentitiesOnly": "yes"})]
    if agent_socket is None:
        raise SettingsError(
            "no SSH key found: set SSH_KEY_PATH, or start an ssh-agent and add one with ssh-add"
        )
    return list(_options({"IdentityFile": "none"}))


def command_line(
    address: SshAddress,
    *,
    options: Sequence[str],
    command: Sequence[str] = (),
    user: str = "root",
    program: str = "ssh",
) -> list[str]:
    """What to execute. Raises SettingsError for a host that is none; the address comes from elsewhere."""
    if not _HOST.fullmatch(address.host):
        raise SettingsError(f"vast.ai names {address.host!r:.80} as a host, which is none")
    # After `--` nothing is an option, whatever the command begins with.
    return [program, "-p", str(address.port), *options, "--", f"{user}@{address.host}", *command]


def _options(options: dict[str, str]) -> Iterator[str]:
    for name, value in options.items():
        yield from ("-o", f"{name}={value}")
