"""What an engine's answer to the health request means, kind by kind."""

from collections.abc import Iterator, Mapping

import pytest

from vastproxy.services.backends.engines import (
    EngineKind,
    EngineTarget,
    HealthReport,
    HealthStatus,
    ProbeResponse,
    check_health,
)
from vastproxy.services.backends.fetch import NO_HEADERS
from vastproxy.services.errors import (
    BackendTimeout,
    ChannelRefused,
    ResponseInterrupted,
    TunnelLost,
    TunnelRefused,
)

HEALTHY, LOADING, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.LOADING, HealthStatus.UNHEALTHY
UNAUTHORIZED = HealthStatus.UNAUTHORIZED
EVERY_KIND = list(EngineKind)
OPENAI = EngineTarget(EngineKind.OPENAI, 8000)
BY_MODELS = EngineTarget(EngineKind.OPENAI, 8000, health_path="/v1/models")


def target(kind: EngineKind) -> EngineTarget:
    path = "/api/version" if kind is EngineKind.OLLAMA else "/health"
    return EngineTarget(kind, 8000, health_path=path)


class Once:
    """Answers the one request that is expected, and says how long it took."""

    def __init__(self, answer: ProbeResponse | Exception, took_s: float = 0.25) -> None:
        self._answer = answer
        self._times = [100.0, 100.0 + took_s]
        self.asked: tuple[int, str, float] | None = None
        self.headers: Mapping[str, str] = {}

    def clock(self) -> float:
        return self._times.pop(0)

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
        assert self.asked is None
        assert (method, body) == ("GET", b"")
        self.asked, self.headers = (port, path, timeout_s), headers
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


async def health(
    at: EngineTarget, answer: ProbeResponse | Exception, *, took_s: float = 0.25, token: str | None = "t"
) -> HealthReport:
    fetch = Once(answer, took_s)
    report = await check_health(fetch, at, token=token, timeout_s=25.0, clock=fetch.clock)
    assert fetch.asked == (at.port, at.health_path, 25.0)
    assert fetch.headers.get("authorization") == (f"Bearer {token}" if token else None)
    return report


def plain(status: int, body: bytes = b"", kind: str = "text/plain") -> ProbeResponse:
    return ProbeResponse(status, {"content-type": kind}, body)


def cases() -> Iterator[tuple[EngineTarget, ProbeResponse, HealthStatus]]:
    sglang, vllm, tgi = target(EngineKind.SGLANG), target(EngineKind.VLLM), target(EngineKind.TGI)
    llamacpp, ollama = target(EngineKind.LLAMACPP), target(EngineKind.OLLAMA)
    yield sglang, plain(200), HEALTHY
    yield vllm, plain(200), HEALTHY
    yield vllm, plain(503), UNHEALTHY
    yield vllm, plain(500), UNHEALTHY
    yield tgi, plain(200), HEALTHY
    yield tgi, plain(503, b'{"error":"unhealthy","error_type":"healthcheck"}'), UNHEALTHY
    yield llamacpp, plain(200, b'{"status":"ok"}'), HEALTHY
    yield llamacpp, plain(200, b'{"status":"no slot available"}'), HEALTHY
    yield llamacpp, plain(200), UNHEALTHY
    yield llamacpp, plain(503, b'{"error":{"code":503,"message":"Loading model"}}'), LOADING
    yield llamacpp, plain(503, b'{"status":"loading model"}'), LOADING
    yield llamacpp, plain(503, b'{"error":"Loading model"}'), UNHEALTHY
    yield llamacpp, plain(500, b'{"status":"error"}'), UNHEALTHY
    yield ollama, plain(200, b'{"version":"0.11.4"}'), HEALTHY
    yield ollama, plain(200, b"Ollama is running"), UNHEALTHY
    yield OPENAI, plain(200, b'{"status":"ok"}'), HEALTHY
    yield OPENAI, plain(200, b'{"status":"healthy"}'), HEALTHY
    yield OPENAI, plain(200, b'{"status":true}'), HEALTHY
    yield OPENAI, plain(200), HEALTHY
    yield OPENAI, plain(200, b'{"status":"Unhealthy"}'), UNHEALTHY
    yield OPENAI, plain(503, b'{"status":"unhealthy","reason":"cb_worker_dead"}'), UNHEALTHY
    yield OPENAI, plain(200, b'{"status":"Loading"}'), LOADING
    yield OPENAI, plain(503, b'{"status":"starting"}'), LOADING
    yield OPENAI, plain(200, b"All systems go"), HEALTHY
    yield OPENAI, plain(200, b"Unhealthy."), UNHEALTHY
    yield OPENAI, plain(200, b"OK\n"), HEALTHY
    for each in EVERY_KIND:
        yield target(each), plain(200, b"model is loading"), LOADING
        yield target(each), plain(503, b"Starting, please wait"), LOADING
        yield target(each), plain(500, b"Error while loading the model"), UNHEALTHY
        if each is not EngineKind.OPENAI:
            yield target(each), plain(200, b"It works!"), UNHEALTHY
    yield OPENAI, plain(404), UNHEALTHY
    yield BY_MODELS, plain(200, b'{"object":"list","data":[]}'), HEALTHY
    yield BY_MODELS, plain(200, b'{"detail":"x"}'), UNHEALTHY
    yield BY_MODELS, plain(200), UNHEALTHY


