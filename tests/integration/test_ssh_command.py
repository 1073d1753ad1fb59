"""`vastproxy ssh` and `vastproxy logs`: OpenSSH's own client against its own server, with our pinned keys."""

import asyncio
import getpass
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.scene import Scene, open_scene
from tests.helpers.ssh_agent import SshAgent
from tests.helpers.vastapi import VastApi

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client is not installed"),
    pytest.mark.skipif(getpass.getuser() != "root", reason="it logs in as root, as on vast.ai"),
]
ID = 101


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        await scene.rent(ID)
        yield scene


async def vastproxy(
    scene: Scene, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None
) -> str:
    """What a command writes. It must end with this code."""
    run = ProxyProcess(scene.directory, api=scene.api, key_path=scene.key_path, env=env, arguments=arguments)
    assert await run.run(limit_s=40) == code, run.output
    assert "Traceback" not in run.output
    return run.stdout if code == 0 else run.stderr


async def test_a_command_runs_there_and_its_exit_code_comes_back(scene: Scene) -> None:
    """The first session pins the host key, the second one finds it pinned; ssh is told to accept no other."""
    assert "GPU" in await vastproxy(scene, "ssh", str(ID), "--", "nvidia-smi --query-gpu=uuid")
    assert (await vastproxy(scene, "ssh", str(ID), "--", "echo", "in", "there")).strip() == "in there"
    await vastproxy(scene, "ssh", str(ID), "--", "exit 7", code=7)
    shown = await vastproxy(scene, "ssh", str(ID), "--print", "--", "ls", "-l")
    assert "StrictHostKeyChecking=yes" in shown
    assert shown.rstrip().endswith("-- root@127.0.0.1 ls -l")


async def test_a_changed_host_key_is_refused_until_it_is_trusted(scene: Scene) -> None:
    await vastproxy(scene, "ssh", str(ID), "--", "true")
    machine = scene.machines[ID]
    await machine.stop_sshd()
    machine.sshd.new_host_key()
    await machine.start_sshd()
    refused = await vastproxy(scene, "ssh", str(ID), "--", "true", code=1)
    assert "HOST KEY CHANGED" in refused
    await vastproxy(scene, "trust", str(ID), "--yes")
    await vastproxy(scene, "ssh", str(ID), "--", "true")


async def test_openssh_itself_would_refuse_another_key(scene: Scene) -> None:
    """What is printed can be used later, and then it is ssh that insists on the pinned key."""
    line = (await vastproxy(scene, "ssh", str(ID), "--print", "--", "true")).strip()
    machine = scene.machines[ID]
    await machine.stop_sshd()
    machine.sshd.new_host_key()
    await machine.start_sshd()
    ssh = await asyncio.create_subprocess_exec(
        *shlex.split(line), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, said = await asyncio.wait_for(ssh.communicate(), 40)
    assert ssh.returncode == 255
    assert b"Host key verification failed" in said


async def test_the_relay_is_taken_where_the_direct_way_is_shut(scene: Scene) -> None:
    machine = scene.machines[ID]
    await machine.start_relay()
    await machine.stop_sshd()
    scene.show()
    shown = await vastproxy(scene, "ssh", str(ID), "--print")
    assert f"-p {machine.relay.port} " in shown
    assert ".relay " in shown
    await vastproxy(scene, "ssh", str(ID), "--", "true")
    closed = await vastproxy(scene, "ssh", str(ID), "--path", "direct", code=1)
    assert f"vastproxy doctor {ID}" in closed


async def test_a_known_hosts_file_of_ones_own(scene: Scene) -> None:
    """With tunnels.host_keys: strict nothing is pinned, and that file decides."""
    machine = scene.machines[ID]
    file = scene.directory / "hosts"
    file.write_text(f"[127.0.0.1]:{machine.sshd.port} {machine.sshd.host_key}\n")
    strict = {"VASTPROXY_TUNNELS__HOST_KEYS": "strict", "VASTPROXY_TUNNELS__KNOWN_HOSTS": str(file)}
    await vastproxy(scene, "ssh", str(ID), "--", "true", env=strict)
    file.write_text(f"[127.0.0.1]:1 {machine.sshd.host_key}\n")
    await vastproxy(scene, "ssh", str(ID), "--", "true", code=255, env=strict)


async def test_a_key_that_only_an_agent_holds(scene: Scene) -> None:
    """No key file can be used: ssh signs with the agent, and so did the login that pinned the host key."""
    with SshAgent(scene.directory) as agent:
        agent.add(scene.key_path)
        env = {"SSH_KEY_PATH": "", "VASTPROXY_TUNNELS__AGENT": "on", "SSH_AUTH_SOCK": str(agent.socket)}
        assert "in" in await vastproxy(scene, "ssh", str(ID), "--", "echo in", env=env)
        shown = await vastproxy(scene, "ssh", str(ID), "--print", env=env)
    assert "IdentityFile=none" in shown
    assert str(scene.key_path) not in shown


async def test_an_instance_that_is_not_there(scene: Scene) -> None:
    assert "there is no instance 5 on this account" in await vastproxy(scene, "ssh", "5", code=1)


async def test_the_log_of_a_container(tmp_path: Path) -> None:
    async with VastApi() as api:
        api.account.add(id=7).log.extend(["one", "two", "three"])
        run = ProxyProcess(tmp_path, api=api, arguments=("logs", "7", "--tail", "2"))
        assert await run.run(limit_s=40) == 0, run.output
        assert run.stdout == "two\nthree\n"
        assert run.stderr == ""
