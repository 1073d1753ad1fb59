"""`check_vast_health`: one call, one verdict, no exception."""

import requests
import responses

from tests.unit.vastai.support import URL, Clock, client, data, text
from vastproxy.vastai import VastHealth, check_vast_health

ME = f"{URL}/api/v0/users/current"


def test_healthy_with_the_time_of_the_exchange(web: responses.RequestsMock) -> None:
    clock = Clock()

    def reply(_: object) -> tuple[int, dict[str, str], str]:
        clock.now += 0.125
        return 200, {}, text("user_current.json")

    web.add_callback(web.GET, ME, callback=reply)
    vast = client(clock=clock, min_interval_scale=1.0)
    assert check_vast_health(vast) == VastHealth("healthy", 125.0)
    assert check_vast_health(vast) == VastHealth("healthy", 125.0)
    assert len(clock.slept) == 1  # the wait for the limit is not latency


def test_unhealthy_after_a_single_try(web: responses.RequestsMock) -> None:
    web.get(ME, body=requests.ConnectionError("refused"))
    health = check_vast_health(client())
    assert (health.status, health.latency_ms, health.code) == ("unhealthy", None, "connection_error")
    assert len(web.calls) == 1


def test_a_refused_key_is_unhealthy(web: responses.RequestsMock) -> None:
    web.get(ME, status=401, json=data("error_401.json"))
    health = check_vast_health(client())
    assert health.status == "unhealthy"
    assert "key" in (health.error or "")


def test_a_closed_client_is_unhealthy() -> None:
    vast = client()
    vast.close()
    assert check_vast_health(vast).code == "closed"


def test_even_a_bug_of_ours_does_not_raise(web: responses.RequestsMock) -> None:
    def broken() -> float:
        raise RuntimeError("bug")

    vast = client(clock=type("Broken", (Clock,), {"__call__": lambda self: broken()})())
    health = check_vast_health(vast)
    assert health == VastHealth("unhealthy", None, "the check itself failed (RuntimeError)", "internal")
