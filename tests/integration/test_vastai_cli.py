"""vast.ai's own command line, unchanged, against the simulated account: proof that the account is played well.

It ends with exit code 0 whatever happens, so its output and the account's state are what is looked at.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from vastproxy.simulator.contract import Phase
from vastproxy.simulator.faults import Fault
from vastproxy.simulator.prices import ask_for_more
from vastproxy.simulator.simulation import Simulation
from vastproxy.vastai import VastClient, VastConfig

VASTAI = Path(sys.executable).with_name("vastai")
LIMIT_S = 30.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

Cli = Callable[..., Awaitable[tuple[str, str]]]

pytestmark = pytest.mark.skipif(not VASTAI.exists(), reason="the official vastai package is not installed")


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with Simulation(instances=0, rate_limits=False) as simulation:
        yield simulation


def cli_for(sim: Simulation, home: Path) -> Cli:
    """Runs one command; what it wrote to stdout and stderr."""

    async def run(*words: str, key: str | None = None) -> tuple[str, str]:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "VAST_URL": sim.url,
            "VAST_API_KEY": key or sim.api_key,
            "VASTAI_NO_UPDATE_CHECK": "1",
            "COLUMNS": "240",
        }
        process = await asyncio.create_subprocess_exec(
            str(VASTAI),
            *words,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(LIMIT_S):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode == 0
        assert b"Traceback" not in err
        return _COLOUR.sub("", out.decode()), _COLOUR.sub("", err.decode())

    return run


@pytest.fixture
def cli(sim: Simulation, tmp_path: Path) -> Cli:
    return cli_for(sim, tmp_path)


def listed(sim: Simulation) -> int:
    """How many pages of the list were read."""
    return sum(call.path == "/api/v1/instances/" for call in sim.account.calls)


async def test_show_instances(sim: Simulation, cli: Cli) -> None:
    sim.account.add(label="research", gpu="H100 SXM", num_gpus=8)
    sim.account.add(phase=Phase.STOPPED)
    out, _ = await cli("show", "instances")
    assert "Total: 2 instances" in out
    assert "8x H100 SXM" in out
    assert "research" in out
    assert "exited" in out
    quiet, _ = await cli("show", "instances", "-q")
    assert [int(line) for line in quiet.split()] == [contract.id for contract in sim.account.contracts]


async def test_show_instances_reads_every_page(sim: Simulation, cli: Cli) -> None:
    """Thirty instances come in two pages and are printed as one array."""
    for i in range(30):
        sim.account.add(label=f"n{i}", phase=Phase.RUNNING if i % 2 else Phase.STOPPED)
    out, _ = await cli("show", "instances", "--raw")
    rows = json.loads(out)
    assert [row["id"] for row in rows] == [contract.id for contract in sim.account.contracts]
    assert rows[0]["public_ipaddr"] == rows[0]["public_ipaddr"].strip()
    assert rows[0]["extra_env"]["MODEL_NAME"] == "Qwen/Qwen3-8B"
    assert listed(sim) == 2


async def test_show_instances_filters(sim: Simulation, cli: Cli) -> None:
    sim.account.add(label="a")
    wanted = sim.account.add(label="b", gpu="L40S")
    for words in (["--label", "b"], ["--gpu-name", "L40S"]):
        out, _ = await cli("show", "instances", "--raw", *words)
        assert [row["id"] for row in json.loads(out)] == [wanted.id], words


async def test_it_waits_out_the_rate_limit_when_told_how_long(sim: Simulation, cli: Cli) -> None:
    """Two pages in a row break the limit of one call a second; with Retry-After the CLI comes back in time."""
    for _ in range(26):
        sim.account.add()
    sim.account.limits.enabled = sim.account.limits.retry_after = True
    out, _ = await cli("show", "instances", "--raw")
    assert len(json.loads(out)) == 26
    assert listed(sim) >= 3


async def test_show_instance(sim: Simulation, cli: Cli) -> None:
    contract = sim.account.add(label="llm")
    out, _ = await cli("show", "instance", str(contract.id), "--raw")
    row = json.loads(out)
    assert (row["id"], row["label"], row["actual_status"]) == (contract.id, "llm", "running")
    table, _ = await cli("show", "instance", str(contract.id))
    assert "RTX_4090" in table
    gone, _ = await cli("show", "instance", "1", "--raw")
    assert json.loads(gone) == {"instances": None}


async def test_label(sim: Simulation, cli: Cli) -> None:
    contract = sim.account.add()
    out, _ = await cli("label", "instance", str(contract.id), "proxied")
    assert f"label for {contract.id} set to proxied" in out
    assert contract.label == "proxied"


async def test_stop_and_start(sim: Simulation, cli: Cli) -> None:
    contract = sim.account.add()
    out, _ = await cli("stop", "instance", str(contract.id))
    assert f"stopping instance {contract.id}." in out
    assert contract.row["actual_status"] == "exited"
    out, _ = await cli("start", "instance", str(contract.id))
    assert f"starting instance {contract.id}." in out
    assert contract.row["actual_status"] == "running"
    other = sim.account.add()
    await cli("stop", "instances", str(contract.id), str(other.id))
    assert {contract.phase, other.phase} == {Phase.STOPPED}
    sim.account.gpus_free = False
    out, err = await cli("start", "instance", str(contract.id))
    assert "currently unavailable" in out + err
    assert contract.row["actual_status"] == "exited"
    assert contract.row["intended_status"] == "running"


async def test_reboot_recycle_and_bid(sim: Simulation, cli: Cli) -> None:
    contract = sim.account.add(phase=Phase.STOPPED, is_bid=True)
    await cli("reboot", "instance", str(contract.id))
    assert contract.phase is Phase.RUNNING
    contract.enter(Phase.STOPPED)
    await cli("recycle", "instance", str(contract.id))
    assert contract.phase is Phase.RUNNING
    await cli("change", "bid", str(contract.id), "--price", "0.41")
    assert contract.row["dph_base"] == 0.41


async def test_price_rises(sim: Simulation, cli: Cli) -> None:
    """Shown, accepted, rejected; ours are the same."""
    first, second = sim.account.add(dph_base=0.72, num_gpus=2), sim.account.add()
    end = first.row["end_date"]
    for contract in (first, second):
        ask_for_more(contract, 0.45, now=sim.account.clock())
    out, _ = await cli("show", "pending-price-increases")
    assert str(first.id) in out
    assert "0.3600_->_0.4500" in out
    with VastClient(VastConfig(api_key=sim.api_key, url=sim.url)) as vast:
        rises = await asyncio.to_thread(vast.price_rises)
    assert [rise.instance_id for rise in rises] == [first.id, second.id]
    assert (rises[0].old_dollars_per_hour, rises[0].new_dollars_per_hour) == (0.36, 0.45)
    await cli("accept", "price-increase", str(first.id), "--yes")
    await cli("reject", "price-increase", str(second.id), "--yes")
    assert first.row["end_date"] == rises[0].new_end > end
    out, _ = await cli("show", "pending-price-increases")
    assert "No pending price increases." in out


async def test_destroy(sim: Simulation, cli: Cli) -> None:
    contract, kept = sim.account.add(), sim.account.add()
    out, _ = await cli("destroy", "instance", str(contract.id), "-y")
    assert f"destroying instance {contract.id}." in out
    assert sim.account.contracts == [kept]
    out, err = await cli("destroy", "instance", str(contract.id), "-y")
    assert "not found" in out + err
    more = sim.account.add()
    await cli("destroy", "instances", str(kept.id), str(more.id), "-y")
    assert sim.account.contracts == []


async def test_show_user_has_no_key(sim: Simulation, cli: Cli) -> None:
    out, _ = await cli("show", "user", "--raw")
    user = json.loads(out)
    assert user["credit"] == sim.account.user["credit"]
    assert sim.api_key not in out


async def test_search_offers(sim: Simulation, cli: Cli) -> None:
    query = "gpu_name=RTX_4090 num_gpus=1 gpu_ram>=24 reliability>0.98 duration>=2"
    out, _ = await cli("search", "offers", query, "-o", "dph", "--limit", "5", "--raw")
    offers: list[dict[str, Any]] = json.loads(out)
    assert offers
    assert {(offer["gpu_name"], offer["num_gpus"]) for offer in offers} == {("RTX 4090", 1)}
    table, _ = await cli("search", "offers", "num_gpus=8")
    assert "H100_SXM" in table


async def test_create_instance(sim: Simulation, cli: Cli) -> None:
    """The CLI rents an offer, and a machine with the image's engine comes up."""
    words = ["--image", "vastai/sglang:latest", "--disk", "40", "--ssh", "--direct", "--label", "new"]
    out, _ = await cli("create", "instance", "5551", *words, "--raw")
    contract = sim.account.contract(json.loads(out)["new_contract"])
    assert contract.label == "new"
    async with asyncio.timeout(LIMIT_S):
        while contract.phase is not Phase.RUNNING:
            await asyncio.sleep(0.01)
    _, err = await cli("create", "instance", "5551", *words)
    assert "no longer available" in err


