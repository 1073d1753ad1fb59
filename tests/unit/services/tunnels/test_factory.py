"""What the settings about keys and host keys become."""

from pathlib import Path

import asyncssh
import pytest
from pydantic import SecretStr

from vastproxy.services.tunnels.factory import host_key_rules, key_access, make_engine
from vastproxy.services.tunnels.hostcheck import ListedHostKeys, PinnedHostKeys
from vastproxy.settings.errors import SettingsError
from vastproxy.settings.model import TunnelSettings


def settings(**values: object) -> TunnelSettings:
    return TunnelSettings.model_validate(values)


def test_the_agent_and_the_passphrase_come_from_the_environment() -> None:
    environ = {"SSH_AUTH_SOCK": "/run/agent", "WORDS": "hidden words"}
    access = key_access(settings(key_passphrase="env:WORDS", agent="on"), environ)
    assert (access.agent, access.agent_socket) == ("on", Path("/run/agent"))
    assert access.passphrase == SecretStr("hidden words")
    assert access.prompt is None
    assert key_access(settings(), {"SSH_AUTH_SOCK": ""}).agent_socket is None
    with pytest.raises(SettingsError, match=r"^tunnels\.key_passphrase: the environment variable WORDS"):
        key_access(settings(key_passphrase="env:WORDS"), {})


def test_host_keys_are_pinned_unless_a_file_lists_them(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert isinstance(host_key_rules(settings(), environ), PinnedHostKeys)
    strict = settings(host_keys="strict", known_hosts="~/known_hosts")
    with pytest.raises(
        SettingsError, match=r"^tunnels\.known_hosts: .*known_hosts cannot be used: No such file"
    ):
        host_key_rules(strict, environ)
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    (tmp_path / "known_hosts").write_text(f"* {key}")
    assert isinstance(host_key_rules(strict, environ), ListedHostKeys)


def test_strict_without_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected known_hosts \(a file\) where host_keys is strict"):
        settings(host_keys="strict")


def test_an_engine_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no SSH key found"):
        make_engine(settings(), environ={"HOME": str(tmp_path)})
