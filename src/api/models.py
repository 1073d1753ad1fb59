"""`/v1/models`: the union of what the backends that can serve now serve."""

from starlette.requests import Request
from starlette.responses import Response

from vastproxy.api.json_answer import JsonAnswer
from vastproxy.services.fleet import Fleet


class ModelsEndpoint:
    """OpenAI's list of models. `created` is 0: engines make it up, and clients cache by it."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def list(self, request: Request) -> Response:
        """Every model once, with the instances that serve it."""
        data = [
            {
                "id": model.id,
                "object": "model",
                "created": 0,
                "owned_by": "vastproxy",
                "instances": list(model.instances),
                "backends": len(model.instances),
                **({"alias_of": list(model.alias_of)} if model.alias_of else {}),
            }
            for model in self._fleet.models()
        ]
        return JsonAnswer({"object": "list", "data": data})
