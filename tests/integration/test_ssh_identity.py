"""Client keys against OpenSSH: its sshd, ssh-agent, ssh-add and ssh-keygen."""

import asyncio
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath

import asyncssh
import pytest
from pydantic import SecretStr

from tests.helpers.ssh_agent import SshAgent, output
from tests.helpers.ssh_login import answers, keys_of
from tests.helpers.sshd import Sshd, make_key
from tests.helpers.tunnelling import target_for
from vastproxy.services.tunnels.agent import AgentUnusable, list_keys
from vastproxy.services.tunnels.publickey import parse_line
from vastproxy.settings.errors import SettingsError

WORDS = "hidden words"


@pytest.fixture
def agent(tmp_path: FilePath) -> Iterator[SshAgent]:
    with SshAgent(tmp_path) as running:
        yield running


@pytest.fixture
def sshd(tmp_path: FilePath) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as running:
        yield running


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_a_key_that_an_agent_holds_logs_in(
    sshd: Sshd, agent: SshAgent, tmp_path: FilePath, kind: str
) -> None:
    """There is no key file: what is found is the agent's, several times with the same keys."""
    path = make_key(tmp_path / "key", kind=kind)
    sshd.authorize(path)
    agent.add(path)
    path.unlink()
    keys = keys_of(None, tmp_path / "empty", agent_socket=agent.socket)
    assert str(keys) == "test (ssh-agent)"
    assert await asyncio.gather(*(answers(sshd, keys) for _ in range(3))) == ["in"] * 3
    [key] = keys.keys
    told = key.to_json()
    assert output("ssh-add", "-l", agent=agent).split()[:3] == [
        str(told["bits"]),
        told["fingerprint"],
        told["comment"],
    ]
    assert told["source"] == "agent"
    with pytest.raises(LookupError, match="is with the ssh-agent"):
        _ = key.private


async def test_the_command_that_attaches_an_agents_key_prints_its_public_half(
    agent: SshAgent, tmp_path: FilePath
) -> None:
    paths = [make_key(tmp_path / f"key{number}") for number in range(3)]
    agent.add(*paths)
    keys = keys_of(paths[1], agent="on", agent_socket=agent.socket)
    hint = keys.attach_hint(target_for(instance_id=7))
    assert hint.startswith("vastai attach ssh 7 ")
    shown = output("sh", "-c", f"printf %s {hint.removeprefix('vastai attach ssh 7 ')}", agent=agent)
    assert shown == paths[1].with_name("key1.pub").read_text().strip()


async def test_of_many_keys_in_an_agent_the_named_one_is_shown(
    sshd: Sshd, agent: SshAgent, tmp_path: FilePath, caplog: pytest.LogCaptureFixture
) -> None:
    """sshd ends a connection at the sixth wrong key, so seven keys would never get to the last one."""
    paths = [make_key(tmp_path / f"key{number}") for number in range(7)]
    sshd.authorize(paths[6])
    agent.add(*paths)
    first = keys_of(None, agent="on", agent_socket=agent.socket)
    assert len(first.keys) == 5
    assert "holds 7 keys; servers are shown the first 5" in caplog.text
    with pytest.raises(PermissionError, match="denied"):
        await answers(sshd, first)
    named = keys_of(paths[6].with_name("key6.pub"), agent_socket=agent.socket)
    assert await answers(sshd, named) == "in"


async def test_a_locked_file_whose_key_an_agent_holds_needs_no_passphrase(
    sshd: Sshd, agent: SshAgent, tmp_path: FilePath
) -> None:
    path = make_key(tmp_path / "key")
    sshd.authorize(path)
    agent.add(path)
    output("ssh-keygen", "-q", "-p", "-N", WORDS, "-f", str(path))
    path.with_name("key.pub").unlink()
    asked: list[str] = []
    keys = keys_of(path, agent_socket=agent.socket, prompt=asked.append)
    assert keys.keys[0].source == "agent"
    assert asked == []
    assert await answers(sshd, keys) == "in"
    with pytest.raises(SettingsError, match="is protected by a passphrase"):
        keys_of(path, agent="off", agent_socket=agent.socket)


