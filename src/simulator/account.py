"""The state of one simulated vast.ai account and what its owner may do with it. Pure: clocks are arguments.

Contracts with a machine behind them are asked and report later, as on vast.ai; contracts without one
(rows added by a test) change at once.
"""

import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vastproxy.simulator.apikeys import ApiKeys
from vastproxy.simulator.catalog import ENGINES, engine_of_image
from vastproxy.simulator.contract import Contract, Phase, SshKey, Verb
from vastproxy.simulator.errors import Refusal, invalid_args, no_such_instance
from vastproxy.simulator.faults import Faults
from vastproxy.simulator.limits import RateLimits
from vastproxy.simulator.offers import Market
from vastproxy.simulator.payloads import JsonObject, instance_row, user_row
from vastproxy.simulator.webhooks import Webhooks

FIRST_ID = 48_001_001
MAX_LABEL = 1024


@dataclass(frozen=True, slots=True)
class Call:
    """One request that reached the API."""

    method: str
    path: str
    query: Mapping[str, str]


class Account:
    """Instances, keys, money, limits and faults of one user."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        clock: Callable[[], float] = time.time,
        rate_limits: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.api_key = api_key or secrets.token_hex(32)
        #: HTTP status that a wrong key is answered with. vast.ai uses 401 or 404, depending on the endpoint.
        self.bad_key_status = 401
        #: False: every start is queued with "resources unavailable", as when somebody else has the GPU.
        self.gpus_free = True
        #: Polls of a log's address that are answered 404 before it is ready.
        self.log_polls = 1
        self.clock = clock
        self.limits = RateLimits(monotonic, enabled=rate_limits)
        self.faults = Faults()
        self.market = Market(clock)
        self.user: JsonObject = user_row()
        self.webhooks = Webhooks(clock)
        self.api_keys = ApiKeys()
        self.keys: list[SshKey] = []
        #: The latest calls, oldest first.
        self.calls: deque[Call] = deque(maxlen=1000)
        #: Told about each contract made by `rent`, so that a machine can be put behind it.
        self.on_rented: Callable[[Contract], None] | None = None
        self._contracts: dict[int, Contract] = {}
        self._logs: dict[str, tuple[int, str]] = {}
        self._next_id = FIRST_ID
        self._next_key_id = 5501

    def __repr__(self) -> str:
        return f"<Account instances={len(self._contracts)} keys={len(self.keys)}>"

    # Reading

    @property
    def contracts(self) -> list[Contract]:
        """All contracts, oldest first."""
        return list(self._contracts.values())

    def contract(self, instance_id: int) -> Contract:
        """One contract. Raises Refusal (404) when there is none."""
        try:
            return self._contracts[instance_id]
        except KeyError:
            raise no_such_instance(instance_id) from None

    def rows(self) -> list[JsonObject]:
        now = self.clock()
        return [contract.view(now) for contract in self._contracts.values()]

    def row(self, instance_id: int) -> JsonObject | None:
        """One row, or None as the API answers for an instance that is gone."""
        contract = self._contracts.get(instance_id)
        return contract.view(self.clock()) if contract else None

    def filter_values(self) -> list[JsonObject]:
        """The distinct combinations that the list can be filtered by."""
        names = ("actual_status", "verification", "gpu_name")
        seen = dict.fromkeys(tuple(row.get(name) for name in names) for row in self.rows())
        return [dict(zip(names, values, strict=True)) for values in seen]

    # Making

    def add(
        self,
        *,
        id: int | None = None,
        gpu: str = "RTX 4090",
        num_gpus: int = 1,
        engine: str | None = "sglang",
        model: str = "Qwen/Qwen3-8B",
        label: str | None = None,
        phase: Phase = Phase.RUNNING,
        **fields: Any,
    ) -> Contract:
        """Put an instance into the account. `fields` replace fields of its row."""
        instance_id = self._next_id if id is None else id
        self._next_id = max(self._next_id, instance_id) + 1
        row = instance_row(
            instance_id,
            gpu=gpu,
            num_gpus=num_gpus,
            engine=engine,
            model=model,
            label=label,
            start_date=self.clock(),
            token=f"simulated-{secrets.token_hex(16)}",
        )
        contract = Contract(row, engine=engine, keys=list(self.keys))
        contract.enter(phase)
        contract.row |= fields
        self._contracts[instance_id] = contract
        return contract

    def rent(self, offer_id: int, body: JsonObject) -> Contract:
        """Turn an offer into an instance. Raises Refusal (410) when it is taken, (400) without an image."""
        image = body.get("image")
        template = body.get("template_hash_id")
        if not image and not template:
            raise invalid_args("an image or a template is needed")
        offer = self.market.take(offer_id)
        engine = engine_of_image(str(image)) if image else ENGINES[0]
        env = body.get("env") or {}
        contract = self.add(
            gpu=offer["gpu_name"],
            num_gpus=offer["num_gpus"],
            engine=engine,
            label=body.get("label"),
            phase=Phase.PROVISIONING,
            machine_id=offer["machine_id"],
            disk_space=float(body.get("disk") or 10.0),
            onstart=body.get("onstart"),
        )
        if image:
            contract.row["image_uuid"] = str(image)
        if env or engine is None:
            contract.row["extra_env"] = [[str(name), str(value)] for name, value in env.items()]
        if body.get("runtype"):
            contract.row["image_runtype"] = str(body["runtype"])
        if body.get("price") is not None:
            contract.row |= {"is_bid": True, "dph_base": float(body["price"])}
        if self.on_rented is not None:
            self.on_rented(contract)
        else:
            contract.enter(Phase.RUNNING)
        return contract

    def remove(self, instance_id: int) -> None:
        """Take an instance out without asking its machine. Unknown ids are fine."""
        self._contracts.pop(instance_id, None)

    # Changing

    def set_label(self, instance_id: int, label: Any) -> None:
        if not isinstance(label, str) or len(label) > MAX_LABEL:
            raise invalid_args(f"label must be a text of at most {MAX_LABEL} characters")
        self.contract(instance_id).row["label"] = label

    def set_state(self, instance_id: int, state: Any) -> JsonObject:
        """Start or stop. The answer's `success` is false when the start is only queued."""
        contract = self.contract(instance_id)
        if state == "stopped":
            self._ask(contract, Verb.STOP)
            return {"success": True}
        if state != "running":
            raise invalid_args("state must be running or stopped")
        if contract.phase is not Phase.RUNNING and (contract.outbid or not self.gpus_free):
            contract.row |= {"intended_status": "running", "next_state": "running"}
            return {
                "success": False,
                "error": "resources_unavailable",
                "msg": "Required resources are currently unavailable, state change queued.",
            }
        self._ask(contract, Verb.START)
        return {"success": True}

    def restart(self, instance_id: int, verb: Verb) -> None:
        """Reboot or recycle."""
        self._ask(self.contract(instance_id), verb)

    def destroy(self, instance_id: int) -> None:
        """End the contract. It leaves the list at once; its machine is told."""
        contract = self.contract(instance_id)
        self.remove(instance_id)
        if contract.machine is not None:
            contract.machine.requested(Verb.DESTROY)

    def change_bid(self, instance_id: int, price: Any) -> None:
        """Bid another price. An instance that was outbid and now is not starts again."""
        contract = self.contract(instance_id)
        if isinstance(price, bool) or not isinstance(price, int | float):
            raise invalid_args("price is not a number")
        if not 0.001 <= price <= 32 * contract.row["num_gpus"]:
            raise invalid_args("price out of range")
        was_outbid = contract.outbid
        contract.row |= {
            "dph_base": float(price),
            "dph_total": float(price) + contract.row["storage_total_cost"],
        }
        if was_outbid and not contract.outbid and contract.phase is Phase.OUTBID:
            self._ask(contract, Verb.START)

    def _ask(self, contract: Contract, verb: Verb) -> None:
        if contract.machine is not None:
            wanted = "stopped" if verb is Verb.STOP else "running"
            contract.row |= {"intended_status": wanted, "next_state": wanted}
            contract.machine.requested(verb)
            return
        contract.enter(Phase.STOPPED if verb is Verb.STOP else Phase.RUNNING)

    # Keys

    def add_key(self, text: str) -> SshKey:
        """Put a key into the account. It reaches instances made later, not those that exist."""
        key = self._make_key(text)
        self.keys.append(key)
        self.user["ssh_key"] = key.text
        return key

    def attach_key(self, instance_id: int, text: str) -> SshKey:
        """Put a key onto one instance."""
        contract = self.contract(instance_id)
        key = self._make_key(text)
        contract.keys.append(key)
        return key

    def detach_key(self, instance_id: int, key_id: int) -> None:
        contract = self.contract(instance_id)
        if key_id not in {key.id for key in contract.keys}:
            raise Refusal(404, "no_such_key", f"Key {key_id} not found.")
        contract.keys[:] = [key for key in contract.keys if key.id != key_id]

    def _make_key(self, text: str) -> SshKey:
        if len(text.split()) < 2 or not re.match(r"(ssh|ecdsa|sk)-", text):
            raise invalid_args("not an SSH public key")
        key = SshKey(self._next_key_id, text.strip())
        self._next_key_id += 1
        return key

    def key_row(self, key: SshKey, *, field: str = "key") -> JsonObject:
        created = datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        return {
            "id": key.id,
            "user_id": self.user["id"],
            field: key.text,
            "created_at": created,
            "deleted_at": None,
        }

    # Logs

    def request_log(self, instance_id: int, *, tail: int = 1000, pattern: str | None = None) -> str:
        """Have an instance's log put by for `take_log`; returns its name."""
        lines: Iterable[str] = self.contract(instance_id).log
        if pattern:
            try:
                wanted = re.compile(pattern)
            except re.error:
                raise invalid_args("filter is not a regular expression") from None
            lines = [line for line in lines if wanted.search(line)]
        name = f"C.{instance_id}-{secrets.token_hex(8)}.log"
        while len(self._logs) >= 100:
            del self._logs[next(iter(self._logs))]
        self._logs[name] = (self.log_polls, "\n".join(list(lines)[-tail:]) + "\n")
        return name

    def take_log(self, name: str) -> str | None:
        """The log put by under `name`; None while it is not ready, and for ever when there is none."""
        polls, text = self._logs.get(name, (0, None))
        if text is not None and polls > 0:
            self._logs[name] = (polls - 1, text)
            return None
        return text
