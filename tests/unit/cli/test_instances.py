"""`vastproxy instances`, asked of an HTTP server that answers as vast.ai does."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.cli.conftest import Answers, Peer, Run
from vastproxy.cli.instances import hindrance, summary
from vastproxy.settings.model import FleetSettings, Selector
from vastproxy.vastai import Instance
from vastproxy.vastai.errors import VastUnauthorized

TOKEN = "jupyter-s3cr3t"
RUNNING = {
    "id": 101,
    "actual_status": "running",
    "intended_status": "running",
    "cur_state": "running",
    "next_state": "running",
    "gpu_name": "H100 SXM",
    "num_gpus": 8,
    "image_uuid": "lmsysorg/sglang:v0.5.2-cu126-a-very-long-tag-that-does-not-fit",
    "image_runtype": "ssh_direc",
    "label": "prod\x1b[31m",
    "jupyter_token": TOKEN,
    "public_ipaddr": "203.0.113.7\n",
    "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "41022"}]},
    "ssh_host": "ssh4.vast.ai",
    "ssh_port": 12345,
    "dph_total": 12.5,
}
RELAYED = {**RUNNING, "id": 102, "ports": None, "label": None, "template_name": "SGLang", "dph_total": 1}
STOPPED = {
    **RUNNING,
    "id": 103,
    "actual_status": "exited",
    "intended_status": "stopped",
    "cur_state": "stopped",
}
ENTRYPOINT = {**RUNNING, "id": 104, "image_runtype": "args"}
ADDRESSLESS = {**RUNNING, "id": 105, "ports": None, "ssh_host": None}

StartPeer = Callable[[Answers], Peer]


def account(*rows: dict[str, Any]) -> Answers:
    answer = {
        "success": True,
        "instances_found": len(rows),
        "total_instances": len(rows),
        "instances": list(rows),
    }
    return {"/api/v1/instances/": (200, {**answer, "next_token": None})}


def environ(peer: Peer, **more: str) -> dict[str, str]:
    return {
        "VAST_URL": peer.url,
        "VAST_API_KEY": "k3y",
        "VASTPROXY_VAST__MIN_INTERVAL_SCALE": "0",
        "VASTPROXY_VAST__RETRIES__ATTEMPTS": "1",
        **more,
    }


def test_the_table_fits_a_terminal_and_shows_what_matters(run: Run, peer: StartPeer) -> None:
    vast = peer(account(RUNNING, RELAYED, STOPPED))
    result = run("instances", **environ(vast))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[:8] == ["101", "running", "8x", "H100", "SXM", "12.500", "direct", "yes"]
    assert any(
        line.split()[:8] == ["102", "running", "8x", "H100", "SXM", "1.000", "relay", "yes"] for line in lines
    )
    assert "SGLang" in result.output
    assert lines[-1] == "3 instances, $26.000 per hour; 1 stopped not shown (--all shows them)"
    assert "\x1b" not in result.output
    assert TOKEN not in result.output
    assert "k3y" not in result.output
    assert {authorization for _, authorization in vast.seen} == {"Bearer k3y"}


def test_all_shows_stopped_ones_too(run: Run, peer: StartPeer) -> None:
    result = run("instances", "--all", **environ(peer(account(RUNNING, STOPPED))))
    assert "103 stopped" in " ".join(result.output.split())
    assert "not running" in result.output
    assert "--all" not in result.output


def test_json_is_a_list_without_secrets(run: Run, peer: StartPeer) -> None:
    vast = peer(account(RUNNING, STOPPED))
    result = run("instances", "--json", **environ(vast, VASTPROXY_FLEET__EXCLUDE__IDS="101"))
    [row] = json.loads(result.output)
    assert (row["id"], row["serves"], row["why_not"]) == (101, False, "excluded by id 101")
    assert row["direct_ssh"] == ["203.0.113.7", 41022]
    assert TOKEN not in result.output


def test_no_instance_says_so_with_a_hint(run: Run, peer: StartPeer) -> None:
    result = run("instances", **environ(peer(account())))
    assert result.exit_code == 0
    assert "no instances on the account of the key from VAST_API_KEY" in result.output
    assert "https://cloud.vast.ai/" in result.output
    assert json.loads(run("instances", "--json", **environ(peer(account()))).output) == []


def test_rows_that_cannot_be_read_are_counted(run: Run, peer: StartPeer) -> None:
    result = run("instances", **environ(peer(account(RUNNING, {"id": None}))))
    assert "1 more could not be read" in result.output


def test_a_refused_key_is_an_error_of_its_own(run: Run, peer: StartPeer) -> None:
    vast = peer(
        {"/api/v1/instances/": (401, {"success": False, "error": "auth_error", "msg": "Invalid user key"})}
    )
    error = run("instances", **environ(vast)).exception
    assert isinstance(error, VastUnauthorized)
    assert error.exit_code == 3


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (RUNNING, None),
        (RELAYED, None),
        (STOPPED, "not running"),
        (ENTRYPOINT, "no sshd in it (runtype args)"),
        (ADDRESSLESS, "no SSH address yet"),
    ],
)
def test_why_an_instance_would_not_be_served(row: dict[str, Any], why: str | None) -> None:
    instance = Instance.from_json(row)
    assert instance is not None
    assert hindrance(instance, FleetSettings()) == why
    assert hindrance(instance, FleetSettings(include=Selector(ids=(1,)))) == "not among fleet.include"


def test_the_summary_counts_what_is_listed() -> None:
    one = Instance(id=1, hourly_cost=0.25)
    assert summary([one], 1, "x") == "1 instance, $0.250 per hour"
