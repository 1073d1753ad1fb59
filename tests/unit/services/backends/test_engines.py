"""Finding the engine: every kind is recognised by its own answers, and nothing else is taken for one."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vastproxy.services.backends.engines import (
    EngineKind,
    EngineTarget,
    HealthStatus,
    ProbeResponse,
    abort_request,
    detect,
    list_models,
)
from vastproxy.services.backends.fetch import NO_HEADERS
from vastproxy.services.errors import (
    BackendProtocolError,
    BackendTimeout,
    ChannelRefused,
    ResponseInterrupted,
    TunnelLost,
)

FIXTURES = Path(__file__).parents[3] / "fixtures" / "engines"
PAGE = b"<!DOCTYPE html><html><body>Sign in</body></html>"
NOT_FOUND = ProbeResponse(404, {"content-type": "application/json"}, b'{"detail":"Not Found"}')
EMPTY_200 = ProbeResponse(200, {}, b"")
UNAUTHORIZED = ProbeResponse(401, {"content-type": "application/json"}, b'{"error":"Unauthorized"}')
TIMEOUT = BackendTimeout("no answer within 5 s", phase="headers")


def ok(value: Any, status: int = 200) -> ProbeResponse:
    return ProbeResponse(status, {"content-type": "application/json"}, json.dumps(value).encode())


def recorded(name: str, status: int = 200) -> ProbeResponse:
    return ProbeResponse(status, {"content-type": "application/json"}, (FIXTURES / name).read_bytes())


def models_of(owner: str, *names: str) -> ProbeResponse:
    return ok({"object": "list", "data": [{"id": name, "owned_by": owner} for name in names or ("m",)]})


Answer = ProbeResponse | Exception


class Script:
    """Answers by port and path; a port without any is closed, an unknown path is 404.

    `tokens`: ports that answer 401 without one of these bearers, and on which paths (a prefix)."""

    def __init__(
        self,
        ports: Mapping[int, Mapping[str, Answer]],
        *,
        tokens: Mapping[int, tuple[str, str]] | None = None,
        slow: Mapping[int, asyncio.Event] | None = None,
    ) -> None:
        self._ports = ports
        self._tokens = tokens or {}
        self._slow = slow or {}
        self.asked: list[tuple[int, str]] = []
        self.bearers: set[str | None] = set()
        self.busy = self.peak = 0
        self.listed = asyncio.Event()

    async def __call__(
        self,
        port: int,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes = b"",
        timeout_s: float,
    ) -> ProbeResponse:
        assert timeout_s == 5.0
        self.asked.append((port, path))
        if path == "/v1/models":
            self.listed.set()
        self.bearers.add(headers.get("authorization"))
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        try:
            if port in self._slow:
                await self._slow[port].wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.busy -= 1
        if port not in self._ports:
            raise ChannelRefused(f"port {port} is closed")
        answers = self._ports[port]
        token, prefix = self._tokens.get(port, ("", "no such path"))
        if path.startswith(prefix) and headers.get("authorization") != f"Bearer {token}":
            return UNAUTHORIZED
        answer = answers.get(path, answers.get("*", NOT_FOUND))
        if isinstance(answer, Exception):
            raise answer
        return answer


async def find(script: Script, *ports: int, token: str | None = None) -> EngineTarget | None:
    return await detect(script, ports or (18000,), token=token, timeout_s=5.0)


SGLANG: dict[str, Answer] = {
    "/get_model_info": recorded("sglang_model_info.json"),
    "/v1/models": recorded("sglang_v1_models.json"),
}
VLLM: dict[str, Answer] = {
    "/version": recorded("vllm_version.json"),
    "/v1/models": recorded("vllm_v1_models.json"),
    "/health": EMPTY_200,
}
OLLAMA: dict[str, Answer] = {
    "/": ProbeResponse(200, {}, b"Ollama is running"),
    "/api/version": recorded("ollama_version.json"),
    "/api/tags": recorded("ollama_tags.json"),
    "/v1/models": recorded("ollama_v1_models.json"),
}
LLAMACPP: dict[str, Answer] = {
    "/props": recorded("llamacpp_props.json"),
    "/health": recorded("llamacpp_health_ok.json"),
    "/v1/models": recorded("llamacpp_v1_models.json"),
}
TGI: dict[str, Answer] = {
    "/info": recorded("tgi_info.json"),
    "/health": EMPTY_200,
    "/v1/models": recorded("tgi_v1_models.json"),
}
TRANSFORMERS: dict[str, Answer] = {
    "/health": ok({"status": "ok"}),
    "/v1/models": ProbeResponse(500, {"content-type": "text/plain"}, b"Internal Server Error"),
    "/openapi.json": recorded("transformers_openapi.json"),
}
JUPYTER: dict[str, Answer] = {
    "*": ProbeResponse(404, {"content-type": "text/html"}, PAGE),
    "/api/version": ok({"message": "Forbidden"}, 403),
}
PLACEHOLDER = ProbeResponse(200, {"x-portal-placeholder": "true"}, b'{"model_path":"m","is_generation":true}')


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param(SGLANG, EngineTarget(EngineKind.SGLANG, 18000), id="sglang"),
        pytest.param(
            {**SGLANG, "/model_info": SGLANG["/get_model_info"], "/get_model_info": NOT_FOUND},
            EngineTarget(EngineKind.SGLANG, 18000),
            id="sglang without the old name",
        ),
        pytest.param(VLLM, EngineTarget(EngineKind.VLLM, 18000, "0.11.0"), id="vllm"),
        pytest.param(
            {**VLLM, "/v1/models": TIMEOUT}, EngineTarget(EngineKind.VLLM, 18000, "0.11.0"), id="vllm, busy"
        ),
        pytest.param(
            OLLAMA, EngineTarget(EngineKind.OLLAMA, 18000, "0.11.4", health_path="/api/version"), id="ollama"
        ),
        pytest.param(
            {**OLLAMA, "/v1/models": NOT_FOUND},
            EngineTarget(EngineKind.OLLAMA, 18000, "0.11.4", health_path="/api/version"),
            id="ollama, old",
        ),
        pytest.param(LLAMACPP, EngineTarget(EngineKind.LLAMACPP, 18000, "b1-0c1e570"), id="llama.cpp"),
        pytest.param(TGI, EngineTarget(EngineKind.TGI, 18000, "3.3.5"), id="tgi"),
        pytest.param(TRANSFORMERS, EngineTarget(EngineKind.OPENAI, 18000), id="transformers serve"),
        pytest.param(
            {**TRANSFORMERS, "/v1/models": ok({"object": "list", "data": []})},
            EngineTarget(EngineKind.OPENAI, 18000),
            id="transformers serve with an empty cache",
        ),
        pytest.param(
            {"/v1/models": models_of("me")},
            EngineTarget(EngineKind.OPENAI, 18000, health_path="/v1/models"),
            id="unknown without /health",
        ),
        pytest.param(
            {
                "/v1/models": models_of("me"),
                "/health": ProbeResponse(200, {"content-type": "text/html"}, PAGE),
            },
            EngineTarget(EngineKind.OPENAI, 18000, health_path="/v1/models"),
            id="unknown whose /health is a page",
        ),
        pytest.param(
            {"/version": ok({"version": "v3"}), "/v1/models": models_of("localai"), "/health": EMPTY_200},
            EngineTarget(EngineKind.OPENAI, 18000),
            id="another one with /version",
        ),
        pytest.param(
            {"/version": ok({"version": "1"}), "/v1/models": models_of("sglang"), "/health": EMPTY_200},
            EngineTarget(EngineKind.SGLANG, 18000),
            id="the owner of the models wins over a version",
        ),
        pytest.param(
            {"/v1/models": models_of("vllm"), "/health": ok({"status": "starting"}, 503)},
            EngineTarget(EngineKind.VLLM, 18000),
            id="only the owner tells",
        ),
        pytest.param(
            {"/v1/models": models_of("library"), "/health": EMPTY_200},
            EngineTarget(EngineKind.OLLAMA, 18000, health_path="/v1/models"),
            id="ollama behind something",
        ),
        pytest.param(
            {"*": recorded("llamacpp_health_loading.json", 503)},
            EngineTarget(EngineKind.LLAMACPP, 18000, problem=HealthStatus.LOADING),
            id="llama.cpp, loading",
        ),
        pytest.param(
            {"/v1/models": ProbeResponse(503), "/health": ProbeResponse(503)},
            EngineTarget(EngineKind.OPENAI, 18000, problem=HealthStatus.LOADING),
            id="something that starts",
        ),
        pytest.param(
            {**VLLM, "/get_model_info": TIMEOUT},
            None,
            id="silent at the first question",
        ),
        pytest.param({"*": BackendProtocolError("not HTTP")}, None, id="not HTTP"),
        pytest.param({"*": ResponseInterrupted("it broke off", received=True)}, None, id="breaks off"),
        pytest.param({"/get_model_info": NOT_FOUND, "*": TIMEOUT}, None, id="silent later on"),
        pytest.param(JUPYTER, None, id="Jupyter"),
        pytest.param({"*": ProbeResponse(200, {"content-type": "text/html"}, PAGE)}, None, id="any page"),
        pytest.param(
            {"*": ProbeResponse(502, {"x-portal-placeholder": "true"}, PAGE)}, None, id="Caddy, 502"
        ),
        pytest.param({"*": PLACEHOLDER}, None, id="Caddy's 200 through Cloudflare"),
        pytest.param({"*": EMPTY_200}, None, id="200 to everything"),
        pytest.param({"*": ok({"version": "1", "status": "ok"})}, None, id="the same JSON to everything"),
        pytest.param(
            {
                "/api/version": ok({"version": "0.6.5"}),
                "/health": ok({"status": True}),
                "/v1/models": NOT_FOUND,
            },
            None,
            id="Open WebUI",
        ),
        pytest.param({"/health": ok({"status": "ok"})}, None, id="a service that is merely well"),
        pytest.param({"*": ProbeResponse(302, {"location": "/login"})}, None, id="a redirect"),
        pytest.param({"*": ProbeResponse(200, {}, b"[" * 100_000)}, None, id="JSON bomb"),
        pytest.param({}, None, id="404 to everything"),
    ],
)
async def test_recognises(answers: Mapping[str, Answer], expected: EngineTarget | None) -> None:
    assert await find(Script({18000: answers})) == expected


async def test_closed_ports_are_asked_once_and_each_port_is_examined_once() -> None:
    script = Script({8000: SGLANG})
    assert await find(script, 18000, 8000, 18000, 30000) == EngineTarget(EngineKind.SGLANG, 8000)
    assert script.asked.count((18000, "/get_model_info")) == 1
    assert [path for port, path in script.asked if port == 18000] == ["/get_model_info"]


async def test_no_port_open_means_no_engine() -> None:
    assert await find(Script({}), 18000, 8000) is None


async def test_the_first_port_in_order_wins_even_if_it_answers_last() -> None:
    gate = asyncio.Event()
    script = Script({18000: VLLM, 8000: SGLANG}, slow={18000: gate})
    async with asyncio.TaskGroup() as group:
        found = group.create_task(find(script, 18000, 8000))
        await script.listed.wait()
        gate.set()
    assert found.result() == EngineTarget(EngineKind.VLLM, 18000, "0.11.0")


async def test_a_silent_port_does_not_hold_up_the_ones_before_it() -> None:
    script = Script({18000: VLLM, 80: {}}, slow={80: asyncio.Event()})
    found = await find(script, 18000, 80)
    assert found is not None
    assert found.port == 18000
    assert script.busy == 0


async def test_at_most_four_ports_are_asked_at_the_same_time() -> None:
    script = Script({port: {} for port in range(1, 20)})
    assert await find(script, *range(1, 20)) is None
    assert script.peak == 4


async def test_an_engine_beats_what_only_might_be_one_on_an_earlier_port() -> None:
    locked: dict[str, Answer] = {"*": UNAUTHORIZED}
    starting: dict[str, Answer] = {"/health": ProbeResponse(503)}
    found = await find(Script({8080: locked, 80: starting, 11434: OLLAMA}), 8080, 80, 11434)
    assert found is not None
    assert found.port == 11434


async def test_the_first_that_might_be_one_is_named_when_no_port_does_better() -> None:
    script = Script({8080: {"*": UNAUTHORIZED}, 80: {"/health": ProbeResponse(503)}})
    assert await find(script, 8080, 80) == EngineTarget(
        EngineKind.OPENAI, 8080, needs_token=True, problem=HealthStatus.UNAUTHORIZED
    )


async def test_the_token_is_sent_and_found_to_be_needed() -> None:
    script = Script({8000: SGLANG}, tokens={8000: ("t0k", "/")})
    assert await find(script, 8000, token="t0k") == EngineTarget(EngineKind.SGLANG, 8000, needs_token=True)
    assert script.bearers == {"Bearer t0k", None}


async def test_the_token_is_found_not_to_be_needed() -> None:
    found = await find(Script({8000: SGLANG}), 8000, token="t0k")
    assert found is not None
    assert not found.needs_token


async def test_an_engine_that_answers_no_more_to_strangers_is_still_one() -> None:
    class Shy(Script):
        async def __call__(self, port: int, path: str, **rest: Any) -> ProbeResponse:
            answer = await super().__call__(port, path, **rest)
            if path == "/openapi.json" or "authorization" not in rest["headers"]:
                raise TIMEOUT
            return answer

    sick: dict[str, Answer] = {"/get_model_info": NOT_FOUND, "/model_info": TIMEOUT, **VLLM}
    found = await find(Shy({8000: sick}), 8000, token="t0k")
    assert found == EngineTarget(EngineKind.VLLM, 8000, "0.11.0")


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_a_key_on_v1_alone_is_reported_with_the_kind(token: str | None) -> None:
    """vLLM's --api-key leaves /version and /health open."""
    found = await find(Script({8000: VLLM}, tokens={8000: ("right", "/v1")}), 8000, token=token)
    assert found == EngineTarget(
        EngineKind.VLLM, 8000, "0.11.0", needs_token=True, problem=HealthStatus.UNAUTHORIZED
    )


