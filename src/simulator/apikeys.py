"""More keys of one account, each with certain rights (calls: official CLI 1.9; rights: vast.ai docs, 2026-08). Pure.

What the API answers where a right is missing is not documented; here it is 401 as for a wrong key.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vastproxy.simulator.errors import Refusal, invalid_args
from vastproxy.simulator.limits import Endpoint
from vastproxy.simulator.payloads import JsonObject

_FIRST_ID = 7001
_READ, _WRITE = "instance_read", "instance_write"
_USER_READ, _USER_WRITE = "user_read", "user_write"
#: The right that each call takes.
RIGHTS: Mapping[Endpoint, str] = {
    Endpoint.LIST_V1: _READ,
    Endpoint.LIST_V0: _READ,
    Endpoint.FILTERS: _READ,
    Endpoint.SHOW: _READ,
    Endpoint.UPDATE: _WRITE,
    Endpoint.BULK_UPDATE: _WRITE,
    Endpoint.REBOOT: _WRITE,
    Endpoint.RECYCLE: _WRITE,
    Endpoint.DESTROY: _WRITE,
    Endpoint.BID: _WRITE,
    Endpoint.LOGS: _WRITE,
    Endpoint.CREATE: _WRITE,
    Endpoint.SEARCH: "misc",
    Endpoint.USER: _USER_READ,
    Endpoint.KEYS: _USER_READ,
    Endpoint.ADD_KEY: _USER_WRITE,
    Endpoint.ATTACH_KEY: _WRITE,
    Endpoint.HOOKS: _USER_READ,
    Endpoint.CHANGE_HOOK: _USER_WRITE,
    Endpoint.API_KEYS: _USER_READ,
    Endpoint.CHANGE_API_KEY: _USER_WRITE,
}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One more key."""

    id: int
    name: str
    key: str
    permissions: JsonObject

    def to_json(self) -> JsonObject:
        return {"id": self.id, "name": self.name, "key": self.key, "permissions": self.permissions}

    @property
    def rights(self) -> frozenset[str]:
        """Such as `instance_read`."""
        return frozenset(self.permissions.get("api", {}))


class ApiKeys:
    """The keys that were made beside the account's first one."""

    def __init__(self) -> None:
        self._keys: dict[int, ApiKey] = {}
        self._next_id = _FIRST_ID

    def __len__(self) -> int:
        return len(self._keys)

    def rows(self) -> list[JsonObject]:
        return [key.to_json() for key in self._keys.values()]

    def create(self, name: Any, permissions: Any) -> ApiKey:
        """Raises Refusal (400) when the permissions are none."""
        if not isinstance(permissions, dict) or not isinstance(permissions.get("api", {}), dict):
            raise invalid_args("permissions must be an object")
        made = ApiKey(self._next_id, str(name or ""), secrets.token_hex(32), permissions)
        self._keys[made.id] = made
        self._next_id += 1
        return made

    def get(self, id: int) -> ApiKey:
        """Raises Refusal (404)."""
        try:
            return self._keys[id]
        except KeyError:
            raise Refusal(404, "not_found", f"API key {id} not found.") from None

    def delete(self, id: int) -> None:
        """Raises Refusal (404)."""
        del self._keys[self.get(id).id]

    def may(self, key: str, endpoint: Endpoint) -> bool | None:
        """May this key make the call? None: it is none of these."""
        found = next((each for each in self._keys.values() if each.key == key), None)
        return None if found is None else RIGHTS.get(endpoint, "") in found.rights
