"""What OpenSSH's client is told, so that it is as careful as we are."""

from pathlib import Path as FilePath

import pytest

from vastproxy.services.tunnels.base import Path, SshAddress
from vastproxy.services.tunnels.openssh import (
    alias,
    command_line,
    host_key_options,
    key_options,
    known_hosts_text,
)
from vastproxy.services.tunnels.pins import PinBook
from vastproxy.settings import SettingsError

ID = "7@1700000000"
AT = SshAddress("203.0.113.7", 41022, Path.DIRECT)


def test_known_hosts_has_each_pin_under_a_name_of_its_own() -> None:
    book = PinBook().with_pin(ID, Path.RELAY, "ssh-ed25519 AAAAr", now=2)
    book = book.with_pin(ID, Path.DIRECT, "ssh-ed25519 AAAAd", now=1)
    text = known_hosts_text(book).splitlines()
    assert text[0].startswith("#")
    assert text[1:] == [
        f"{alias(ID, Path.DIRECT)} ssh-ed25519 AAAAd",
        f"{alias(ID, Path.RELAY)} ssh-ed25519 AAAAr",
    ]


def test_only_the_file_is_trusted() -> None:
    options = host_key_options(FilePath("/home/me/a 100% dir/known_hosts"), name="x")
    assert 'UserKnownHostsFile="/home/me/a 100%% dir/known_hosts"' in options
    assert {"StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "HostKeyAlias=x"} <= set(options)
    assert not any("HostKeyAlias" in word for word in host_key_options(FilePath("/x"), name=None))


def test_only_our_keys_are_offered() -> None:
    files = [FilePath("/home/me/.ssh/id_ed25519")]
    socket = FilePath("/run/agent")
    assert key_options(files, agent="auto", agent_socket=socket) == [
        *("-i", "/home/me/.ssh/id_ed25519"),
        *("-o", "IdentitiesOnly=yes"),
    ]
    assert "IdentityAgent=none" in key_options(files, agent="off", agent_socket=socket)
    assert key_options([], agent="on", agent_socket=socket) == ["-o", "IdentityFile=none"]
    with pytest.raises(SettingsError, match="no SSH key found"):
        key_options([], agent="auto", agent_socket=None)


def test_nothing_of_the_command_is_an_option() -> None:
    line = command_line(AT, options=["-o", "A=b"], command=["-l", "nobody"])
    assert line == ["ssh", "-p", "41022", "-o", "A=b", "--", "root@203.0.113.7", "-l", "nobody"]


@pytest.mark.parametrize("host", ["-oProxyCommand=x", "a b", "$(id)", "", "a\nb", "x;y"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="which is none"):
        command_line(SshAddress(host, 22, Path.DIRECT), options=[])
