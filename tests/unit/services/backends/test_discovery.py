"""Looking inside an instance: every engine is found, each once, whatever else listens there."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.builders import make_instance
from vastproxy.services.backends.discovery import (
    MAX_PARALLEL_PORTS,
    Attempt,
    Candidate,
    Discovery,
    Origin,
    Outcome,
    discover,
)
from vastproxy.services.backends.discovery_plan import DiscoveredEngine
from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget, HealthStatus
from vastproxy.services.backends.fetch import NO_HEADERS, ProbeResponse
from vastproxy.services.backends.pages import Page
from vastproxy.services.backends.portal import ENDPOINTS_PATH, PORTAL_PORT, SERVICES_PATH, PortalReader
from vastproxy.services.errors import (
    BackendProtocolError,
    BackendTimeout,
    ChannelRefused,
    TunnelLost,
    TunnelRefused,
)

FIXTURES = Path(__file__).parents[3] / "fixtures"
PORTS = (18000, 8000, 30000, 11434, 8080, 80)
JSON = {"content-type": "application/json"}
NOT_FOUND = ProbeResponse(404, JSON, b'{"detail":"Not Found"}')
LOCKED = ProbeResponse(401, JSON, b'{"error":"Unauthorized"}')
LOADING = ProbeResponse(503, JSON, b'{"error":{"code":503,"message":"Loading model"}}')
JUPYTER = ProbeResponse(200, {"content-type": "text/html"}, b"<html><title>JupyterLab</title></html>")

Answer = ProbeResponse | Exception
Paths = Mapping[str, Answer]


def ok(value: Any, **headers: str) -> ProbeResponse:
    return ProbeResponse(200, {**JSON, **headers}, json.dumps(value).encode())


def recorded(name: str) -> ProbeResponse:
    return ProbeResponse(200, JSON, (FIXTURES / name).read_bytes())


def model_list(owner: str, names: Sequence[str], **headers: str) -> ProbeResponse:
    return ok({"object": "list", "data": [{"id": name, "owned_by": owner} for name in names]}, **headers)


def sglang(*models: str, **headers: str) -> Paths:
    info = {"model_path": "m", "tokenizer_path": "m", "is_generation": True}
    return {
        "/get_model_info": ok(info, **headers),
        "/v1/models": model_list("sglang", models or ("m",), **headers),
    }


def vllm(*models: str) -> Paths:
    return {"/version": ok({"version": "0.11.0"}), "/v1/models": model_list("vllm", models or ("m",))}


PORTAL: Paths = {
    ENDPOINTS_PATH: recorded("portal/endpoints.json"),
    SERVICES_PATH: recorded("portal/services.json"),
}
NO_ENDPOINTS: Paths = {ENDPOINTS_PATH: ok([]), SERVICES_PATH: ok([])}


class Inside:
    """An instance: answers by port and path, 404 to any other path. A port that is not there is closed.

    `tokens`: ports that want this bearer. `gate`: ports whose answers wait until it is set."""

    def __init__(
        self,
        ports: Mapping[int, Paths | Exception],
        *,
        tokens: Mapping[int, str] | None = None,
        gate: Mapping[int, asyncio.Event] | None = None,
    ) -> None:
        self._ports = ports
        self._tokens = tokens or {}
        self._gate = gate or {}
        self.asked: list[tuple[int, str]] = []
        self.busy = self.peak = 0

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
        self.asked.append((port, path))
        counted = port != PORTAL_PORT
        self.busy += counted
        self.peak = max(self.peak, self.busy)
        try:
            if port in self._gate:
                await self._gate[port].wait()
            else:
                await asyncio.sleep(0)
        finally:
            self.busy -= counted
        paths = self._ports.get(port, ChannelRefused(f"port {port} is closed"))
        if isinstance(paths, Exception):
            raise paths
        if port in self._tokens and headers.get("authorization") != f"Bearer {self._tokens[port]}":
            return LOCKED
        answer = paths.get(path, paths.get("*", NOT_FOUND))
        if isinstance(answer, Exception):
            raise answer
        return answer


async def look(
    inside: Inside,
    *,
    ports: Sequence[int] = PORTS,
    portal: PortalReader | None = None,
    token: str | None = "t",
    env: Iterable[Sequence[str]] = (),
) -> Discovery:
    instance = make_instance(extra_env=[list(pair) for pair in env])
    reader = portal or PortalReader(clock=lambda: 0.0)
    return await discover(inside, instance, reader, ports=ports, token=token, timeout_s=5.0)


async def test_the_portal_names_engines_on_ports_that_nobody_would_guess() -> None:
    ollama = {"/api/version": ok({"version": "0.12"}), "/v1/models": model_list("library", ["q"])}
    inside = Inside({PORTAL_PORT: PORTAL, 18000: sglang("m", "alias"), 21434: ollama})
    found = await look(inside)
    assert [
        (one.target.kind, one.target.port, one.models, one.origin, one.service) for one in found.engines
    ] == [
        (EngineKind.SGLANG, 18000, ("m", "alias"), Origin.PORTAL, "SGLang API"),
        (EngineKind.OLLAMA, 21434, ("q",), Origin.PORTAL, "Ollama API"),
    ]
    assert found.targets == tuple(one.target for one in found.engines)
    assert (found.reason, found.pending) == ("", ())
    outcomes = {one.candidate.port: one.outcome for one in found.tried}
    assert outcomes[18000] is outcomes[21434] is Outcome.ENGINE
    assert outcomes[30000] is Outcome.CLOSED


async def test_without_a_portal_the_arguments_come_before_the_usual_ports() -> None:
    inside = Inside({9000: vllm("a"), 18000: sglang("b")})
    found = await look(inside, env=[("VLLM_ARGS", "--port 9000")])
    assert [(one.target.port, one.origin) for one in found.engines] == [
        (9000, Origin.ARGUMENTS),
        (18000, Origin.PROBING),
    ]
    assert not found.portal.exists


async def test_several_engines_on_the_usual_ports_are_several_targets() -> None:
    inside = Inside({8000: vllm("a"), 30000: sglang("b"), 80: vllm("a", "b")})
    assert [target.port for target in (await look(inside)).targets] == [8000, 30000, 80]


async def test_caddy_and_the_engine_behind_it_are_one_and_the_engines_port_is_taken() -> None:
    inside = Inside({18000: sglang(), 8000: sglang()}, tokens={8000: "t"})
    (engine,) = (await look(inside, ports=(8000, 18000))).engines
    assert (engine.target.port, engine.target.needs_token, engine.doors) == (18000, False, (8000,))


async def test_caddy_is_taken_when_only_it_answers() -> None:
    inside = Inside({PORTAL_PORT: PORTAL, 8000: sglang()}, tokens={8000: "t"})
    (engine,) = (await look(inside)).engines
    assert (engine.target.port, engine.target.needs_token, engine.doors) == (8000, True, ())


async def test_caddy_without_a_token_gives_itself_away() -> None:
    """With ENABLE_AUTH=false nothing but its own header tells it from a second engine."""
    inside = Inside({8000: sglang("m", via="1.1 Caddy"), 18000: sglang("m")})
    assert [target.port for target in (await look(inside, ports=(8000, 18000))).targets] == [18000]


async def test_two_engines_with_the_same_model_and_without_caddy_are_two() -> None:
    inside = Inside({8000: vllm("m"), 18000: vllm("m")})
    assert [target.port for target in (await look(inside)).targets] == [18000, 8000]


async def test_the_instances_own_configuration_tells_what_caddy_leads_to() -> None:
    """An engine with a key of its own looks the same on both ports."""
    inside = Inside({8000: vllm("m"), 18000: vllm("m")}, tokens={8000: "t", 18000: "t"})
    found = await look(inside, env=[("PORTAL_CONFIG", "localhost:8000:18000:/docs:vLLM API")])
    assert [(one.target.port, one.doors) for one in found.engines] == [(18000, (8000,))]


async def test_no_port_is_examined_twice_and_few_at_a_time() -> None:
    inside = Inside({PORTAL_PORT: PORTAL, **{port: vllm(f"m{port}") for port in (*PORTS, 21434)}})
    found = await look(inside)
    assert [(one.target.port, one.doors) for one in found.engines] == [
        (18000, (8000,)),
        (21434, (11434,)),
        (30000, ()),
        (8080, ()),
        (80, ()),
    ]
    assert inside.peak <= MAX_PARALLEL_PORTS
    assert {inside.asked.count((port, "/get_model_info")) for port in (*PORTS, 21434)} == {1}


async def test_ports_are_examined_while_the_portal_is_being_asked() -> None:
    gate = asyncio.Event()

    class Opening(Inside):
        async def __call__(self, port: int, path: str, **options: Any) -> ProbeResponse:
            answer = await super().__call__(port, path, **options)
            if (port, path) == (18000, "/v1/models"):
                gate.set()
            return answer

    found = await look(Opening({PORTAL_PORT: PORTAL, 18000: sglang()}, gate={PORTAL_PORT: gate}))
    assert [one.service for one in found.engines] == ["SGLang API"]


@pytest.mark.parametrize(
    "answer",
    [
        BackendTimeout("slow", phase="headers"),
        BackendProtocolError("garbage"),
        ProbeResponse(500, {}, b"Internal Server Error"),
        JUPYTER,
        ok([{"internal_base_url": "http://203.0.113.7:1/v1"}, 7, None]),
    ],
)
async def test_a_broken_portal_hides_no_engine(answer: Answer) -> None:
    found = await look(Inside({PORTAL_PORT: {"*": answer}, 18000: sglang()}))
    assert [(one.target.port, one.origin) for one in found.engines] == [(18000, Origin.PROBING)]


async def test_the_portals_word_alone_makes_no_engine() -> None:
    inside = Inside({PORTAL_PORT: PORTAL, 18000: {"*": JUPYTER}, 21434: BackendProtocolError("SSH-2.0")})
    found = await look(inside)
    assert found.engines == ()
    by_port = {one.candidate.port: one for one in found.tried}
    assert by_port[18000] == Attempt(
        Candidate(18000, Origin.PORTAL, "SGLang API"), Outcome.OTHER, Page.JUPYTER
    )
    assert by_port[21434].outcome is Outcome.SILENT


async def test_a_page_that_names_itself_is_not_forgotten_for_one_that_does_not() -> None:
    nameless = ProbeResponse(404, {"content-type": "text/html"}, b"<html><h1>404</h1>")
    (attempt,) = (await look(Inside({80: {"/version": JUPYTER, "*": nameless}}), ports=(80,))).tried
    assert attempt.page is Page.JUPYTER


async def test_an_engine_that_starts_is_pending_and_said() -> None:
    found = await look(Inside({18000: {"*": LOADING}}))
    assert [(target.kind, target.problem) for target in found.pending] == [
        (EngineKind.LLAMACPP, HealthStatus.LOADING)
    ]
    assert found.reason == "the engine on port 18000 is starting"
    assert found.tried[0].outcome is Outcome.STARTING


async def test_an_engine_that_refuses_our_token_is_pending_and_said() -> None:
    locked = {**vllm(), "/v1/models": LOCKED}
    found = await look(Inside({18000: locked}), token="secret")
    assert [target.problem for target in found.pending] == [HealthStatus.UNAUTHORIZED]
    assert found.reason == "port 18000 does not accept our token (set engines.api_key)"
    assert "secret" not in repr(found)


async def test_the_models_of_an_old_ollama_are_read_from_its_own_list() -> None:
    ollama = {"/api/version": ok({"version": "0.1"}), "/api/tags": ok({"models": [{"name": "q"}]})}
    (engine,) = (await look(Inside({11434: ollama}))).engines
    assert engine.models == ("q",)


async def test_an_engine_whose_models_cannot_be_read_any_more_is_one_all_the_same() -> None:
    class Flaky(Inside):
        async def __call__(self, port: int, path: str, **options: Any) -> ProbeResponse:
            answer = await super().__call__(port, path, **options)
            if path == "/v1/models" and self.asked.count((port, path)) > 2:
                raise BackendTimeout("slow", phase="headers")
            return answer

    (engine,) = (await look(Flaky({18000: sglang()}))).engines
    assert engine.models is None


@pytest.mark.parametrize("where", [PORTAL_PORT, 18000, 8080])
@pytest.mark.parametrize("error", [TunnelLost("gone"), TunnelRefused("host key")])
async def test_a_broken_tunnel_ends_the_look(where: int, error: Exception) -> None:
    with pytest.raises(type(error)):
        await look(Inside({where: error}))


async def test_a_look_that_is_cancelled_leaves_nothing_running() -> None:
    gate = asyncio.Event()
    inside = Inside({18000: sglang()}, gate={18000: gate, PORTAL_PORT: gate})
    task = asyncio.get_running_loop().create_task(look(inside))
    while (18000, "/get_model_info") not in inside.asked:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inside.busy == 0


async def test_engines_that_are_known_are_in_the_result_and_are_not_asked_nor_are_their_doors() -> None:
    inside = Inside({PORTAL_PORT: NO_ENDPOINTS, 18000: vllm("a"), 8000: vllm("a"), 30000: sglang("b")})
    target = EngineTarget(EngineKind.VLLM, 18000, "0.11.0")
    known = DiscoveredEngine(target, ("a",), Origin.PORTAL, "vLLM API", (8000,))
    reader = PortalReader(clock=lambda: 0.0)
    found = await discover(
        inside, make_instance(), reader, ports=PORTS, token="t", timeout_s=5.0, known=[known]
    )
    assert found.engines[0] == known
    assert [one.target.port for one in found.engines] == [18000, 30000]
    assert not {18000, 8000} & {port for port, _ in inside.asked}
    assert not {18000, 8000} & {one.candidate.port for one in found.tried}


async def test_a_new_door_to_an_engine_that_is_known_is_no_engine() -> None:
    inside = Inside({8000: vllm("a")}, tokens={8000: "t"})
    target = EngineTarget(EngineKind.VLLM, 18000, "0.11.0")
    known = DiscoveredEngine(target, ("a",), Origin.PROBING)
    reader = PortalReader(clock=lambda: 0.0)
    found = await discover(
        inside, make_instance(), reader, ports=PORTS, token="t", timeout_s=5.0, known=[known]
    )
    assert [(one.target.port, one.doors) for one in found.engines] == [(18000, (8000,))]
