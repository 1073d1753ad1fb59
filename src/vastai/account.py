"""The account and what it may rent: user, SSH keys, offers. The only readers of their raw JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from vastproxy.vastai.errors import VastProtocolError
from vastproxy.vastai.parsing import as_bool, as_float, as_int, as_mapping, as_rows, as_text

#: What the answer about the user may hold besides, and nobody but vast.ai should: dropped at once.
_USER_SECRETS = frozenset({"api_key", "sid", "password", "tfa_key", "session_key"})


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


def _rest(row: Mapping[str, Any], known: frozenset[str]) -> Mapping[str, Any]:
    return MappingProxyType({key: value for key, value in row.items() if key not in known})


@dataclass(frozen=True, slots=True)
class User:
    """The account. `credit` is what is left to spend, in dollars; without credit all instances stop."""

    id: int
    email: str = field(default="", repr=False)
    username: str = field(default="", repr=False)
    credit: float | None = None
    balance: float | None = None
    ssh_key: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=_nothing, repr=False, hash=False)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self | None:
        """The user in an answer, None if it has no id. Never raises for any JSON."""
        if (number := as_int(row.get("id"))) is None:
            return None
        return cls(
            id=number,
            email=as_text(row.get("email")) or "",
            username=as_text(row.get("username")) or "",
            credit=as_float(row.get("credit")),
            balance=as_float(row.get("balance")),
            ssh_key=as_text(row.get("ssh_key")) or "",
            extra=_rest(row, _USER_SECRETS | frozenset(cls.__slots__)),
        )


@dataclass(frozen=True, slots=True)
class SshKey:
    """A public key of the account or of one instance."""

    id: int
    public_key: str
    created_at: str | None = None
    deleted_at: str | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self | None:
        """The key in a row, None if it has no id or no key. vast.ai calls it `key` or `public_key`."""
        number, key = as_int(row.get("id")), as_text(row.get("public_key")) or as_text(row.get("key"))
        if number is None or key is None:
            return None
        return cls(number, key, as_text(row.get("created_at")), as_text(row.get("deleted_at")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Something to rent. Its id dies when somebody rents it."""

    id: int
    machine_id: int | None = None
    host_id: int | None = None
    gpu_name: str = ""
    num_gpus: int | None = None
    gpu_ram_mb: int | None = None
    """Of one GPU."""
    dph_total: float | None = None
    dph_base: float | None = None
    min_bid: float | None = None
    """What a bid has to reach, in dollars per hour."""
    is_bid: bool = False
    reliability: float | None = None
    geolocation: str = ""
    verification: str = ""
    rentable: bool | None = None
    disk_space_gb: float | None = None
    inet_up_mbps: float | None = None
    inet_down_mbps: float | None = None
    duration_s: float | None = None
    cuda_max_good: float | None = None
    direct_port_count: int | None = None
    extra: Mapping[str, Any] = field(default_factory=_nothing, repr=False, hash=False)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self | None:
        """The offer in a row, None if it has no id. Never raises for any JSON."""
        if (number := as_int(row.get("id"))) is None:
            return None
        return cls(
            id=number,
            machine_id=as_int(row.get("machine_id")),
            host_id=as_int(row.get("host_id")),
            gpu_name=as_text(row.get("gpu_name")) or "",
            num_gpus=as_int(row.get("num_gpus")),
            gpu_ram_mb=as_int(row.get("gpu_ram")),
            dph_total=as_float(row.get("dph_total")),
            dph_base=as_float(row.get("dph_base")),
            min_bid=as_float(row.get("min_bid")),
            is_bid=as_bool(row.get("is_bid")) or False,
            reliability=as_float(row.get("reliability2", row.get("reliability"))),
            geolocation=as_text(row.get("geolocation")) or "",
            verification=as_text(row.get("verification")) or "",
            rentable=as_bool(row.get("rentable")),
            disk_space_gb=as_float(row.get("disk_space")),
            inet_up_mbps=as_float(row.get("inet_up")),
            inet_down_mbps=as_float(row.get("inet_down")),
            duration_s=as_float(row.get("duration")),
            cuda_max_good=as_float(row.get("cuda_max_good")),
            direct_port_count=as_int(row.get("direct_port_count")),
            extra=_rest(row, _KNOWN_OF_OFFERS | frozenset(cls.__slots__)),
        )


_KNOWN_OF_OFFERS = frozenset({"gpu_ram", "reliability2", "disk_space", "inet_up", "inet_down", "duration"})


def without_secrets(answer: object) -> dict[str, Any]:
    """An answer about the user as it may be kept: it holds the API key itself, among others."""
    return {key: value for key, value in as_mapping(answer).items() if key not in _USER_SECRETS}


def keys_of(rows: object, doing: str) -> tuple[SshKey, ...]:
    """Keys from a list, or from a string that holds one as JSON: vast.ai sends both.

    Raises VastProtocolError if it is neither.
    """
    if isinstance(rows, str):
        try:
            rows = json.loads(rows)
        except (ValueError, RecursionError):
            rows = None
    if not isinstance(rows, list):
        raise VastProtocolError(f"the answer of vast.ai has no list of keys while {doing}", "no_list")
    parsed = (SshKey.from_json(row) for row in as_rows(rows))
    return tuple(key for key in parsed if key is not None)


def offers_of(answer: object, doing: str) -> tuple[Offer, ...]:
    """Offers from the answer to a search. Raises VastProtocolError if it has no list of them."""
    offers = as_mapping(answer).get("offers")
    if not isinstance(offers, list):
        raise VastProtocolError(f"the answer of vast.ai has no list of offers while {doing}", "no_list")
    parsed = (Offer.from_json(row) for row in as_rows(offers))
    return tuple(offer for offer in parsed if offer is not None)


def search_body(
    query: Mapping[str, Any],
    *,
    kind: str,
    order: Sequence[tuple[str, str]],
    limit: int | None,
    storage_gb: float,
) -> dict[str, Any]:
    """The body of an offer search: what the official command line sends, with `query` over its filters."""
    body: dict[str, Any] = {
        "verified": {"eq": True},
        "external": {"eq": False},
        "rentable": {"eq": True},
        **query,
        "order": [list(field) for field in order],
        "type": kind,
        "allocated_storage": storage_gb,
    }
    return body if limit is None else {**body, "limit": limit}
