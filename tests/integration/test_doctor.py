"""`vastproxy doctor` as users start it, before real machines (sshd, engines, GPUs), on a good day and on bad ones."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.scene import Scene, open_scene
from tests.helpers.sshd import make_key
from tests.helpers.vastapi import Fault
from vastproxy.simulator.simulation import Simulation

pytestmark = pytest.mark.timeout(120)

NO_PROXY = {"LISTEN_ADDR": "127.0.0.1:1"}
ID = 101


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """An account that knows our key, without machines."""
    async with open_scene(tmp_path) as scene:
        scene.api.account.add_key(scene.key_path.with_suffix(".pub").read_text())
        yield scene


class Findings:
    """What one run has found."""

    def __init__(self, code: int, document: Mapping[str, Any]) -> None:
        self.code = code
        self.checks: list[dict[str, Any]] = document["checks"]
        for check in self.checks:
            assert bool(check["fix"]) == (check["verdict"] in ("warn", "fail")), check
        assert document["exit_code"] == code

    def of(self, id: str, instance: int | None = None) -> dict[str, Any]:
        """The first check of this kind."""
        return next(one for one in self.checks if one["id"] == id and one["instance"] == instance)

    def not_ok(self) -> dict[str, str]:
        """All kinds of checks that are not simply fine, with the verdict."""
        return {one["id"]: one["verdict"] for one in self.checks if one["verdict"] not in ("ok", "skip")}


def kept(directory: Path) -> dict[str, bytes]:
    """What is in a directory."""
    return {path.name: path.read_bytes() for path in directory.glob("*.json")}


async def doctor(scene: Scene, *arguments: str, key: Path | None = None, **env: str) -> Findings:
    """Run it. It must leave no trace: nothing is kept, and nothing but reading is asked of vast.ai."""
    asked, before = len(scene.api.requests), kept(scene.directory / "state")
    run = ProxyProcess(
        scene.directory,
        api=scene.api,
        key_path=key or scene.key_path,
        env={"VASTPROXY_ENGINES__DETECT_TIMEOUT_S": "3", **NO_PROXY, **env},
        arguments=("doctor", "--json", *arguments),
        secrets=[machine.token for machine in scene.machines.values()],
    )
    code = await run.run(limit_s=60)
    run.check_output()
    assert {one.method for one in scene.api.requests[asked:]} <= {"GET"}
    assert kept(scene.directory / "state") == before
    return Findings(code, json.loads(run.stdout))


async def test_a_good_day(scene: Scene) -> None:
    """Two machines, both ways open: every check is fine, down to a token from each engine."""
    await scene.rent(101, 102)
    for machine in scene.machines.values():
        await machine.start_relay()
    scene.show()
    found = await doctor(scene, "--deep")
    assert (found.code, found.not_ok()) == (0, {})
    for id in (101, 102):
        assert "relay" in found.of("host_key", id)["detail"]
        assert found.of("engine_token", id)["detail"] == "asked for, and ours is accepted"
        assert found.of("completion", id)["detail"].startswith("a token of m after ")
    assert "sglang on port" in found.of("engine", 101)["detail"]
    assert found.of("models", 102)["detail"] == "m, model-102"
    assert os.listdir(scene.directory).count("state") == 0


async def test_no_key_of_vast_ai(scene: Scene) -> None:
    await scene.rent(ID)
    found = await doctor(scene, VAST_API_KEY="")
    assert (found.code, found.not_ok()) == (2, {"api_key": "fail"})


async def test_a_wrong_key(scene: Scene) -> None:
    found = await doctor(scene, VAST_API_KEY="not-a-key")
    assert (found.code, found.not_ok()) == (3, {"key_valid": "fail"})


async def test_the_key_of_another_account(scene: Scene) -> None:
    """It is accepted, but that account has neither the instance that was meant nor our SSH key."""
    scene.api.account.keys.clear()
    scene.api.account.user["ssh_key"] = ""
    found = await doctor(scene, str(ID))
    assert (found.code, found.not_ok()) == (1, {"ssh_key_registered": "fail", "instances": "fail"})


async def test_an_ssh_key_that_nobody_knows(scene: Scene, tmp_path: Path) -> None:
    await scene.rent(ID)
    stranger = make_key(tmp_path / "stranger")
    found = await doctor(scene, key=stranger)
    assert (found.code, found.not_ok()) == (
        1,
        {"ssh_key_registered": "warn", "direct_path": "fail", "relay_path": "warn"},
    )
    path = found.of("direct_path", ID)
    assert "does not accept the key" in path["detail"]
    assert f'vastai attach ssh {ID} "$(cat ~/stranger.pub)"' in path["fix"]


async def test_a_passphrase_that_is_not_known(scene: Scene, tmp_path: Path) -> None:
    await scene.rent(ID)
    locked = make_key(tmp_path / "locked", passphrase="secret words")
    found = await doctor(scene, key=locked)
    assert (found.code, found.not_ok()) == (2, {"ssh_key": "fail"})
    opened = await doctor(scene, key=locked, VASTPROXY_TUNNELS__KEY_PASSPHRASE="secret words")
    assert opened.not_ok().get("ssh_key") is None


async def test_an_instance_that_is_loading(scene: Scene) -> None:
    await scene.rent(ID)
    scene.api.change(ID, actual_status="loading", ports=None)
    found = await doctor(scene)
    assert (found.code, found.not_ok()) == (0, {"state": "warn", "instances": "warn"})
    assert "--daemon" in found.of("state", ID)["fix"]


async def test_a_host_key_that_has_changed(scene: Scene) -> None:
    """After a proxy has pinned the key, another one is a failure that says how to accept it; looking does not."""
    await scene.rent(ID)
    machine = scene.machines[ID]
    async with ProxyProcess(scene.directory, api=scene.api, key_path=scene.key_path) as proxy:
        await proxy.wait_healthy(1)
    pinned = await doctor(scene)
    assert "as pinned since" in pinned.of("host_key", ID)["detail"]
    await machine.stop_sshd()
    machine.sshd.new_host_key()
    await machine.start_sshd()
    found = await doctor(scene)
    assert found.code == 1
    assert found.not_ok()["host_key"] == found.not_ok()["direct_path"] == "fail"
    assert "HOST KEY CHANGED" in found.of("host_key", ID)["detail"]
    assert f"vastproxy trust {ID}" in found.of("host_key", ID)["fix"]
    assert not [one for one in found.checks if one["id"] == "engine"]


async def test_no_engine_and_one_that_wants_another_token(scene: Scene) -> None:
    await scene.rent(101, 102)
    await scene.machines[101].engine.stop()
    scene.api.change(102, jupyter_token="another")
    found = await doctor(scene)
    assert found.code == 1
    assert found.of("engine", 101)["verdict"] == "fail"
    assert "vastproxy logs 101" in found.of("engine", 101)["fix"]
    assert found.of("engine_token", 102)["verdict"] == "fail"
    assert "engines.api_key" in found.of("engine_token", 102)["fix"]


async def test_only_the_relay(scene: Scene) -> None:
    """The direct port is shut: a warning, and the inside is seen all the same."""
    await scene.rent(ID)
    machine = scene.machines[ID]
    await machine.start_relay()
    await machine.stop_sshd()
    scene.show()
    found = await doctor(scene)
    assert (found.code, found.not_ok()) == (0, {"direct_path": "warn"})
    assert found.of("engine", ID)["verdict"] == "ok"


async def test_both_ways_shut(scene: Scene) -> None:
    await scene.rent(ID)
    await scene.machines[ID].stop_sshd()
    found = await doctor(scene)
    assert (found.code, found.of("direct_path", ID)["verdict"]) == (1, "fail")
    assert "refuses connections" in found.of("direct_path", ID)["detail"]


async def test_an_sshd_that_hangs_is_told_from_a_firewall(scene: Scene) -> None:
    """TCP connects, and nothing else happens: bounded, and said so."""
    await scene.rent(ID)
    sshd = scene.machines[ID].sshd
    sshd.freeze()
    try:
        found = await doctor(scene, VASTPROXY_TUNNELS__CONNECT_TIMEOUT_S="1")
    finally:
        sshd.thaw()
    path = found.of("direct_path", ID)
    assert (found.code, path["verdict"]) == (1, "fail")
    assert path["detail"].startswith("TCP ")
    assert "did not complete an SSH login within 1 s" in path["detail"]


async def test_vast_ai_is_down(scene: Scene) -> None:
    scene.api.faults.always(Fault.BAD_GATEWAY_HTML)
    found = await doctor(scene)
    assert (found.code, found.not_ok()) == (1, {"key_valid": "fail"})


async def test_a_proxy_that_runs_is_looked_at_too(scene: Scene) -> None:
    await scene.rent(ID)
    proxy = await scene.serve(VASTPROXY_LABEL="none")  # its label would be a change that is not ours
    found = await doctor(scene, LISTEN_ADDR=f"127.0.0.1:{proxy.port}")
    assert found.of("proxy")["detail"].endswith("1 of 1 backends can serve")
    assert [found.of(id)["verdict"] for id in ("proxy", "proxy_version", "proxy_key")] == ["ok"] * 3


async def test_the_simulated_account(tmp_path: Path) -> None:
    """The demo's account: every engine and both of its paths, and a crash is told."""
    async with Simulation(instances=3, rate_limits=False) as sim:
        env = {
            **NO_PROXY,
            "VAST_URL": sim.url,
            "VAST_API_KEY": sim.api_key,
            "SSH_KEY_PATH": str(sim.ssh_key_path),
            # Its engines are behind sockets of their own, so the usual ports are meant.
            "VASTPROXY_ENGINES__PORTS": "18000,8000",
        }
        run = ProxyProcess(tmp_path, env=env, arguments=("doctor",))
        assert await run.run(limit_s=60) == 0, run.output
        for kind in ("sglang", "vllm 0.11.0", "llamacpp"):
            assert f"ok    engine          {kind} on port" in run.stdout
        assert run.stdout.count("ok    relay path") == 3
        assert "\x1b" not in run.stdout
        await sim.instances[0].die()
        again = ProxyProcess(tmp_path, env=env, arguments=("doctor", str(sim.instances[0].id)))
        assert await again.run(limit_s=60) == 1
        assert "its container has ended although it should run" in again.stdout
