"""`/vastproxy/v1/…`: orders that end something: requests, an instance's contract, the mistrust of a new host key.

Each is a POST with `Content-Type: application/json`, as all that changes something (see `admin.py`).
"""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vastproxy.api.admin import not_json, refusal
from vastproxy.api.attempts import Attempts
from vastproxy.api.json_answer import JsonAnswer
from vastproxy.services.actions import NothingToTrust
from vastproxy.services.dispatch.claim import NEVER, Claim
from vastproxy.services.errors import Cancelled
from vastproxy.services.events import RequestsCancelled
from vastproxy.services.fleet import Fleet
from vastproxy.services.traces import state_of
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostkeys import PinsNotStored
from vastproxy.services.tunnels.pins import Change
from vastproxy.services.tunnels.publickey import printable, shown
from vastproxy.vastai import VastError

#: What an order may be long.
MAX_BODY_BYTES = 64 * 1024
#: Requests that are cancelled before others have their turn: each takes about 0.1 ms.
CANCELLED_IN_A_ROW = 20


class BadOrder(Exception):
    """The body of an order is not what it should be; the text is for a person."""


class ActionEndpoints:
    """What operators order."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def cancel(self, request: Request) -> Response:
        """End a request that runs or waits. Of several with one id, all."""
        if (answer := not_json(request)) is not None:
            return answer
        text = request.path_params["id"]
        request_id = text.encode("latin-1", "replace")
        alike = [each for each in self._fleet.traces.under_way() if each.request_id == request_id]
        if not alike:
            if self._fleet.traces.find(request_id) is None:
                return refusal(
                    404, "No request of this id is remembered; only the last ones are.", "not_found"
                )
            return refusal(409, "This request is over already.", "already_over")
        was = state_of(alike[-1])
        count = await self._end(alike, _by_order(request))
        return JsonAnswer({"id": text, "was": was, "cancelled": count > 0, "requests": count})

    async def abort(self, request: Request) -> Response:
        """End all requests that run on an instance, or all that run or wait."""
        if (answer := not_json(request)) is not None:
            return answer
        try:
            instance_id = _instance_of(await _order(request))
        except BadOrder as error:
            return refusal(400, str(error), "invalid_order")
        under_way = self._fleet.traces.under_way()
        if instance_id is not None:
            found = [each for each in under_way if _runs_on(each, instance_id)]
            if not found and instance_id not in self._fleet.backend_ids:
                return refusal(404, f"No instance {instance_id} is served here.", "not_found")
        else:  # those who wait first, so that nobody gets the place of one that is ended
            found = sorted(under_way, key=lambda each: state_of(each) != "waiting")
        count = await self._end(found, _by_order(request), instance_id)
        return JsonAnswer({"cancelled": count, "instance": instance_id})

    async def _end(self, claims: Iterable[Claim], by: str, instance_id: int | None = None) -> int:
        error = Cancelled(f"the request was cancelled {by}")
        count = 0
        for claim in claims:
            if claim.ended_at != NEVER or not isinstance(claim, Attempts):
                continue
            claim.cancel(error)
            count += 1
            if count % CANCELLED_IN_A_ROW == 0:
                await asyncio.sleep(0)
        if count:
            self._fleet.events.publish(RequestsCancelled(instance_id, count, by))
        return count

    async def destroy(self, request: Request) -> Response:
        """End an instance's contract and delete its data, for ever."""
        if (answer := not_json(request)) is not None:
            return answer
        instance_id = request.path_params["id"]
        if not self._fleet.settings.server.allow_destroy:
            return refusal(
                403, "This proxy destroys no instances (server.allow_destroy).", "actions_disabled"
            )
        try:
            confirmed = (await _order(request)).get("confirm")
        except BadOrder as error:
            return refusal(400, str(error), "invalid_order")
        if str(confirmed) != str(instance_id):
            text = f'Its data would be deleted for ever: send {{"confirm": "{instance_id}"}} to say that you mean it.'
            return refusal(400, text, "not_confirmed")
        try:
            await self._fleet.actions.destroy(instance_id)
        except KeyError:
            return refusal(404, f"No instance {instance_id} is served here.", "not_found")
        except VastError as error:
            return refusal(502, f"vast.ai did not destroy instance {instance_id}: {error}.", "vast_api_error")
        return JsonAnswer({"id": instance_id, "destroyed": True})

    async def changed_keys(self, request: Request) -> Response:
        """The host keys of an instance that were refused because others are pinned."""
        instance_id = request.path_params["id"]
        try:
            changes = await self._fleet.actions.changed_keys(instance_id)
        except KeyError:
            return refusal(404, f"No instance {instance_id} is served here.", "not_found")
        return JsonAnswer({"id": instance_id, "changes": [_told(change) for change in changes]})

    async def trust(self, request: Request) -> Response:
        """Pin the host keys that were refused, and dial again at once."""
        if (answer := not_json(request)) is not None:
            return answer
        instance_id = request.path_params["id"]
        if self._fleet.settings.tunnels.host_keys == "strict":
            text = "tunnels.host_keys is strict: put the key into the file of tunnels.known_hosts."
            return refusal(409, text, "nothing_to_trust")
        try:
            keys, path = _which(await _order(request))
            accepted = await self._fleet.actions.trust(instance_id, keys=keys, path=path)
        except BadOrder as error:
            return refusal(400, str(error), "invalid_order")
        except KeyError:
            return refusal(404, f"No instance {instance_id} is served here.", "not_found")
        except NothingToTrust as error:
            return refusal(409, _sentence(error), "nothing_to_trust")
        except PinsNotStored as error:
            return refusal(500, _sentence(error), "pins_not_stored")
        paths = [change.path.value for change in accepted]
        return JsonAnswer({"id": instance_id, "forgotten": len(accepted), "paths": paths})


