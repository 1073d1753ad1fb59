"""vast.ai on a bad day: whatever its API answers, the machines that serve go on serving, and the proxy says so."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.scene import Scene, ask, open_scene, served_by
from tests.helpers.vastapi import Fault

#: What the API can say instead of a list, and a word of the reason that must then be told.
BAD_ANSWERS = {
    Fault.RATE_LIMIT_TEXT: "fewer calls",
    Fault.RATE_LIMIT_DETAIL: "fewer calls",
    Fault.RATE_LIMIT_JSON: "fewer calls",
    Fault.BAD_GATEWAY_HTML: "HTTP 502",
    Fault.SERVER_ERROR_JSON: "HTTP 500",
    Fault.FORBIDDEN_HTML: "HTTP 403",
    Fault.BAD_KEY_401: "does not accept the key",
    Fault.TRUNCATED_JSON: "no JSON",
    Fault.SUCCESS_FALSE: "simulated_failure",
}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


def is_out(report: dict[str, Any]) -> bool:
    return bool(report["vast_api"]["status"] == "unhealthy")


def is_well(report: dict[str, Any]) -> bool:
    return bool(report["vast_api"]["status"] == "healthy" and report["status"] == "healthy")


async def both_serve(proxy: ProxyProcess) -> None:
    assert {served_by(await ask(proxy)) for _ in range(2)} == {101, 102}


async def test_no_bad_answer_empties_the_pool(scene: Scene) -> None:
    """Each way to fail is told with its reason, changes nothing about who serves, and heals by itself."""
    await scene.rent(101, 102)
    proxy = await scene.serve(VASTPROXY_LABEL="none", VASTPROXY_FLEET__POLL_INTERVAL_S="0.2")
    for fault, reason in BAD_ANSWERS.items():
        lists = len(scene.api.lists)
        scene.api.faults.always(fault)
        # More failures in a row than the absences that would make the proxy forget an instance.
        await scene.api.until(lambda lists=lists: len(scene.api.lists) >= lists + 3)  # type: ignore[misc]
        report = await proxy.wait_health(is_out, what=f"{fault} is noticed")
        assert reason in report["vast_api"]["error"], fault
        assert (report["status"], report["backends"]["healthy"]) == ("degraded", 2), fault
        assert "vast.ai" in report["reason"], fault
        await both_serve(proxy)
        scene.api.faults.clear()
        await proxy.wait_health(is_well, what=f"healed after {fault}")
    assert not proxy.lines("removed")


async def test_an_api_that_hangs_holds_up_nobody(scene: Scene) -> None:
    """Requests are served while the API is silent; its read timeout makes the silence a reason; then it heals."""
    await scene.rent(101, 102)
    proxy = await scene.serve(VASTPROXY_LABEL="none", VASTPROXY_VAST__READ_TIMEOUT_S="1")
    scene.api.faults.always(Fault.HANG)
    report = await proxy.wait_health(is_out, what="the silence is noticed")
    assert "did not answer in time" in report["vast_api"]["error"]
    assert report["status"] == "degraded"
    await both_serve(proxy)
    scene.api.faults.clear()
    await proxy.wait_health(is_well, what="healed")
    assert not proxy.lines("removed")


async def test_an_api_that_hangs_does_not_hold_up_the_end(scene: Scene) -> None:
    """SIGTERM while a list is being waited for: the process ends in time, whatever the read timeout is."""
    await scene.rent(101)
    proxy = await scene.serve(VASTPROXY_LABEL="none", VASTPROXY_VAST__READ_TIMEOUT_S="60")
    scene.api.faults.always(Fault.HANG)
    lists = len(scene.api.lists)
    await scene.api.until(lambda: len(scene.api.lists) > lists)
    began = time.monotonic()
    proxy.signal(signal.SIGTERM)
    assert await proxy.wait(limit_s=40) == 0
    assert time.monotonic() - began < 20, "it waited for the API"


async def test_an_api_that_is_gone_is_found_again(scene: Scene) -> None:
    """Nobody listens at its address for a while; label writes that failed meanwhile are made up for."""
    await scene.rent(101, 102)
    proxy = await scene.serve()
    await scene.api.until(lambda: set(scene.api.labels().values()) == {"proxied"})
    await scene.api.stop()
    report = await proxy.wait_health(is_out, what="the outage is noticed")
    assert "connection to vast.ai failed" in report["vast_api"]["error"]
    await scene.machines[102].stop_sshd()
    await proxy.wait_healthy(1)
    assert served_by(await ask(proxy)) == 101
    await scene.api.start()
    await scene.api.until(lambda: scene.api.labels() == {101: "proxied", 102: ""})
    await scene.machines[102].start_sshd()
    await proxy.wait_health(is_well, what="healed")
    await both_serve(proxy)


async def test_one_empty_list_is_a_gap_and_two_are_an_answer(scene: Scene) -> None:
    """A single empty list between full ones removes nobody; a second in a row does; a full one brings them back."""
    await scene.rent(101, 102)
    proxy = await scene.serve(VASTPROXY_LABEL="none")
    lists = len(scene.api.lists)
    scene.api.faults.next(Fault.EMPTY_LIST)
    await scene.api.until(lambda: len(scene.api.lists) >= lists + 3)
    assert not proxy.lines("removed")
    await both_serve(proxy)

    scene.api.faults.next(Fault.EMPTY_LIST, times=2)
    await asyncio.gather(proxy.says("[backend=101] removed"), proxy.says("[backend=102] removed"))
    assert scene.api.faults.pending == 0
    await proxy.wait_healthy(2)
    await both_serve(proxy)


async def test_a_start_during_an_outage_heals_by_itself(scene: Scene) -> None:
    """Without any list the proxy listens, answers 503 with the reason, and serves once the API answers."""
    await scene.rent(101, 102)
    scene.api.faults.always(Fault.BAD_GATEWAY_HTML)
    proxy = await scene.serve(healthy=0, VASTPROXY_LABEL="none")
    report = await proxy.wait_health(is_out, what="the outage is noticed")
    assert report["status"] == "unhealthy"
    assert "HTTP 502" in report["reason"]
    assert (await proxy.ask("GET", "/healthz")).status == 503
    assert (await proxy.ask("GET", "/livez")).status == 200
    answer = await ask(proxy)
    assert answer.status == 503
    assert int(answer.header("retry-after") or 0) >= 1
    error = json.loads(answer.body)["error"]
    assert error["code"] == "no_backend_available"
    assert "HTTP 502" in error["message"]
    scene.api.faults.clear()
    await proxy.wait_health(is_well, what="healed")
    await both_serve(proxy)