@pytest.mark.parametrize(("at", "answer", "expected"), list(cases()))
async def test_each_kind_says_it_in_its_own_way(
    at: EngineTarget, answer: ProbeResponse, expected: HealthStatus
) -> None:
    report = await health(at, answer)
    assert report.status is expected
    assert report.latency_s == pytest.approx(0.25)
    assert "\n" not in report.detail


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_told_apart_and_never_shown(kind: EngineKind, status: int) -> None:
    report = await health(target(kind), plain(status), token="s3cr3t")
    assert report.status is UNAUTHORIZED
    assert "engines.api_key" in report.detail
    assert "s3cr3t" not in repr(report)


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("body", [b"<!DOCTYPE html><p>", b"\n <HTML>", b""])
async def test_a_page_is_no_engine_whatever_its_status(kind: EngineKind, body: bytes) -> None:
    report = await health(target(kind), plain(200, body, "text/html" if not body else "text/plain"))
    assert report.status is UNHEALTHY
    assert "web page" in report.detail


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_the_gateways_placeholder_says_that_the_engine_is_down(kind: EngineKind) -> None:
    """Through Cloudflare it comes as 200, and no matter what it looks like."""
    answer = ProbeResponse(200, {"x-portal-placeholder": "true"}, b'{"status":"ok","version":"1"}')
    report = await health(target(kind), answer)
    assert report.status is UNHEALTHY
    assert "engine is down" in report.detail


@pytest.mark.parametrize(
    ("took_s", "expected"), [(0.01, LOADING), (0.99, LOADING), (1.0, UNHEALTHY), (20, UNHEALTHY)]
)
async def test_sglang_is_starting_if_its_503_is_quicker_than_a_generation(
    took_s: float, expected: HealthStatus
) -> None:
    report = await health(target(EngineKind.SGLANG), plain(503), took_s=took_s)
    assert report.status is expected


async def test_a_closed_port_is_told_apart() -> None:
    report = await health(OPENAI, ChannelRefused("port 8000 does not accept"), token=None)
    assert report.status is HealthStatus.CLOSED
    assert report.detail == "port 8000 is closed"


@pytest.mark.parametrize(
    "error",
    [
        BackendTimeout("no answer within 25 s", phase="headers"),
        ResponseInterrupted("it broke off", received=True),
    ],
)
async def test_an_engine_that_fails_to_answer_is_unhealthy_for_that_reason(error: Exception) -> None:
    report = await health(OPENAI, error, took_s=25.0)
    assert report.status is UNHEALTHY
    assert report.detail == str(error)
    assert report.latency_s == pytest.approx(25.0)


@pytest.mark.parametrize("error", [TunnelLost("closed"), TunnelRefused("host key")])
async def test_a_broken_tunnel_says_nothing_about_the_engine(error: Exception) -> None:
    with pytest.raises(type(error)):
        await health(OPENAI, error)


async def test_the_loop_is_the_clock_by_default() -> None:
    report = await check_health(Once(plain(200)), OPENAI, token=None, timeout_s=1.0)
    assert 0 <= report.latency_s < 5