@pytest.mark.parametrize(
    ("problem", "expected"),
    [(None, ""), (HealthStatus.UNAUTHORIZED, "engines.api_key"), (HealthStatus.LOADING, "starting")],
)
def test_a_target_says_its_trouble(problem: HealthStatus | None, expected: str) -> None:
    trouble = EngineTarget(EngineKind.VLLM, 8000, problem=problem).trouble
    assert expected in trouble
    assert bool(trouble) is bool(problem)


async def test_a_key_on_all_but_health_is_an_engine_that_we_may_not_use() -> None:
    """llama.cpp's and SGLang's keys leave /health open."""
    answers: dict[str, Answer] = {"*": UNAUTHORIZED, "/health": ok({"status": "ok"})}
    found = await find(Script({8000: answers, 80: {"/health": ProbeResponse(503)}}), 80, 8000)
    assert found == EngineTarget(EngineKind.OPENAI, 8000, needs_token=True, problem=HealthStatus.UNAUTHORIZED)


async def test_a_lost_tunnel_is_no_verdict_on_the_engine() -> None:
    """It is raised as itself, also from one of several ports."""
    script = Script({8000: {"*": TunnelLost("connection closed")}, 80: {}}, slow={80: asyncio.Event()})
    with pytest.raises(TunnelLost, match="connection closed"):
        await find(script, 80, 8000)
    assert script.busy == 0


