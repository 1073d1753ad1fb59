"""What the account's owner may do, and what becomes of it."""

from typing import Any

import pytest

from vastproxy.simulator.account import Account
from vastproxy.simulator.contract import Contract, Phase, Verb
from vastproxy.simulator.errors import Refusal

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI someone@somewhere"


class FakeMachine:
    def __init__(self) -> None:
        self.asked: list[Verb] = []

    def requested(self, verb: Verb) -> None:
        self.asked.append(verb)


@pytest.fixture
def account() -> Account:
    return Account(api_key="key", clock=lambda: 1_786_300_000.0)


def with_machine(account: Account, **options: Any) -> tuple[Contract, FakeMachine]:
    contract, machine = account.add(**options), FakeMachine()
    contract.machine = machine
    return contract, machine


def triple(contract: Contract) -> tuple[Any, ...]:
    return tuple(contract.row[name] for name in ("actual_status", "intended_status", "cur_state"))


def refused(call: Any, *arguments: Any) -> tuple[int, str]:
    with pytest.raises(Refusal) as refusal:
        call(*arguments)
    return refusal.value.http_status, refusal.value.body["error"]


async def test_ids_are_unique_whatever_ids_are_given(account: Account) -> None:
    ids = [account.add().id, account.add(id=7).id, account.add(id=60_000_000).id, account.add().id]
    assert len(set(ids)) == 4
    assert [contract.id for contract in account.contracts] == ids
    assert account.row(7)["id"] == 7  # type: ignore[index]
    assert account.row(8) is None


async def test_fields_override_the_row(account: Account) -> None:
    contract = account.add(label="llm", gpu_temp=99.0, extra_env=None)
    row = account.row(contract.id)
    assert row is not None
    assert (row["label"], row["gpu_temp"], row["extra_env"]) == ("llm", 99.0, None)


async def test_rows_are_copies(account: Account) -> None:
    contract = account.add()
    account.rows()[0]["search"]["totalHour"] = -1
    assert contract.row["search"]["totalHour"] > 0


async def test_the_repr_has_no_secret(account: Account) -> None:
    account.add()
    assert "key=" not in repr(account)
    assert repr(account) == "<Account instances=1 keys=0>"


async def test_label(account: Account) -> None:
    contract = account.add()
    account.set_label(contract.id, "proxied")
    assert contract.label == "proxied"
    assert refused(account.set_label, contract.id, "x" * 1025) == (400, "invalid_args")
    assert refused(account.set_label, contract.id, None) == (400, "invalid_args")
    assert refused(account.set_label, 1, "x") == (404, "no_such_instance")


async def test_without_a_machine_states_change_at_once(account: Account) -> None:
    contract = account.add()
    assert account.set_state(contract.id, "stopped") == {"success": True}
    assert triple(contract) == ("exited", "stopped", "stopped")
    assert contract.row["ports"] == {}
    assert contract.row["instance"]["gpuCostPerHour"] == 0
    account.set_state(contract.id, "running")
    assert triple(contract) == ("running", "running", "running")
    assert refused(account.set_state, contract.id, "paused") == (400, "invalid_args")


async def test_a_machine_is_asked_and_reports_later(account: Account) -> None:
    contract, machine = with_machine(account)
    account.set_state(contract.id, "stopped")
    assert triple(contract) == ("running", "stopped", "running")
    account.restart(contract.id, Verb.REBOOT)
    account.restart(contract.id, Verb.RECYCLE)
    account.destroy(contract.id)
    assert machine.asked == [Verb.STOP, Verb.REBOOT, Verb.RECYCLE, Verb.DESTROY]
    assert account.contracts == []
    assert refused(account.destroy, contract.id) == (404, "no_such_instance")


async def test_a_start_without_a_free_gpu_is_queued(account: Account) -> None:
    """HTTP 200, success false, and the intention is kept."""
    contract, machine = with_machine(account, phase=Phase.STOPPED)
    account.gpus_free = False
    answer = account.set_state(contract.id, "running")
    assert answer["success"] is False
    assert answer["error"] == "resources_unavailable"
    assert triple(contract) == ("exited", "running", "stopped")
    assert machine.asked == []
    account.gpus_free = True
    assert account.set_state(contract.id, "running") == {"success": True}


