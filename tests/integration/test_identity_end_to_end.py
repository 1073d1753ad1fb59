"""Whom a running proxy trusts, with real parts: `vastproxy serve` and `trust`, OpenSSH's sshd and ssh-keyscan."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.machine import Machine
from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.scene import Scene, ask, open_scene, served_by
from vastproxy.services.tunnels.publickey import parse_line

RECYCLED_AT = 1786300000.5


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


async def command(scene: Scene, *arguments: str, **env: str) -> ProxyProcess:
    """A command that has ended well, in the same home and with the same state as the proxy."""
    process = ProxyProcess(scene.directory, arguments=arguments, env=env)
    assert await process.run() == 0, process.output
    process.check_output()
    return process


def stored(scene: Scene) -> dict[str, Any]:
    """The file of pinned host keys."""
    found: dict[str, Any] = json.loads((scene.directory / "state" / "host_keys.json").read_text())
    return found


def fingerprint(line: str) -> str:
    return parse_line(line)[0].fingerprint


async def rent_with_relay(scene: Scene, *, relay_has_own_key: bool) -> Machine:
    """Machine 101 over both paths. The relay passes SSH on to the instance, or ends it with a key of its own."""
    await scene.rent(101)
    machine = scene.machines[101]
    if not relay_has_own_key:
        show_own_key_at_the_relay(machine)
    await machine.start_relay()
    scene.show()
    return machine


def show_own_key_at_the_relay(machine: Machine) -> None:
    for suffix in ("", ".pub"):
        own = machine.sshd.host_key_path
        shutil.copy(f"{own}{suffix}", f"{machine.relay.host_key_path}{suffix}")


async def serve_over_both(scene: Scene) -> ProxyProcess:
    proxy = await scene.serve()
    await proxy.wait_backend(101, lambda row: ways(row) == {"direct": "up", "relay": "up"})
    return proxy


def ways(row: dict[str, Any]) -> dict[str, str]:
    return {way["path"]: way["state"] for way in row["paths"]}


async def recreate(machine: Machine, *, relay: bool) -> None:
    """The container is made anew: another host key at the same addresses."""
    await machine.stop_sshd()
    if relay:
        await asyncio.to_thread(machine.relay.stop)
    machine.sshd.new_host_key()
    if relay:
        show_own_key_at_the_relay(machine)
        await machine.start_relay()
    await machine.start_sshd()


async def test_a_key_changed_on_both_paths_is_trusted_by_command_and_served_without_a_restart(
    scene: Scene,
) -> None:
    """Out and loud on both paths; `vastproxy trust` shows both keys; the running proxy needs nothing else."""
    machine = await rent_with_relay(scene, relay_has_own_key=False)
    proxy = await serve_over_both(scene)
    old = fingerprint(machine.sshd.host_key)
    await recreate(machine, relay=True)
    new = fingerprint(machine.sshd.host_key)
    row = await proxy.wait_backend(
        101,
        lambda row: (
            all("HOST KEY CHANGED" in (way["error"] or "") for way in row["paths"])
            and row["state"] == "unhealthy"
        ),
    )
    assert row["error"].endswith("vastproxy trust 101"), row["error"]
    await proxy.says("shows the same new key")
    loud = proxy.lines("HOST KEY CHANGED")
    assert len(loud) >= 2
    assert all(" error " in line and old in line and new in line for line in loud), loud
    assert (await ask(proxy)).status == 503
    logins = [place.log.count("Accepted publickey") for place in (machine.sshd, machine.relay)]

    trusted = await command(scene, "trust", "101", "--yes")
    assert trusted.stdout.count(old) == trusted.stdout.count(new) == 2, "once for each path"
    await proxy.wait_healthy(1)
    await proxy.wait_backend(101, lambda row: ways(row) == {"direct": "up", "relay": "up"})
    assert served_by(await ask(proxy)) == 101
    after = [place.log.count("Accepted publickey") for place in (machine.sshd, machine.relay)]
    assert after == [logins[0] + 1, logins[1] + 1], "no login was tried before somebody trusted the key"
    assert {pin["key"] for pin in stored(scene)["pins"]} == {machine.sshd.host_key}
    assert stored(scene)["refused"] == []


async def test_a_key_changed_at_the_relay_alone_leaves_the_backend_in_the_pool(scene: Scene) -> None:
    """Direct goes on; the message says that only the relay's path shows another key."""
    machine = await rent_with_relay(scene, relay_has_own_key=False)
    proxy = await serve_over_both(scene)
    await asyncio.to_thread(machine.relay.stop)
    machine.relay.new_host_key()
    await machine.start_relay()
    line = await proxy.says("HOST KEY CHANGED")
    assert f"(relay 127.0.0.1:{machine.relay.port})" in line
    assert "So far only this path has changed: its direct path had the same key" in line
    row = await proxy.wait_backend(101, lambda row: row["paths"][1]["error"] is not None)
    assert (row["state"], row["path"], ways(row)["direct"]) == ("healthy", "direct", "up")
    assert row["paths"][0]["error"] is None
    assert {served_by(await ask(proxy)) for _ in range(5)} == {101}
    assert all("relay" in line for line in proxy.lines("HOST KEY CHANGED"))

    await command(scene, "trust", "101", "--yes")
    await proxy.wait_backend(101, lambda row: ways(row) == {"direct": "up", "relay": "up"})
    assert proxy.lines("unhealthy") == []