async def test_a_version_is_bounded() -> None:
    found = await find(Script({18000: {**VLLM, "/version": ok({"version": "9" * 500})}}))
    assert found is not None
    assert found.version == "9" * 64
    found = await find(Script({18000: {**VLLM, "/version": ok({"version": "1\x1b[31m"})}}))
    assert found is not None
    assert found.version is None


# -- models ------------------------------------------------------------------------------------------


async def models(
    answers: Mapping[str, Answer], kind: EngineKind = EngineKind.OPENAI
) -> tuple[str, ...] | None:
    return await list_models(Script({18000: answers}), EngineTarget(kind, 18000), token="t", timeout_s=5.0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (recorded("vllm_v1_models.json"), ("meta-llama/Llama-3.1-8B-Instruct",)),
        (recorded("llamacpp_v1_models.json"), ("tiny",)),
        (recorded("ollama_tags.json"), ("llama3.2:3b",)),
        (ok({"object": "list", "data": []}), ()),
        (ok({"object": "list", "data": None}), ()),
        (ok({"object": "list"}), ()),
        (ok([{"id": "a"}, {"id": "b"}]), ("a", "b")),
        (ok({"data": ["a", {"id": "b"}, {"id": "a"}, {"id": 3}, {}, None, 7]}), ("a", "b")),
        (ok({"data": [{"id": "a", "aliases": ["b", 1, "a"]}, {"id": "c", "aliases": "x"}]}), ("a", "b", "c")),
        (ok({"data": [{"id": " "}, {"id": ""}, {"id": "x" * 257}, {"id": "e\x1b[0m"}, {"id": "é"}]}), ("é",)),
        (ok({"detail": "x"}), None),
        (ok(["a"]), None),
        (ok("a"), None),
        (ok(None), None),
        (EMPTY_200, None),
        (NOT_FOUND, None),
        (UNAUTHORIZED, None),
        (ProbeResponse(200, {"content-type": "text/html"}, PAGE), None),
        (ProbeResponse(200, {"x-portal-placeholder": "true"}, b'{"data": []}'), None),
        (ProbeResponse(200, {}, b'{"data": [{"id": "a'), None),
        (ProbeResponse(200, {}, b"\xff\xfe{"), None),
        (TIMEOUT, None),
    ],
)
async def test_reads_model_lists(answer: Answer, expected: tuple[str, ...] | None) -> None:
    assert await models({"/v1/models": answer}) == expected