async def test_an_outbid_instance_starts_when_the_bid_wins_again(account: Account) -> None:
    contract, machine = with_machine(account, phase=Phase.OUTBID, is_bid=True, min_bid=0.5, dph_base=0.3)
    assert contract.outbid
    assert account.set_state(contract.id, "running")["success"] is False
    account.change_bid(contract.id, 0.4)
    assert machine.asked == []
    account.change_bid(contract.id, 0.6)
    assert machine.asked == [Verb.START]
    assert not contract.outbid


@pytest.mark.parametrize("price", [0, 33, "1", None, True])
async def test_bids_have_a_range(account: Account, price: Any) -> None:
    assert refused(account.change_bid, account.add().id, price) == (400, "invalid_args")


async def test_renting_takes_the_offer(account: Account) -> None:
    body = {
        "image": "vastai/vllm:latest",
        "disk": 40.0,
        "label": "new",
        "env": {"-p 8000:8000": "1"},
        "price": 0.3,
    }
    contract = account.rent(5551, body | {"runtype": "ssh_proxy"})
    assert contract.engine == "vllm"
    assert contract.phase is Phase.RUNNING
    assert contract.row["is_bid"] is True
    assert contract.row["extra_env"] == [["-p 8000:8000", "1"]]
    assert (contract.label, contract.row["disk_space"]) == ("new", 40.0)
    assert contract.row["image_runtype"] == "ssh_proxy"
    assert refused(account.rent, 5551, body) == (410, "no_such_ask")
    assert refused(account.rent, 5552, {}) == (400, "invalid_args")


@pytest.mark.parametrize(
    ("image", "engine"),
    [
        ("lmsysorg/sglang:latest", "sglang"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda", "llamacpp"),
        ("ollama/ollama", "ollama"),
        ("ghcr.io/huggingface/text-generation-inference:3", "tgi"),
        ("ubuntu:24.04", None),
    ],
)
async def test_the_image_decides_the_engine(account: Account, image: str, engine: str | None) -> None:
    assert account.rent(5560, {"image": image}).engine == engine


async def test_a_template_is_enough_to_rent(account: Account) -> None:
    rented: list[Contract] = []
    account.on_rented = rented.append
    contract = account.rent(5551, {"template_hash_id": "abc"})
    assert rented == [contract]
    assert contract.phase is Phase.PROVISIONING
    assert contract.row["actual_status"] is None


async def test_account_keys_reach_new_instances_only(account: Account) -> None:
    old = account.add()
    key = account.add_key(KEY)
    new = account.add()
    assert old.keys == []
    assert new.keys == [key]
    assert key.material == ("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAI")
    attached = account.attach_key(old.id, KEY)
    assert old.keys == [attached]
    account.detach_key(old.id, attached.id)
    assert old.keys == []
    assert refused(account.detach_key, old.id, 1) == (404, "no_such_key")
    assert refused(account.add_key, "not a key") == (400, "invalid_args")
    assert account.key_row(key)["created_at"].startswith("2026-08-09T")


async def test_logs_are_ready_after_a_poll(account: Account) -> None:
    contract = account.add()
    contract.log.extend(["one", "two", "three"])
    name = account.request_log(contract.id, tail=2, pattern="t")
    assert account.take_log(name) is None
    assert account.take_log(name) == "two\nthree\n"
    assert account.take_log("nonsense") is None
    with pytest.raises(Refusal):
        account.request_log(contract.id, pattern="(")


async def test_logs_are_bounded(account: Account) -> None:
    account.log_polls = 0
    contract = account.add()
    names = [account.request_log(contract.id) for _ in range(150)]
    assert account.take_log(names[0]) is None
    assert account.take_log(names[-1]) is not None


async def test_filter_values_are_distinct(account: Account) -> None:
    for _ in range(3):
        account.add()
    account.add(gpu="H100 SXM", phase=Phase.PROVISIONING)
    assert account.filter_values() == [
        {"actual_status": "running", "verification": "verified", "gpu_name": "RTX 4090"},
        {"actual_status": None, "verification": "verified", "gpu_name": "H100 SXM"},
    ]
