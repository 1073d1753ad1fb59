"""What a look inside an instance comes to, in words."""

import asyncio
from collections.abc import Mapping

import pytest

from tests.helpers.builders import make_instance
from tests.helpers.plain import PlainEngine, PlainTunnel
from vastproxy.services.backends.discovery import Discovery
from vastproxy.services.backends.discovery_plan import DiscoveredEngine, Origin
from vastproxy.services.backends.engine_health import HealthReport
from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget, HealthStatus
from vastproxy.services.backends.fetch import NO_HEADERS, ProbeResponse
from vastproxy.services.backends.gpus import Failure, Gpu, GpuReading
from vastproxy.services.diagnosis import inside
from vastproxy.services.diagnosis.check import Check, Verdict
from vastproxy.services.diagnosis.inside import Probed, engine_checks, gpu_check, probe, read_gpus, search
from vastproxy.services.errors import TunnelLost
from vastproxy.services.tunnels.base import CommandResult, Path, SshAddress
from vastproxy.settings.model import EngineSettings

INSTANCE = make_instance()
SETTINGS = EngineSettings(ports=(18000,), detect_timeout_s=1.0, health_timeout_s=1.0)
OK, WARN, FAIL, SKIP = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIP


def engine(
    models: tuple[str, ...] | None = ("m",), *, needs_token: bool = False, version: str | None = "0.11"
) -> DiscoveredEngine:
    target = EngineTarget(EngineKind.VLLM, 18000, version, needs_token=needs_token)
    return DiscoveredEngine(target, models, Origin.PROBING)


def look(
    status: HealthStatus = HealthStatus.HEALTHY, detail: str = "ok", one: DiscoveredEngine | None = None
) -> list[tuple[str, Verdict, str]]:
    one = one or engine()
    probed = Probed(one, HealthReport(status, detail, 0.05))
    return shown(engine_checks(Discovery((one,)), (probed,), INSTANCE))


def shown(checks: tuple[Check, ...]) -> list[tuple[str, Verdict, str]]:
    for check in checks:
        assert check.instance == INSTANCE.id
        assert bool(check.fix) == (check.verdict in (WARN, FAIL)), check
    return [(check.id, check.verdict, check.detail) for check in checks]


def test_a_healthy_engine() -> None:
    assert look() == [
        ("engine", OK, "vllm 0.11 on port 18000, healthy after 50 ms"),
        ("models", OK, "m"),
        ("engine_token", OK, "not asked for"),
    ]


def test_a_token_that_is_accepted_and_many_models() -> None:
    found = look(one=engine(("a", "b", "c", "d", "e", "f"), needs_token=True, version=None))
    assert found[0][2].startswith("vllm on port")
    assert found[1][2] == "a, b, c, d and 2 more"
    assert found[2][2] == "asked for, and ours is accepted"


def test_an_engine_that_lists_no_model() -> None:
    assert look(one=engine(()))[1] == ("models", WARN, "it lists none")
    assert look(one=engine(None))[1] == ("models", WARN, "its list cannot be read")


def test_an_engine_that_is_not_well() -> None:
    loading = look(HealthStatus.LOADING, "the model is loading", engine(None))
    assert [verdict for _, verdict, _ in loading] == [WARN, SKIP, OK]
    ill = look(HealthStatus.UNHEALTHY, "port 18000 answered 500 to /health")
    assert ill[0] == ("engine", FAIL, "vllm 0.11 on port 18000: port 18000 answered 500 to /health")
    locked = look(HealthStatus.UNAUTHORIZED, "it does not accept our token")
    assert locked[2] == ("engine_token", FAIL, "it does not accept our token")


def pending(problem: HealthStatus) -> Discovery:
    target = EngineTarget(EngineKind.OPENAI, 8000, problem=problem)
    return Discovery(pending=(target,), reason=target.trouble)


def test_no_engine() -> None:
    nothing = Discovery(reason="no inference engine answers on the ports 18000")
    assert shown(engine_checks(nothing, (), INSTANCE)) == [("engine", FAIL, nothing.reason)]
    assert shown(engine_checks("the tunnel ended", (), INSTANCE)) == [("engine", FAIL, "the tunnel ended")]
    starting = engine_checks(pending(HealthStatus.LOADING), (), INSTANCE)
    assert shown(starting) == [("engine", WARN, "the engine on port 8000 is starting")]
    locked = shown(engine_checks(pending(HealthStatus.UNAUTHORIZED), (), INSTANCE))
    assert [(id, verdict) for id, verdict, _ in locked] == [("engine", WARN), ("engine_token", FAIL)]