async def test_ssh_keys_and_logs(sim: Simulation, cli: Cli) -> None:
    contract = sim.account.add()
    out, _ = await cli("show", "ssh-keys", "--raw")
    assert json.loads(out)[0]["key"].startswith("ssh-ed25519 ")
    await cli("attach", "ssh", str(contract.id), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI u@h")
    assert contract.keys[-1].text.endswith(" u@h")
    contract.log.append("server started")
    out, _ = await cli("logs", str(contract.id), "--tail", "5")
    assert "server started" in out


async def test_a_wrong_key_is_told(sim: Simulation, cli: Cli) -> None:
    _, err = await cli("show", "instances", "--raw", key="wrong")
    assert "401" in err
    assert "Invalid user key" in err


async def test_an_api_that_fails_is_told(sim: Simulation, cli: Cli) -> None:
    """All three tries of the CLI meet the limit; it says so, in the shape it uses for programs."""
    await cli("show", "user", "--raw")
    sim.account.faults.always(Fault.RATE_LIMIT_TEXT, path="/api/v1/instances/")
    _, err = await cli("show", "instances", "--raw")
    assert "429" in err
    assert listed(sim) == 3


async def test_ssh_url_is_the_direct_address_or_the_relay_by_the_rule(tmp_path: Path) -> None:
    """What the CLI prints is where the machine really listens, on both paths."""
    async with Simulation(instances=2, rate_limits=False) as sim:
        cli = cli_for(sim, tmp_path)
        for machine in sim.instances:
            out, _ = await cli("ssh-url", str(machine.id))
            assert out.strip() == f"ssh://root@127.0.0.1:{machine.direct.port}"
        # Without a mapped port 22 the relay is left; the second instance runs Jupyter.
        relayed = cli_for(sim, tmp_path / "other")
        for machine in sim.instances:
            machine.contract.row["ports"] = {}
            out, _ = await relayed("ssh-url", str(machine.id))
            assert out.strip() == f"ssh://root@127.0.0.1:{machine.relay.port}"