async def test_an_agent_that_comes_back_is_used_again(
    sshd: Sshd, agent: SshAgent, tmp_path: FilePath
) -> None:
    path = make_key(tmp_path / "key")
    sshd.authorize(path)
    agent.add(path)
    keys = keys_of(None, agent="on", agent_socket=agent.socket)
    await asyncio.to_thread(agent.stop)
    with pytest.raises(AgentUnusable, match="does not answer"):
        await answers(sshd, keys)
    await asyncio.to_thread(agent.start)
    with pytest.raises(
        AgentUnusable, match=r"holds ssh-ed25519 SHA256:\S+ no more; add it again with ssh-add"
    ):
        await answers(sshd, keys)
    await asyncio.to_thread(agent.add, path)
    assert await answers(sshd, keys) == "in"


async def test_an_agent_that_will_not_sign_is_named_as_the_reason(
    sshd: Sshd, agent: SshAgent, tmp_path: FilePath
) -> None:
    """It would ask for a confirmation, and there is nobody to give one."""
    path = make_key(tmp_path / "key")
    sshd.authorize(path)
    agent.add(path, options=["-c"])
    keys = keys_of(None, agent="on", agent_socket=agent.socket)
    with pytest.raises(PermissionError, match=r"refuses to sign with ssh-ed25519 SHA256:.*: confirm the use"):
        await answers(sshd, keys)


async def test_a_locked_or_empty_agent_says_what_to_do(agent: SshAgent, tmp_path: FilePath) -> None:
    agent.add(make_key(tmp_path / "key"))
    async with await asyncssh.connect_agent(str(agent.socket)) as client:
        await client.lock("secret")
        with pytest.raises(SettingsError, match="holds no key; add one with ssh-add, or unlock it"):
            keys_of(None, agent="on", agent_socket=agent.socket)
        await client.unlock("secret")
    assert len(await asyncio.to_thread(list_keys, agent.socket)) == 1


async def test_a_named_key_that_the_agent_does_not_hold(agent: SshAgent, tmp_path: FilePath) -> None:
    path = make_key(tmp_path / "key")
    with pytest.raises(
        SettingsError, match=rf"the ssh-agent does not hold {path} \(ssh-ed25519 .*ssh-add {path}$"
    ):
        keys_of(path, agent="on", agent_socket=agent.socket)
    with pytest.raises(SettingsError, match=r"is a public key.*the ssh-agent does not hold it"):
        keys_of(path.with_name("key.pub"), agent="on", agent_socket=agent.socket)


@pytest.mark.parametrize(
    ("kind", "pem"), [("ed25519", False), ("rsa", False), ("ecdsa", False), ("rsa", True), ("ecdsa", True)]
)
async def test_a_key_protected_by_a_passphrase_logs_in(
    sshd: Sshd, tmp_path: FilePath, kind: str, pem: bool
) -> None:
    path = make_key(tmp_path / "key", kind=kind, pem=pem, passphrase=WORDS)
    sshd.authorize(path)
    assert await answers(sshd, keys_of(path, passphrase=SecretStr(WORDS))) == "in"


def test_a_passphrase_typed_at_a_terminal_is_not_shown(tmp_path: FilePath) -> None:
    path = make_key(tmp_path / "key", kind="ecdsa", pem=True, passphrase=WORDS)
    code = (
        "import fcntl, termios, sys, pathlib\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "from vastproxy.services.tunnels.keyaccess import KeyAccess\n"
        "from vastproxy.services.tunnels.passphrase import terminal_prompt\n"
        "key = KeyAccess(prompt=terminal_prompt()).ask(pathlib.Path(sys.argv[1]), what='key')\n"
        "print(key.public)\n"
    )
    screen = typed_at_terminal([sys.executable, "-c", code, str(path)], ["wrong", WORDS])
    assert screen.count(f"Passphrase of {path}: ") == 2
    assert "That is not it. Try 2 of 3." in screen
    assert str(parse_line(path.with_name("key.pub").read_text())[0]) in screen
    assert "wrong" not in screen
    assert WORDS not in screen


def typed_at_terminal(argv: Sequence[str], lines: Sequence[str]) -> str:
    """All that a terminal shows while a program runs on it, whose every question is answered with the next line."""
    ours, theirs = pty.openpty()
    screen, left = b"", list(lines)
    with subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            while select.select([ours], [], [], 20)[0]:
                try:
                    part = os.read(ours, 4096)
                except OSError:  # the other end has been closed
                    break
                screen += part
                if left and screen.endswith(b": "):
                    os.write(ours, left.pop(0).encode() + b"\n")
        finally:
            process.kill()
            os.close(ours)
    return screen.decode()
