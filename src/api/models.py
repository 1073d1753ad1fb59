"""`/v1/models`: the union of what the backends that can serve now serve."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vastproxy.api.json_answer import JsonAnswer
from vastproxy.services.access.callers import Caller
from vastproxy.services.fleet import Fleet
from vastproxy.services.routing.models import Listed


class ModelsEndpoint:
    """OpenAI's list of models. `created` is 0: engines make it up, and clients cache by it."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def list(self, request: Request) -> Response:
        """Every model that whoever asks may ask for, once, with the instances that serve it."""
        caller: Caller | None = getattr(request.state, "caller", None)
        data = [_told(model, caller) for model in self._fleet.models() if _may_use(caller, model.id)]
        return JsonAnswer({"object": "list", "data": data})


def _may_use(caller: Caller | None, model: str) -> bool:
    return caller is None or caller.may_use(model)


def _told(model: Listed, caller: Caller | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": "vastproxy",
        "instances": list(model.instances),
        "backends": len(model.instances),
    }
    if known := [name for name in model.alias_of if _may_use(caller, name)]:
        told["alias_of"] = known
    return told
