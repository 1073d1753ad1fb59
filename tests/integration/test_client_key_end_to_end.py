"""How `vastproxy serve` gets at its key: a passphrase that is set or typed at a terminal, and OpenSSH's ssh-agent."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.proxy_process import FAST, ProxyProcess, environment
from tests.helpers.raw import ask as ask_plainly
from tests.helpers.scene import Scene, ask, chat, open_scene, served_by
from tests.helpers.ssh_agent import SshAgent, output
from tests.helpers.sshd import make_key
from tests.helpers.terminal import CTRL_C, CTRL_D, Terminal

WORDS = "hidden words"
SERVE = ("-m", "vastproxy", "serve")
PROMPT = "Passphrase of "


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


def lock(path: Path) -> None:
    """Protect a key file with the passphrase."""
    output("ssh-keygen", "-q", "-p", "-N", WORDS, "-f", str(path))


def at_terminal(directory: Path, key_path: Path, **env: str) -> Terminal:
    given = {
        **FAST,
        "LISTEN_ADDR": "127.0.0.1:0",
        "VAST_API_KEY": "test-key",
        "VAST_URL": "http://127.0.0.1:9",
        "VASTPROXY_TUNNELS__STATE_DIR": str(directory / "state"),
        "SSH_KEY_PATH": str(key_path),
        **env,
    }
    return Terminal(SERVE, env=environment(directory, **given), cwd=directory)


async def test_a_passphrase_that_is_set_opens_the_key_and_is_never_written(scene: Scene) -> None:
    """As it is, and by the name of a variable; a wrong one ends the start with one line."""
    await scene.rent(101)
    lock(scene.key_path)
    proxy = await scene.serve(
        VASTPROXY_TUNNELS__KEY_PASSPHRASE="env:THE_WORDS",
        THE_WORDS=WORDS,
        VASTPROXY_LOGGING__LEVEL="debug",
    )
    assert served_by(await ask(proxy)) == 101
    assert WORDS not in proxy.output
    assert WORDS not in (await proxy.ask("GET", "/vastproxy/v1/backends")).body.decode()

    wrong = ProxyProcess(
        scene.directory,
        api=scene.api,
        key_path=scene.key_path,
        env={"VASTPROXY_TUNNELS__KEY_PASSPHRASE": "others"},
        secrets=["others"],
    )
    assert await wrong.run() == 2
    assert wrong.output == (
        f"vastproxy: tunnels.key_path (SSH_KEY_PATH): the passphrase given does not open {scene.key_path}; "
        "check VASTPROXY_TUNNELS__KEY_PASSPHRASE\n"
    )
    wrong.check_output()


async def test_a_passphrase_typed_at_a_terminal_serves(scene: Scene) -> None:
    """A wrong one first costs one clear line; nothing that was typed is shown; Ctrl-C ends the proxy in order."""
    await scene.rent(101)
    lock(scene.key_path)
    urls = {"VAST_URL": scene.api.url, "VAST_API_KEY": scene.api.account.api_key}
    async with at_terminal(scene.directory, scene.key_path, **urls) as terminal:
        await terminal.shows(f"{PROMPT}{scene.key_path}: ")
        assert not terminal.echoes
        terminal.types("wrong one")
        await terminal.shows(f"\nThat is not it. Try 2 of 3. {PROMPT}{scene.key_path}: ")
        terminal.types(WORDS)
        await terminal.shows("listening on http://")
        assert terminal.echoes
        found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", terminal.screen)
        assert found is not None
        async with asyncio.timeout(15):
            while (
                answer := await ask_plainly(int(found[1]), "POST", "/v1/chat/completions", **chat())
            ).status == 503:
                await asyncio.sleep(0.05)
        assert served_by(answer) == 101
        terminal.presses(CTRL_C)
        assert await terminal.wait() == 0, terminal.screen
    assert terminal.screen.count(PROMPT) == 2
    assert [word for word in ("wrong one", WORDS, "Traceback") if word in terminal.screen] == []


@pytest.mark.parametrize(
    ("keys", "code", "last"),
    [
        ((CTRL_C,), 130, ""),
        ((CTRL_D,), 2, "is protected by a passphrase, and none was typed"),
        ((b"a\n", b"b\n", b"c\n"), 2, "and it was typed wrong 3 times"),
        ((b"\xff\n",), 2, "none was typed (it is not text in the terminal's encoding)"),
    ],
    ids=["ctrl-c", "ctrl-d", "wrong", "no text"],
)
async def test_who_does_not_know_the_passphrase_gets_one_line_and_the_terminal_back(
    tmp_path: Path, keys: tuple[bytes, ...], code: int, last: str
) -> None:
    path = make_key(tmp_path / "key", passphrase=WORDS)
    async with at_terminal(tmp_path, path) as terminal:
        for number, key in enumerate(keys, 1):
            await terminal.shows(PROMPT, times=number)
            terminal.presses(key)
        assert await terminal.wait() == code, terminal.screen
        assert terminal.echoes
    assert "Traceback" not in terminal.screen
    *_, end = terminal.screen.rstrip().split("\n")
    assert end.startswith("vastproxy: ") if last else end.startswith(PROMPT), terminal.screen
    assert end.endswith(last)


async def test_with_an_agent_alone_the_key_is_its_and_its_death_and_return_are_told_and_survived(
    scene: Scene,
) -> None:
    """No file is read. A dead agent is named as the reason, and no restart is needed when it is back."""
    await scene.rent(101)
    machine = scene.machines[101]
    away = scene.directory / "away"
    scene.key_path.rename(away)
    with SshAgent(scene.directory) as agent:
        agent.add(away)
        proxy = await scene.serve(
            SSH_KEY_PATH="", SSH_AUTH_SOCK=str(agent.socket), VASTPROXY_TUNNELS__AGENT="on"
        )
        assert served_by(await ask(proxy)) == 101
        await asyncio.to_thread(agent.stop)
        assert served_by(await ask(proxy)) == 101, "the connection is there"
        await machine.stop_sshd()
        await machine.start_sshd()
        row = await proxy.wait_backend(101, lambda row: "ssh-agent" in (row["error"] or ""))
        assert f"was not shown a key: the ssh-agent at {agent.socket} does not answer" in row["error"]
        await asyncio.to_thread(agent.start)
        await proxy.wait_backend(
            101, lambda row: "no more; add it again with ssh-add" in (row["error"] or "")
        )
        await asyncio.to_thread(agent.add, away)
        await proxy.wait_healthy(1)
        assert served_by(await ask(proxy)) == 101
