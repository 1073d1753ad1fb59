"""Price rises that a host asks for: an instance whose renter accepts goes on at the new price after its contract's end.

Shapes: vast.ai's command line 1.9.1, `show pending-price-increases` and `accept price-increase`.
"""

from collections.abc import Iterable

from vastproxy.simulator.contract import Contract
from vastproxy.simulator.errors import Refusal, invalid_args
from vastproxy.simulator.payloads import JsonObject

_S_PER_HOUR = 3600.0
_DAY_S = 86_400.0


def ask_for_more(contract: Contract, dollars_per_hour: float, *, now: float, days: float = 30.0) -> None:
    """The host wants this for each GPU, and offers to go on for `days` after the contract's end."""
    end = contract.row.get("end_date") or now
    gpus = int(contract.row.get("num_gpus") or 1)
    contract.rise = {
        "pending_price_increase_id": contract.id % 100_000,
        "contract_id": contract.id,
        "host_id": contract.row.get("host_id"),
        "new_gpu_costpersec": dollars_per_hour / _S_PER_HOUR,
        "new_disk_ram_costpersec": None,
        "new_bwu_cost": None,
        "new_bwd_cost": None,
        "new_platform_fee": None,
        "old_gpu_costpersec": float(contract.row["dph_base"]) / gpus / _S_PER_HOUR,
        "old_disk_ram_costpersec": None,
        "old_bwu_cost": None,
        "old_bwd_cost": None,
        "old_platform_fee": None,
        "contract_end_date": contract.row.get("end_date"),
        "ask_end_date": end + days * _DAY_S,
        "created_at": now,
    }


def pending(contracts: Iterable[Contract]) -> JsonObject:
    """What the API lists of them."""
    rows = [contract.rise for contract in contracts if contract.rise is not None]
    return {"success": True, "count": len(rows), "truncated": False, "pending_price_increases": rows}


def answer(contracts: Iterable[Contract], body: JsonObject, *, accepts: bool) -> JsonObject:
    """Accept one, so that the contract ends later, or reject it. Raises Refusal when it does not wait any more."""
    if list(body) != ["pending_price_increase_id"]:
        raise invalid_args("expected pending_price_increase_id and nothing else")
    number = body["pending_price_increase_id"]
    for contract in contracts:
        rise = contract.rise
        if rise is None or rise["pending_price_increase_id"] != number:
            continue
        contract.rise = None
        if accepts:
            contract.row["end_date"] = rise["ask_end_date"]
        return {"success": True, "pending_price_increase_id": number, "contract_id": contract.id}
    raise Refusal(404, "no_pending_price_increase", "This price increase does not wait for an answer.")
