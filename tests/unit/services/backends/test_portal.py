"""What the instance portal says is read leniently, bounded, and remembered; whatever it sends does no harm."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.fetch import NO_HEADERS, ProbeResponse
from vastproxy.services.backends.portal import (
    ENDPOINTS_PATH,
    FRESH_S,
    MAX_ANSWER_BYTES,
    MAX_ENTRIES,
    MAX_NAME_CHARS,
    PORTAL_PORT,
    SERVICES_PATH,
    PortalEndpoint,
    PortalReader,
    PortalReading,
    PortalService,
    parse_endpoints,
    parse_services,
)
from vastproxy.services.errors import (
    BackendProtocolError,
    BackendTimeout,
    ChannelRefused,
    ResponseInterrupted,
    TunnelLost,
    TunnelRefused,
)

FIXTURES = Path(__file__).parents[3] / "fixtures" / "portal"
JSON = {"content-type": "application/json"}
PAGE = b"<!DOCTYPE html><html><head><title>Vast.ai Instance Portal</title></head></html>"

Answer = ProbeResponse | Exception


def ok(value: Any, status: int = 200) -> ProbeResponse:
    return ProbeResponse(status, JSON, json.dumps(value).encode())


def recorded(name: str) -> ProbeResponse:
    return ProbeResponse(200, JSON, (FIXTURES / name).read_bytes())


ENDPOINTS = recorded("endpoints.json")
SERVICES = recorded("services.json")


class Portal:
    """Answers by path, and counts; each answer takes `took_s` of its clock."""

    def __init__(self, endpoints: Answer, services: Answer = SERVICES, *, took_s: float = 0.0) -> None:
        self.answers = {ENDPOINTS_PATH: endpoints, SERVICES_PATH: services}
        self.asked: list[tuple[str, float]] = []
        self.now = 1000.0
        self._took_s = took_s

    def clock(self) -> float:
        return self.now

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
        assert (port, method, body) == (PORTAL_PORT, "GET", b"")
        assert "authorization" not in headers
        self.asked.append((path, timeout_s))
        self.now += self._took_s
        await asyncio.sleep(0)
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


def test_the_real_lists() -> None:
    endpoints, services = parse_endpoints(ENDPOINTS), parse_services(SERVICES)
    assert endpoints == (PortalEndpoint("SGLang API", 18000), PortalEndpoint("Ollama API", 21434))
    assert services is not None
    reading = PortalReading(endpoints, services)
    assert reading.doors == {1111: 11111, 8000: 18000, 11434: 21434, 8080: 18080}
    sglang = PortalService("SGLang API", 18000, 8000, "RUNNING")
    assert reading.service_on(18000) == reading.service_on(8000) == sglang
    assert not sglang.is_dead
    ollama = reading.service_on(21434)
    assert ollama is not None
    assert ollama.is_dead
    assert reading.service_on(30000) is None


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://localhost:18000/v1", 18000),
        ("http://127.0.0.1:8000", 8000),
        ("http://0.0.0.0:8000/v1/", 8000),
        ("http://[::1]:8000/v1", 8000),
        ("http://LOCALHOST:8000/v1", 8000),
        ("http://localhost/v1", 80),
        ("https://localhost:8000/v1", None),
        ("http://203.0.113.7:41080/v1", None),
        ("http://metadata.internal:80/v1", None),
        ("http://localhost@203.0.113.7:80/v1", None),
        ("http://localhost:0/v1", None),
        ("http://localhost:70000/v1", None),
        ("http://localhost:x/v1", None),
        ("http://[::1/v1", None),
        ("localhost:18000", None),
        ("file:///etc/passwd", None),
        ("http://localhost:" + "1" * 5000, None),
        ("", None),
        (None, None),
        (18000, None),
        (["http://localhost:18000"], None),
    ],
)
def test_only_ports_of_the_instance_itself_are_taken(url: object, port: int | None) -> None:
    found = parse_endpoints(ok([{"service": "x", "internal_base_url": url}]))
    assert found == (() if port is None else (PortalEndpoint("x", port),))


def test_a_list_is_bounded_and_each_port_is_there_once() -> None:
    def row(port: int) -> dict[str, str]:
        return {"service": f"s{port}", "internal_base_url": f"http://localhost:{port}/v1"}

    found = parse_endpoints(ok([row(1 + number % 100) for number in range(1_000)]))
    assert found is not None
    assert [one.port for one in found] == list(range(1, MAX_ENTRIES + 1))
    twice = parse_endpoints(ok([row(5), {**row(5), "service": "other"}]))
    assert twice == (PortalEndpoint("s5", 5),)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("  vLLM API ", "vLLM API"),
        ("a\nb", ""),
        ("\x1b[31mred", ""),
        ("x" * 500, "x" * MAX_NAME_CHARS),
        (None, ""),
        (7, ""),
        ({}, ""),
    ],
)
def test_a_name_can_be_shown_in_a_log(name: object, read: str) -> None:
    found = parse_endpoints(ok([{"service": name, "internal_base_url": "http://localhost:1/v1"}]))
    assert found == (PortalEndpoint(read, 1),)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"name": "x"},
        {"name": "x", "internal_port": None},
        {"name": "x", "internal_port": True},
        {"name": "x", "internal_port": 0},
        {"name": "x", "internal_port": 1e99},
        {"name": "x", "internal_port": "many"},
    ],
)
def test_a_service_without_a_port_is_none(row: dict[str, object]) -> None:
    assert parse_services(ok([row])) == ()


def test_a_service_may_lack_all_but_its_port() -> None:
    assert parse_services(ok([{"internal_port": "8000", "external_port": "no"}])) == (
        PortalService("", 8000),
    )
    assert PortalReading(services=(PortalService("", 8000), PortalService("", 9, 9))).doors == {}


@pytest.mark.parametrize(
    "answer",
    [
        ok([], 404),
        ok([], 500),
        ok({"endpoints": []}),
        ok("text"),
        ok(None),
        ProbeResponse(200, JSON, b""),
        ProbeResponse(200, JSON, b"[{"),
        ProbeResponse(200, JSON, b"\xff\xfe"),
        ProbeResponse(200, JSON, b"[" * 100_000),
        ProbeResponse(200, JSON, b"[" + b"1," * MAX_ANSWER_BYTES + b"1]"),
        ProbeResponse(200, {"content-type": "text/html"}, PAGE),
        ProbeResponse(200, {"content-type": "text/html"}, b"[]"),
        ProbeResponse(200, {"x-portal-placeholder": "true"}, b"[]"),
    ],
    ids=lambda answer: answer.body[:12],
)
def test_anything_else_is_no_list(answer: ProbeResponse) -> None:
    assert parse_endpoints(answer) is None
    assert parse_services(answer) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["service", "internal_base_url", "name", "internal_port", "external_port", "state"])


@given(rows=st.lists(st.dictionaries(KEYS, VALUES) | VALUES, max_size=6))
def test_no_json_breaks_it(rows: list[Any]) -> None:
    answer = ok(rows)
    for endpoint in parse_endpoints(answer) or ():
        assert 1 <= endpoint.port <= 65535
    for service in parse_services(answer) or ():
        assert 1 <= service.internal_port <= 65535
        assert service.name.isprintable()


@given(body=st.binary(max_size=200), status=st.integers(100, 599))
def test_no_bytes_break_it(body: bytes, status: int) -> None:
    answer = ProbeResponse(status, {}, body)
    parse_endpoints(answer)
    parse_services(answer)


async def test_both_lists_are_read_within_one_limit() -> None:
    portal = Portal(ENDPOINTS, took_s=2.0)
    reading = await PortalReader(clock=portal.clock).read(portal, timeout_s=5.0)
    assert portal.asked == [(ENDPOINTS_PATH, 5.0), (SERVICES_PATH, 3.0)]
    assert (reading.problem, reading.exists) == ("", True)
    assert [one.port for one in reading.endpoints] == [18000, 21434]
    assert len(reading.services) == 4


async def test_a_slow_portal_is_not_asked_for_its_services() -> None:
    portal = Portal(ENDPOINTS, took_s=5.0)
    reading = await PortalReader(clock=portal.clock).read(portal, timeout_s=5.0)
    assert portal.paths == [ENDPOINTS_PATH]
    assert reading.services == ()
    assert len(reading.endpoints) == 2


@pytest.mark.parametrize(
    "services", [ok([], 500), BackendTimeout("slow", phase="headers"), ChannelRefused("closed"), ok({})]
)
async def test_the_services_are_not_needed(services: Answer) -> None:
    portal = Portal(ENDPOINTS, services)
    reading = await PortalReader(clock=portal.clock).read(portal, timeout_s=5.0)
    assert len(reading.endpoints) == 2
    assert (reading.services, reading.problem) == ((), "")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (BackendTimeout("x", phase="headers"), "did not answer within 5 s"),
        (BackendProtocolError("garbage"), "port 11111 does not answer as the portal does"),
        (ok({"detail": "Not Found"}, 404), "does not list endpoints yet"),
        (ok({"detail": "x"}, 500), "port 11111 answers 500, but not as the portal does"),
        (ProbeResponse(200, {"content-type": "text/html"}, PAGE), "vast.ai's instance portal"),
        (ok({}), "port 11111 answers 200, but not as the portal does"),
    ],
)
async def test_what_is_wrong_with_a_portal_is_said_once_a_minute(answer: Answer, said: str) -> None:
    portal = Portal(answer)
    reader = PortalReader(clock=portal.clock)
    reading = await reader.read(portal, timeout_s=5.0)
    assert said in reading.problem
    assert "\n" not in reading.problem
    assert (reading.endpoints, reading.exists) == ((), True)
    portal.answers[ENDPOINTS_PATH] = ENDPOINTS
    assert await reader.read(portal, timeout_s=5.0) is reading
    assert len(portal.asked) == 1
    portal.now += FRESH_S
    assert (await reader.read(portal, timeout_s=5.0)).problem == ""


async def test_an_answer_is_remembered_for_a_minute() -> None:
    portal = Portal(ENDPOINTS)
    reader = PortalReader(clock=portal.clock)
    first = await reader.read(portal, timeout_s=5.0)
    portal.now += FRESH_S - 1
    assert await reader.read(portal, timeout_s=5.0) is first
    portal.now += 1
    assert await reader.read(portal, timeout_s=5.0) is not first
    assert portal.paths == [ENDPOINTS_PATH, SERVICES_PATH] * 2


async def test_who_hangs_up_is_asked_again_at_once() -> None:
    """It may have been the tunnel that ended."""
    portal = Portal(ResponseInterrupted("it hung up", received=False))
    reader = PortalReader(clock=portal.clock)
    reading = await reader.read(portal, timeout_s=5.0)
    assert reading.problem == "port 11111 does not answer as the portal does"
    portal.answers[ENDPOINTS_PATH] = ENDPOINTS
    assert (await reader.read(portal, timeout_s=5.0)).problem == ""


async def test_a_closed_port_is_asked_again_at_once() -> None:
    """It costs nothing, and the portal may be starting."""
    portal = Portal(ChannelRefused("closed"))
    reader = PortalReader(clock=portal.clock)
    reading = await reader.read(portal, timeout_s=5.0)
    assert (reading.exists, reading.problem) == (False, "the instance has no portal")
    portal.answers[ENDPOINTS_PATH] = ENDPOINTS
    assert (await reader.read(portal, timeout_s=5.0)).exists


@pytest.mark.parametrize("path", [ENDPOINTS_PATH, SERVICES_PATH])
@pytest.mark.parametrize("error", [TunnelLost("gone"), TunnelRefused("host key")])
async def test_a_broken_tunnel_says_nothing_about_the_portal(path: str, error: Exception) -> None:
    portal = Portal(ENDPOINTS)
    portal.answers[path] = error
    reader = PortalReader(clock=portal.clock)
    with pytest.raises(type(error)):
        await reader.read(portal, timeout_s=5.0)
    portal.answers = {ENDPOINTS_PATH: ENDPOINTS, SERVICES_PATH: SERVICES}
    assert len((await reader.read(portal, timeout_s=5.0)).services) == 4


async def test_the_loop_is_the_clock_by_default() -> None:
    portal = Portal(ENDPOINTS)
    reader = PortalReader()
    assert await reader.read(portal, timeout_s=5.0) is await reader.read(portal, timeout_s=5.0)
