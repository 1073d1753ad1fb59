"""Rows have what the real ones have."""

import json
from pathlib import Path
from typing import Any

import pytest

from vastproxy.simulator.contract import Contract, Phase
from vastproxy.simulator.payloads import environment, instance_row, offer_row, user_row

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "vastai"


def load(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


def kinds(row: dict[str, Any]) -> dict[str, type]:
    number = {int: float, float: float}
    return {name: number.get(type(value), type(value)) for name, value in row.items() if value is not None}


def test_an_instance_has_every_field_of_the_real_one_and_of_its_kind() -> None:
    real = load("instance_running_direct.json")["instances"]
    contract = Contract(instance_row(1))
    contract.enter(Phase.RUNNING)
    mine = contract.view(0.0)
    assert set(mine) == set(real)
    shared = kinds(mine).keys() & kinds(real).keys()
    assert {name: kinds(mine)[name] for name in shared} == {name: kinds(real)[name] for name in shared}


@pytest.mark.parametrize(
    ("phase", "fixture"),
    [
        (Phase.PROVISIONING, "instance_provisioning_null.json"),
        (Phase.RUNNING, "instance_running_direct.json"),
        (Phase.LOADING, "instance_loading.json"),
        (Phase.REBOOTING, "instance_rebooting.json"),
        (Phase.CRASHED, "instance_exited_intended_running.json"),
        (Phase.OUTBID, "instance_outbid.json"),
        (Phase.OFFLINE, "instance_offline.json"),
    ],
)
def test_phases_are_told_in_the_words_of_the_real_api(phase: Phase, fixture: str) -> None:
    real = load(fixture)["instances"]
    contract = Contract(instance_row(1))
    contract.enter(phase)
    words = ("actual_status", "intended_status", "cur_state", "next_state")
    assert [contract.row[word] for word in words] == [real[word] for word in words]


def test_an_offer_has_the_fields_of_the_real_one() -> None:
    real = load("search_offers.json")["offers"][0]
    assert set(real) <= set(offer_row(1, gpu="L40S"))


def test_the_user_has_the_fields_of_the_real_one() -> None:
    assert set(user_row()) == set(load("user_current.json"))


def test_ipv6_comes_first_and_ports_are_texts() -> None:
    first, second = instance_row(1)["ports"]["22/tcp"]
    assert first["HostIp"] == "::"
    assert first["HostPort"] == second["HostPort"]
    assert isinstance(first["HostPort"], str)


def test_the_address_ends_in_a_newline() -> None:
    assert instance_row(1)["public_ipaddr"].endswith("\n")


def test_the_remaining_time_shrinks() -> None:
    contract = Contract(instance_row(1, start_date=100.0))
    assert contract.view(200.0)["duration"] == contract.view(100.0)["duration"] - 100
    assert contract.view(1e12)["duration"] == 0
    contract.row["end_date"] = None
    assert "duration" in contract.view(0)


def test_a_plain_image_has_no_engine_environment() -> None:
    assert environment(None, "m") == []
    assert ["OLLAMA_MODEL", "m"] in environment("ollama", "m")
    assert instance_row(1, engine=None)["template_name"] is None