def _runs_on(claim: Claim, instance_id: int) -> bool:
    lease = claim.lease
    return lease is not None and not lease.outcome and lease.backend.id == instance_id


def _by_order(request: Request) -> str:
    """Who has given the order, as the end of a sentence."""
    caller = request.scope.get("state", {}).get("caller")
    name = getattr(caller, "name", None)
    return "by the operator" if not name else f"by the operator ({name})"


async def _order(request: Request) -> dict[str, Any]:
    """What an order says, nothing if it has no body. Raises BadOrder."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise BadOrder(f"An order has at most {MAX_BODY_BYTES} bytes.")
    if not body.strip():
        return {}
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise BadOrder("The body is not JSON.") from None
    if not isinstance(told, dict):
        raise BadOrder("The body is not a JSON object.")
    return told


def _instance_of(order: dict[str, Any]) -> int | None:
    """The instance that is meant; None: all. Raises BadOrder, also where nothing is said: all is much."""
    if "instance" not in order:
        raise BadOrder('Say which: {"instance": ID}, or {"instance": null} for all.')
    instance_id = order["instance"]
    if instance_id is None:
        return None
    if isinstance(instance_id, bool) or not isinstance(instance_id, int):
        raise BadOrder("instance must be the id of an instance, or null for all.")
    return instance_id


def _which(order: dict[str, Any]) -> tuple[frozenset[str] | None, Path | None]:
    """The keys and the path that are meant; None: all. Raises BadOrder."""
    keys, path = order.get("keys"), order.get("path")
    if keys is not None and not (isinstance(keys, list) and all(isinstance(each, str) for each in keys)):
        raise BadOrder("keys must be a list of host keys, as they are told.")
    if path is not None and path not in list(Path):
        raise BadOrder("path must be direct or relay.")
    return None if keys is None else frozenset(keys), None if path is None else Path(path)


def _told(change: Change) -> dict[str, Any]:
    return {
        "path": change.path.value,
        "address": printable(change.refused.address),
        "pinned": {
            "key": change.pinned.key,
            "shown": shown(change.pinned.key),
            "since_unix": change.pinned.since,
        },
        "refused": {
            "key": change.refused.key,
            "shown": shown(change.refused.key),
            "since_unix": change.refused.since,
            "seen_unix": change.refused.seen,
        },
    }


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[0].upper() + text[1:] + "."
