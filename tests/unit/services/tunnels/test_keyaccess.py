"""Getting at keys that are not simply readable: passphrases, people, agents."""

from pathlib import Path

import asyncssh
import pytest
from pydantic import SecretStr

from tests.helpers.ssh_agent import SaidAgent, identities
from tests.helpers.sshd import make_key
from vastproxy.services.tunnels.base import TunnelTarget
from vastproxy.services.tunnels.keyaccess import KeyAccess
from vastproxy.services.tunnels.keys import ClientKeys, load_client_keys
from vastproxy.settings.errors import SettingsError
from vastproxy.settings.model import TunnelSettings

TARGET = TunnelTarget(123, "123@1", ())


def write_key(path: Path) -> asyncssh.SSHKey:
    path.parent.mkdir(parents=True, exist_ok=True)
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.write_bytes(key.export_private_key())
    path.chmod(0o600)
    return key


class Person:
    """Types what it is given, one passphrase after the other; then hangs up."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, text: str) -> str:
        self.asked.append(text)
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)


def locked(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    return make_key(path, kind="ecdsa", pem=True, passphrase="hidden words")


def with_access(home: Path, access: KeyAccess, path: Path | None = None) -> ClientKeys:
    settings = TunnelSettings(key_path=None if path is None else str(path))
    return load_client_keys(settings, home=home, access=access)


def test_a_passphrase_that_is_set_opens_the_named_key_and_every_default_key(tmp_path: Path) -> None:
    path = locked(tmp_path / ".ssh" / "id_ecdsa")
    access = KeyAccess(passphrase=SecretStr("hidden words"))
    assert "hidden" not in repr(access)
    assert with_access(tmp_path, access, path).keys[0].path == path
    assert with_access(tmp_path, access).keys[0].path == path
    with pytest.raises(SettingsError, match="the passphrase given does not open") as wrong:
        with_access(tmp_path, KeyAccess(passphrase=SecretStr("other words"), prompt=Person("no")), path)
    assert "words" not in str(wrong.value)


def test_a_person_has_three_tries(tmp_path: Path) -> None:
    path = locked(tmp_path / ".ssh" / "id_ecdsa")
    person = Person("wrong", "hidden words")
    assert with_access(tmp_path, KeyAccess(prompt=person), path).keys[0].path == path
    assert person.asked == [
        f"Passphrase of {path}: ",
        f"That is not it. Try 2 of 3. Passphrase of {path}: ",
    ]
    assert with_access(tmp_path, KeyAccess(prompt=Person("hidden words"))).keys[0].path == path
    person = Person("a", "b", "c", "hidden words")
    with pytest.raises(SettingsError, match=r"it was typed wrong 3 times$"):
        with_access(tmp_path, KeyAccess(prompt=person), path)
    assert len(person.asked) == 3
    with pytest.raises(SettingsError, match="and none was typed"):
        with_access(tmp_path, KeyAccess(prompt=Person()))


def test_nobody_is_asked_while_a_key_is_open(tmp_path: Path) -> None:
    locked(tmp_path / ".ssh" / "id_ecdsa")
    write_key(tmp_path / ".ssh" / "id_ed25519")
    person = Person("hidden words")
    keys = with_access(tmp_path, KeyAccess(prompt=person))
    assert [key.path for key in keys.keys] == [tmp_path / ".ssh" / "id_ed25519"]
    assert person.asked == []


def an_agent(tmp_path: Path, *keys: asyncssh.SSHKey, comment: bytes = b"me") -> SaidAgent:
    return SaidAgent(tmp_path / "agent", identities(*((key.public_data, comment) for key in keys)))


def test_without_a_key_file_the_agents_keys_are_used(tmp_path: Path) -> None:
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(2)]
    locked(tmp_path / ".ssh" / "id_ecdsa")
    person = Person("hidden words")
    with an_agent(tmp_path, *keys) as agent:
        access = KeyAccess(agent_socket=agent.socket, prompt=person)
        found = with_access(tmp_path, access)
        write_key(tmp_path / ".ssh" / "id_ed25519")
        assert with_access(tmp_path, access).keys[0].source == "file"
        insisted = with_access(tmp_path, KeyAccess(agent="on", agent_socket=agent.socket))
    assert [key.fingerprint for key in found.keys] == [key.get_fingerprint() for key in keys]
    assert insisted == found
    assert person.asked == []
    assert str(found) == "me (ssh-agent) or me (ssh-agent)"
    assert found.keys[0].to_json()["source"] == "agent"
    telltale = found.keys[0].public[-24:]
    assert found.attach_hint(TARGET) == f'vastai attach ssh 123 "$(ssh-add -L | grep -F {telltale})"'
    with pytest.raises(LookupError, match=r"^the private half of me \(ssh-agent\) is with the ssh-agent$"):
        _ = found.keys[0].private


async def test_keys_of_an_agent_are_offered_by_it(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    with an_agent(tmp_path, key) as agent:
        keys = with_access(tmp_path, KeyAccess(agent="on", agent_socket=agent.socket))
        async with keys.offer() as offer:
            [pair] = offer.keys
            assert isinstance(pair, asyncssh.SSHKeyPair)
            assert pair.key_public_data == key.public_data
            assert offer.trouble is None


def test_a_named_key_is_taken_from_the_agent_where_its_file_cannot_be_opened(tmp_path: Path) -> None:
    path = locked(tmp_path / "key")
    public = path.with_name("key.pub")
    key = asyncssh.read_public_key(public)
    with an_agent(tmp_path, key) as agent:
        access = KeyAccess(agent_socket=agent.socket, prompt=Person())
        assert with_access(tmp_path, access, path).keys[0].source == "agent"
        assert with_access(tmp_path, access, public).keys[0].source == "agent"
        opened = KeyAccess(agent_socket=agent.socket, passphrase=SecretStr("hidden words"))
        assert with_access(tmp_path, opened, path).keys[0].source == "file"
        insists = KeyAccess(agent="on", agent_socket=agent.socket, passphrase=SecretStr("hidden words"))
        assert with_access(tmp_path, insists, path).keys[0].source == "agent"


def test_a_named_key_that_the_agent_does_not_hold(tmp_path: Path) -> None:
    write_key(tmp_path / "key")
    with an_agent(tmp_path, asyncssh.generate_private_key("ssh-ed25519")) as agent:
        access = KeyAccess(agent="on", agent_socket=agent.socket)
        with pytest.raises(
            SettingsError, match=r"does not hold .*/key \(ssh-ed25519 SHA256:.*ssh-add .*/key$"
        ):
            with_access(tmp_path, access, tmp_path / "key")
        with pytest.raises(
            SettingsError, match=r"is protected by a passphrase.*the ssh-agent does not hold it$"
        ):
            with_access(tmp_path, access, locked(tmp_path / "other"))


def test_an_agent_with_only_weak_keys_or_none_or_too_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weak = asyncssh.generate_private_key("ssh-rsa", key_size=1024)
    on = KeyAccess(agent="on", agent_socket=tmp_path / "agent")
    with (
        an_agent(tmp_path, weak),
        pytest.raises(SettingsError, match="that can be used: me is an RSA key of 1024"),
    ):
        with_access(tmp_path, on)
    (tmp_path / "agent").unlink()
    with (
        an_agent(tmp_path),
        pytest.raises(SettingsError, match="holds no key; add one with ssh-add, or unlock it"),
    ):
        with_access(tmp_path, on)
    (tmp_path / "agent").unlink()
    with an_agent(tmp_path, *(asyncssh.generate_private_key("ssh-ed25519") for _ in range(6))):
        assert len(with_access(tmp_path, on).keys) == 5
    assert "holds 6 keys; servers are shown the first 5" in caplog.text


def test_an_agent_that_must_be_there_and_is_not(tmp_path: Path) -> None:
    write_key(tmp_path / ".ssh" / "id_ed25519")
    nowhere = tmp_path / "agent"
    with pytest.raises(
        SettingsError, match=r"^tunnels\.agent is on, but no ssh-agent is known: SSH_AUTH_SOCK"
    ):
        with_access(tmp_path, KeyAccess(agent="on"))
    with pytest.raises(
        SettingsError, match=r"^tunnels\.agent is on, but the ssh-agent at .* cannot be reached"
    ):
        with_access(tmp_path, KeyAccess(agent="on", agent_socket=nowhere), tmp_path / ".ssh" / "id_ed25519")
    with pytest.raises(SettingsError, match="cannot be reached: No such file"):
        with_access(tmp_path / "elsewhere", KeyAccess(agent_socket=nowhere))
    with pytest.raises(SettingsError, match=r"\.ssh/\{id_ed25519,id_ecdsa,id_rsa\}; tunnels.agent is off\)"):
        with_access(tmp_path / "elsewhere", KeyAccess(agent="off", agent_socket=nowhere))


def test_an_agent_that_is_not_there_is_a_warning_where_a_person_can_help(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = locked(tmp_path / "key")
    access = KeyAccess(agent_socket=tmp_path / "agent", prompt=Person("hidden words"))
    assert with_access(tmp_path, access, path).keys[0].path == path
    assert "cannot be reached" in caplog.text