async def test_models_are_bounded() -> None:
    names = await models(
        {"/v1/models": ok({"data": [{"id": f"m{n}", "aliases": [f"a{n}"]} for n in range(2000)]})}
    )
    assert names is not None
    assert len(names) == 512


async def test_a_closed_port_lists_nothing_readable() -> None:
    assert (
        await list_models(Script({}), EngineTarget(EngineKind.VLLM, 8000), token=None, timeout_s=5.0) is None
    )


async def test_ollama_is_asked_for_its_tags_when_it_has_no_openai_list() -> None:
    answers: dict[str, Answer] = {"/v1/models": NOT_FOUND, "/api/tags": recorded("ollama_tags.json")}
    assert await models(answers, EngineKind.OLLAMA) == ("llama3.2:3b",)
    assert await models(answers, EngineKind.OPENAI) is None


async def test_a_lost_tunnel_is_raised_while_listing() -> None:
    with pytest.raises(TunnelLost):
        await models({"*": TunnelLost("closed")})


# -- abort -------------------------------------------------------------------------------------------


def test_sglang_is_told_to_abort_by_request_id() -> None:
    abort = abort_request(EngineKind.SGLANG)
    assert abort is not None
    path, body = abort
    assert path == "/abort_request"
    assert json.loads(body('vp-"1')) == {"rid": 'vp-"1'}


@pytest.mark.parametrize("kind", [kind for kind in EngineKind if kind is not EngineKind.SGLANG])
def test_the_others_abort_when_their_stream_closes(kind: EngineKind) -> None:
    assert abort_request(kind) is None
