"""The vast.ai REST API as a library.

    with VastClient(load_vast_config()) as client:
        for instance in client.list_instances():
            print(instance.id, instance.phase, instance.direct_ssh)

Facts: vast.ai API documentation and the requests of its command line 1.9, 2026-08.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import requests

from vastproxy.vastai.account import Offer, SshKey, User, keys_of, offers_of, search_body, without_secrets
from vastproxy.vastai.cache import Cache, MemoryCache, NoCache
from vastproxy.vastai.calls import Caller
from vastproxy.vastai.config import VastConfig
from vastproxy.vastai.errors import VastError, VastNotFound, VastProtocolError, VastRejected
from vastproxy.vastai.instance import Instance, InstanceList
from vastproxy.vastai.listing import Lister
from vastproxy.vastai.logs import read_logs
from vastproxy.vastai.monitor import Monitor, NullMonitor
from vastproxy.vastai.parsing import as_mapping, as_rows
from vastproxy.vastai.prices import PriceRise, rises_of
from vastproxy.vastai.reply import one_line
from vastproxy.vastai.transport import Call, Transport
from vastproxy.vastai.webhooks import Webhooks

MAX_LABEL_CHARS = 1024
_INSTANCES = "instances/"


class VastClient:
    """Calls vast.ai. Safe to use from several threads; blocks, so coroutines call it in a thread.

    Every method raises VastError and nothing else when vast.ai cannot be asked or says no. Reads are
    answered from the cache for `config.cache.ttl_s` unless `fresh`; writes empty it. `sleep` waits between
    tries and for limits, by default until `close` is called. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        config: VastConfig,
        *,
        session: requests.Session | None = None,
        cache: Cache | None = None,
        monitor: Monitor | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        if cache is None:
            cache = MemoryCache(config.cache.max_entries, timer=clock) if config.cache.enabled else NoCache()
        self._cache = cache
        self._clock = clock
        transport = Transport(config, session=session, clock=clock)
        self._caller = Caller(config, transport, monitor or NullMonitor(), clock=clock, sleep=sleep, rng=rng)
        self._lister = Lister(self._caller, clock=clock)
        self._last_list_at: float | None = None
        self.webhooks = Webhooks(self._caller)
        """The account's webhooks."""

    def __repr__(self) -> str:
        return f"<VastClient {self.config.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Refuse further calls, wake callers that wait, close idle connections. May be called twice."""
        self._caller.close()
        self._cache.close()

    @property
    def closed(self) -> bool:
        """Has `close` been called, so that every further call raises?"""
        return self._caller.closed

    @property
    def last_list_at(self) -> float | None:
        """When this client last read a complete list from vast.ai, by its clock; None if it never did."""
        return self._last_list_at

    def list_instances(self, *, fresh: bool = False, stale_s: float = 0.0) -> InstanceList:
        """All instances of the account, by id: the complete list, or an error.

        Rows without an id are left out and counted in `skipped`. When vast.ai cannot be asked for a reason that
        may pass, a kept list that is at most `stale_s` seconds old comes instead; `instead_of` is the error then.
        """
        key, age_s, instead_of = _INSTANCES + "list", 0.0, None
        try:
            rows = self._read(key, self._fetch_list, fresh)
        except VastError as error:
            kept = self._cache.last(key, stale_s) if error.retryable and stale_s > 0 else None
            if kept is None:
                raise
            rows, age_s, instead_of = kept.value, kept.age_s, error
        parsed = [Instance.from_json(as_mapping(row)) for row in rows]
        instances = sorted((one for one in parsed if one is not None), key=lambda one: one.id)
        skipped = len(rows) - len(instances)
        return InstanceList(instances, skipped=skipped, age_s=age_s, instead_of=instead_of)

    def show_instance(self, instance_id: int, *, fresh: bool = False) -> Instance:
        """One instance. Raises VastNotFound (code `no_such_instance`) when there is none with this id.

        The mapped `ports` may be missing here although the list has them.
        """
        doing = f"showing instance {instance_id}"
        path = f"/api/v0/instances/{_checked(instance_id)}/"
        call = Call("show_instance", "GET", path, "instances.show", doing, {"owner": "me"})
        answer = as_mapping(self._read(f"{_INSTANCES}{instance_id}", lambda: self._caller.run(call), fresh))
        row = answer.get("instances")
        if isinstance(row, list):
            row = next((one for one in as_rows(row) if one.get("id") == instance_id), None)
        if row is None and "instances" in answer:
            raise VastNotFound(
                f"there is no instance {instance_id}, or it is not yours", "no_such_instance", http_status=200
            )
        if (instance := Instance.from_json(as_mapping(row))) is None:
            raise VastProtocolError(f"the answer of vast.ai holds no instance while {doing}", "no_instance")
        return instance

    def label_instance(self, instance_id: int, label: str) -> None:
        """Set the label; an empty one takes it away."""
        if len(label) > MAX_LABEL_CHARS:
            raise VastRejected(
                f"a label has at most {MAX_LABEL_CHARS} characters, not {len(label)}", "invalid_args"
            )
        self._update("label_instance", instance_id, {"label": label}, "labelling")

    def start_instance(self, instance_id: int) -> None:
        """Ask for the instance to run.

        Raises VastRejected with the code `resources_unavailable` when its machine has no free GPU: vast.ai
        has queued the start then.
        """
        self._update("start_instance", instance_id, {"state": "running"}, "starting")

    def stop_instance(self, instance_id: int) -> None:
        """Ask for the instance to stop. Its disk is kept and billed."""
        self._update("stop_instance", instance_id, {"state": "stopped"}, "stopping")

    def reboot_instance(self, instance_id: int) -> None:
        """Restart the container; its GPU stays reserved and its data stay."""
        path = f"/api/v0/instances/reboot/{_checked(instance_id)}/"
        doing = f"rebooting instance {instance_id}"
        self._write(Call("reboot_instance", "PUT", path, "instances.reboot", doing, body={}))

    def destroy_instance(self, instance_id: int) -> None:
        """End the contract and delete all data, for ever."""
        path = f"/api/v0/instances/{_checked(instance_id)}/"
        doing = f"destroying instance {instance_id}"
        self._write(
            Call("destroy_instance", "DELETE", path, "instances.destroy", doing, body={}, gone_is_done=True)
        )

    def current_user(self, *, fresh: bool = False) -> User:
        """The account that the key belongs to, and its credit."""
        answer = self._read("user", lambda: without_secrets(self._caller.run(_ME)), fresh)
        if (user := User.from_json(as_mapping(answer))) is None:
            raise VastProtocolError(f"the answer of vast.ai holds no user while {_ME.doing}", "no_user")
        return user

    def price_rises(self) -> tuple[PriceRise, ...]:
        """The price rises that hosts ask for and nobody has answered. Asked for once, without retries."""
        return rises_of(self._caller.run(_RISES, tries=1))

    def ping(self) -> float:
        """Ask for the user once, with neither cache nor retries: seconds that the exchange took."""
        return self._caller.time(_ME)

    def ssh_keys(self, *, fresh: bool = False) -> tuple[SshKey, ...]:
        """Public keys of the account. They reach instances that are created later, not those that run."""
        call = Call("ssh_keys", "GET", "/api/v0/ssh/", "ssh.list", "listing SSH keys")
        answer = self._read("ssh_keys", lambda: self._caller.run(call), fresh)
        return keys_of(answer if isinstance(answer, list) else as_mapping(answer).get("ssh_keys"), call.doing)

    def instance_ssh_keys(self, instance_id: int) -> tuple[SshKey, ...]:
        """Public keys of one instance."""
        doing = f"listing SSH keys of instance {instance_id}"
        path = f"/api/v0/instances/{_checked(instance_id)}/ssh/"
        answer = self._caller.run(Call("instance_ssh_keys", "GET", path, "ssh.of_instance", doing))
        return keys_of(as_mapping(answer).get("ssh_keys"), doing)

    def attach_ssh_key(self, instance_id: int, public_key: str) -> None:
        """Let the holder of a key into one instance; it may take minutes to get there."""
        key = public_key.strip()
        if "PRIVATE KEY" in key or "\n" in key or len(key.split()) < 2:
            raise VastRejected(
                "expected a public SSH key in one line, such as `ssh-ed25519 AAAA… name`", "invalid_args"
            )
        doing = f"attaching an SSH key to instance {instance_id}"
        path = f"/api/v0/instances/{_checked(instance_id)}/ssh/"
        self._write(Call("attach_ssh_key", "POST", path, "ssh.attach", doing, body={"ssh_key": key}))

    def logs(
        self,
        instance_id: int,
        *,
        tail: int = 1000,
        pattern: str | None = None,
        daemon: bool = False,
        wait_s: float = 10.0,
    ) -> str:
        """The last `tail` lines of the container's log, or of the host's daemon, that match `pattern`.

        vast.ai writes them to a file first: VastUnavailable (code `not_ready`) if that is not there after
        about `wait_s` seconds.
        """
        return read_logs(
            self._caller, _checked(instance_id), tail=tail, pattern=pattern, daemon=daemon, wait_s=wait_s
        )

    def search_offers(
        self,
        query: Mapping[str, Any] | None = None,
        *,
        kind: str = "on-demand",
        order: Sequence[tuple[str, str]] = (("dph_total", "asc"),),
        limit: int | None = None,
        storage_gb: float = 5.0,
    ) -> tuple[Offer, ...]:
        """What can be rented. `query` are filters such as `{"gpu_name": {"eq": "RTX 4090"}}`.

        Filters on verified, rentable and not external are added unless given. `kind` is on-demand, bid or
        reserved; `storage_gb` is what prices include. Raises VastRateLimited with the code
        `search_quota_exceeded`, which is not retryable, when the day's searches are used up.
        """
        body = search_body(query or {}, kind=kind, order=order, limit=limit, storage_gb=storage_gb)
        call = Call(
            "search_offers", "POST", "/api/v0/bundles/", "offers.search", "searching offers", body=body
        )
        return offers_of(self._caller.run(call), call.doing)

    def _fetch_list(self) -> list[Any]:
        rows = self._lister.fetch()
        self._last_list_at = self._clock()
        return rows

    def _read(self, key: str, fetch: Callable[[], Any], fresh: bool) -> Any:
        if fresh:
            self._cache.invalidate(key)
        return self._cache.get_or_fetch(key, fetch, self.config.cache.ttl_s)

    def _update(self, name: str, instance_id: int, body: Mapping[str, Any], verb: str) -> None:
        path = f"/api/v0/instances/{_checked(instance_id)}/"
        self._write(Call(name, "PUT", path, "instances.update", f"{verb} instance {instance_id}", body=body))

    def _write(self, call: Call) -> None:
        try:
            self._caller.run(call)
        finally:
            # Also after an error: a call that timed out may have been obeyed.
            self._cache.invalidate(_INSTANCES)


_ME = Call("current_user", "GET", "/api/v0/users/current", "users.current", "asking for the account")
_RISES = Call(
    "price_rises",
    "GET",
    "/api/v0/instances/pending-price-increases/",
    "instances.price_rises",
    "listing price rises",
)


def _checked(instance_id: int) -> int:
    """The id as part of a path."""
    if isinstance(instance_id, bool) or not isinstance(instance_id, int) or instance_id <= 0:
        raise VastRejected(f"{one_line(repr(instance_id), limit=40)} is no instance id", "invalid_args")
    return instance_id
