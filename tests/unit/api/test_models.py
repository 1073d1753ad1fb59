"""The list of models: what there is, as far as whoever asks may ask for it."""

import json
from collections.abc import Sequence
from typing import Any, cast

from starlette.requests import Request

from vastproxy.api.models import ModelsEndpoint
from vastproxy.services.access.callers import Caller, Callers
from vastproxy.services.access.records import KeyLimits
from vastproxy.services.fleet import Fleet
from vastproxy.services.routing.models import Listed

SERVED = (
    Listed("fast", (1, 2), alias_of=("llama-3", "qwen3")),
    Listed("llama-3", (1,)),
    Listed("qwen3", (2,)),
)


class ServedModels:
    """The part of a fleet that is looked at."""

    def models(self) -> Sequence[Listed]:
        return SERVED


def limited(*globs: str) -> Caller:
    return Caller(Callers(), name="web", id="vp-1", limits=KeyLimits(models=globs))


async def listed(caller: Caller | None) -> list[dict[str, Any]]:
    state = {} if caller is None else {"caller": caller}
    request = Request({"type": "http", "method": "GET", "path": "/v1/models", "headers": [], "state": state})
    answer = await ModelsEndpoint(cast(Fleet, ServedModels())).list(request)
    page = json.loads(bytes(answer.body))
    assert page["object"] == "list"
    found: list[dict[str, Any]] = page["data"]
    return found


async def test_who_may_ask_for_everything_sees_everything() -> None:
    for caller in (None, limited()):
        found = await listed(caller)
        assert [model["id"] for model in found] == ["fast", "llama-3", "qwen3"]
        assert found[0]["alias_of"] == ["llama-3", "qwen3"]
        assert (found[0]["instances"], found[0]["backends"]) == ([1, 2], 2)
        assert "alias_of" not in found[1]


async def test_a_key_for_certain_models_sees_no_others() -> None:
    """Nor what an alias stands for, where that is not for it."""
    assert [model["id"] for model in await listed(limited("LLAMA-*"))] == ["llama-3"]
    [alias] = await listed(limited("fast"))
    assert "alias_of" not in alias
    assert [model.get("alias_of") for model in await listed(limited("fast", "qwen*"))] == [["qwen3"], None]
    assert await listed(limited("gpt-*")) == []