# ── GPUs ───────────────────────────────────────────────────────────────────────────────────────

H100 = Gpu(
    0,
    name="H100",
    utilization_percent=80,
    temperature_c=60,
    memory_used_mib=1024,
    memory_total_mib=81_920,
)


def test_gpus_in_words() -> None:
    both = GpuReading((H100, Gpu(1, name="H100", utilization_percent=90, temperature_c=71)))
    check = gpu_check(both, make_instance(num_gpus=2))
    assert (check.verdict, check.detail) == (OK, "2x H100, 85 % busy, 71 °C, 1.0 of 80.0 GiB used")
    assert gpu_check(GpuReading((Gpu(0),)), make_instance()).detail == "1x GPU"


def test_gpus_that_are_missing_or_broken() -> None:
    few = gpu_check(GpuReading((H100,)), make_instance(num_gpus=4))
    assert (few.verdict, few.detail[:18]) == (WARN, "1 of 4 are seen; 1")
    broken = gpu_check(GpuReading((Gpu(0, name="H100", needs_reset=True),)), INSTANCE)
    assert (broken.verdict, broken.detail) == (FAIL, "1x H100; GPU 0: needs a reset")
    half = gpu_check(GpuReading((H100,), error="GPU 1 is lost", failure=Failure.OTHER), INSTANCE)
    assert half.verdict is WARN
    none = gpu_check(GpuReading(error="nvidia-smi is missing", failure=Failure.NOT_INSTALLED), INSTANCE)
    assert (none.verdict, none.detail) == (WARN, "nvidia-smi is missing")
    dead = gpu_check(GpuReading(error="the driver does not answer", failure=Failure.NO_DRIVER), INSTANCE)
    assert dead.verdict is FAIL
    silent = gpu_check("nvidia-smi does not answer; a GPU may hang", INSTANCE)
    assert silent.verdict is WARN
    assert all(check.fix for check in (few, broken, half, none, dead, silent))


class Commanded(PlainTunnel):
    """Answers commands in turn."""

    def __init__(self, *answers: CommandResult | Exception) -> None:
        super().__init__(PlainEngine(), 7, SshAddress("203.0.113.7", 22, Path.DIRECT))
        self._answers = list(answers)

    async def run(self, command: str, *, timeout_s: float, max_output_bytes: int = 1 << 20) -> CommandResult:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_driver_that_knows_less_is_asked_for_less() -> None:
    refusal = CommandResult(2, 'Field "fan.speed" is not a valid field to query.\n', "")
    row = CommandResult(
        0, "0, GPU-0, RTX 4090, 570.1, 37, 21, 21044, 24564, 52, 288.41, 450.00, P2, [N/A]\n", ""
    )
    reading = await read_gpus(Commanded(refusal, row), INSTANCE, SETTINGS)
    assert isinstance(reading, GpuReading)


@pytest.mark.parametrize("error", [TimeoutError("slow"), TunnelLost("the line broke")])
async def test_gpus_that_cannot_be_asked(error: Exception) -> None:
    reading = await read_gpus(Commanded(error), INSTANCE, SETTINGS)
    assert reading == (
        "the line broke" if isinstance(error, TunnelLost) else "nvidia-smi does not answer; a GPU may hang"
    )


# ── asking ─────────────────────────────────────────────────────────────────────────────────────


async def lost(
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] = NO_HEADERS,
    body: bytes = b"",
    timeout_s: float,
) -> ProbeResponse:
    raise TunnelLost("the line broke")


async def test_a_line_that_breaks_is_told() -> None:
    assert await search(lost, INSTANCE, SETTINGS, None) == "the line broke"
    with pytest.raises(TunnelLost):
        await probe(lost, [engine()], SETTINGS, None)


async def test_a_search_without_end_is_ended() -> None:
    async def silent(
        port: int,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes = b"",
        timeout_s: float,
    ) -> ProbeResponse:
        await asyncio.Event().wait()
        raise AssertionError

    found = await search(silent, INSTANCE, SETTINGS, None, limit_s=0.05)
    assert found == "looking at its ports took longer than 0.05 s"
    assert inside.SEARCH_LIMIT_S < 60