async def test_a_relay_that_ends_ssh_itself_has_a_pin_of_its_own(scene: Scene) -> None:
    """Two keys from the first day: both paths come up, nobody is warned, also after a restart with the pins."""
    machine = await rent_with_relay(scene, relay_has_own_key=True)
    for _ in range(2):
        proxy = await serve_over_both(scene)
        assert served_by(await ask(proxy)) == 101
        await proxy.__aexit__(None, None, None)
        assert proxy.lines("HOST KEY") == proxy.lines(" warning ") == proxy.lines(" error ") == []
    keys = {pin["path"]: pin["key"] for pin in stored(scene)["pins"]}
    assert keys == {"direct": machine.sshd.host_key, "relay": machine.relay.host_key}


@pytest.mark.parametrize("first", ["api", "key"])
async def test_a_recycled_instance_is_served_again_without_anybody_doing_anything(
    scene: Scene, first: str
) -> None:
    """Another start date explains the new key, whichever of the two is seen first; the old pin goes."""
    await scene.rent(101, 102)
    proxy = await scene.serve()
    machine = scene.machines[101]
    assert {pin["identity"].partition("@")[0] for pin in stored(scene)["pins"]} == {"101", "102"}
    if first == "key":
        await recreate(machine, relay=False)
        await proxy.says("HOST KEY CHANGED")
        scene.api.change(101, start_date=RECYCLED_AT)
    else:
        await machine.stop_sshd()
        scene.api.change(101, start_date=RECYCLED_AT)
        lists = len(scene.api.lists)
        await scene.api.until(lambda: len(scene.api.lists) > lists + 1)
        machine.sshd.new_host_key()
        await machine.start_sshd()
    await proxy.wait_healthy(2)
    assert served_by(await ask(proxy, pin=101)) == 101
    assert bool(proxy.lines("HOST KEY CHANGED")) == (first == "key")
    pins = {pin["identity"]: pin["key"] for pin in stored(scene)["pins"]}
    [identity] = (identity for identity in pins if identity.startswith("101@"))
    assert (identity, pins[identity]) == (f"101@{int(RECYCLED_AT)}", machine.sshd.host_key)
    assert stored(scene)["refused"] == []
    assert len(pins) == 2


async def test_strict_serves_who_is_listed_and_the_other_once_the_told_line_is_added(scene: Scene) -> None:
    """The command in the message is run as it stands there; the proxy goes on meanwhile."""
    await scene.rent(101, 102)
    known = scene.directory / "known hosts"
    listed = scene.machines[101].sshd
    known.write_text(f"[127.0.0.1]:{listed.port} {listed.host_key}\n")
    strict = {"VASTPROXY_TUNNELS__HOST_KEYS": "strict", "VASTPROXY_TUNNELS__KNOWN_HOSTS": str(known)}
    proxy = await scene.serve(healthy=1, **strict)
    row = await proxy.wait_backend(102, lambda row: "HOST KEY NOT LISTED" in (row["error"] or ""))
    assert {served_by(await ask(proxy)) for _ in range(3)} == {101}
    assert scene.machines[102].sshd.log.count("Accepted publickey") == 0
    remedy = re.search(r"add it with: (ssh-keyscan .*)$", row["error"])
    assert remedy is not None, row["error"]
    ran = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", remedy[1]],
        capture_output=True,
        timeout=20,
        env={"PATH": os.environ["PATH"]},
    )
    assert ran.returncode == 0, ran.stderr
    await proxy.wait_healthy(2)
    assert served_by(await ask(proxy, pin=102)) == 102
    assert not (scene.directory / "state" / "host_keys.json").exists()


async def test_a_machine_that_learns_our_key_later_is_served_then_and_nobody_is_warned(scene: Scene) -> None:
    """A new instance hands out keys late. Meanwhile `vastproxy status` has the command that would attach ours."""
    await scene.rent(101)
    machine = scene.machines[101]
    machine.sshd.authorize()
    proxy = await scene.serve(healthy=0)
    row = await proxy.wait_backend(101, lambda row: "does not accept our key yet" in (row["error"] or ""))
    hint = 'attach it with: vastai attach ssh 101 "$(cat ~/id_ed25519.pub)"'
    assert hint in row["error"]
    table = await told(scene, proxy)
    assert "".join(hint.split()) in "".join(table.split())
    async with asyncio.timeout(30):
        while machine.sshd.log.count("by authenticating user") < 4:  # it is tried again and again
            await asyncio.sleep(0.05)
    machine.sshd.authorize(scene.key_path)
    await proxy.wait_healthy(1)
    assert served_by(await ask(proxy)) == 101
    assert proxy.lines(" warning ") == proxy.lines(" error ") == []


async def told(scene: Scene, proxy: ProxyProcess) -> str:
    """What `vastproxy status` shows of a proxy that serves nothing yet."""
    status = ProxyProcess(scene.directory, arguments=("status", proxy.url))
    assert await status.run() == 1
    status.check_output()
    return status.stdout
