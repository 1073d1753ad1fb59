"""Price rises of simulated hosts: asked for, listed, answered once."""

import pytest

from vastproxy.simulator.account import Account
from vastproxy.simulator.errors import Refusal
from vastproxy.simulator.prices import answer, ask_for_more, pending
from vastproxy.vastai.prices import rises_of


@pytest.fixture
def account() -> Account:
    account = Account(api_key="k")
    account.add(dph_base=0.72, num_gpus=2)
    account.add()
    return account


def test_what_is_listed_is_what_the_library_reads(account: Account) -> None:
    contract = account.contracts[0]
    assert rises_of(pending(account.contracts)) == ()
    ask_for_more(contract, 0.45, now=1_790_000_000.0, days=7)
    (rise,) = rises_of(pending(account.contracts))
    assert (rise.instance_id, rise.old_dollars_per_hour, rise.new_dollars_per_hour) == (
        contract.id,
        0.36,
        0.45,
    )
    assert rise.new_end == contract.row["end_date"] + 7 * 86_400
    assert rise.asked_at == 1_790_000_000.0


@pytest.mark.parametrize("accepts", [True, False])
def test_it_is_answered_once(account: Account, accepts: bool) -> None:
    contract = account.contracts[0]
    end = contract.row["end_date"]
    ask_for_more(contract, 0.45, now=1_790_000_000.0)
    (rise,) = rises_of(pending(account.contracts))
    body = {"pending_price_increase_id": rise.id}
    assert answer(account.contracts, body, accepts=accepts)["contract_id"] == contract.id
    assert (contract.row["end_date"] > end) is accepts
    with pytest.raises(Refusal) as refused:
        answer(account.contracts, body, accepts=accepts)
    assert (refused.value.http_status, refused.value.body["error"]) == (404, "no_pending_price_increase")


@pytest.mark.parametrize("body", [{}, {"id": 1}, {"pending_price_increase_id": 1, "more": 2}])
def test_an_answer_names_one_and_nothing_else(account: Account, body: dict[str, int]) -> None:
    with pytest.raises(Refusal) as refused:
        answer(account.contracts, body, accepts=True)
    assert refused.value.http_status == 400
