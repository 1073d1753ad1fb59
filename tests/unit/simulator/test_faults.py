"""Which call meets which fault."""

import asyncio

from vastproxy.simulator.faults import Fault, Faults

V1, V0 = "/api/v1/instances/", "/api/v0/instances/"


async def test_faults_come_in_order_and_are_used_up() -> None:
    faults = Faults()
    faults.next("rate_limit_text", times=2)
    faults.next(Fault.BAD_GATEWAY_HTML)
    met = [faults.take("GET", V1) for _ in range(4)]
    assert met == [Fault.RATE_LIMIT_TEXT, Fault.RATE_LIMIT_TEXT, Fault.BAD_GATEWAY_HTML, None]
    assert faults.pending == 0


async def test_a_fault_meets_only_the_calls_it_was_meant_for() -> None:
    faults = Faults()
    faults.next(Fault.SERVER_ERROR_JSON, path="users", method="get")
    assert faults.take("GET", V1) is None
    assert faults.take("PUT", "/api/v0/users/current") is None
    assert faults.take("GET", "/api/v0/users/current") is Fault.SERVER_ERROR_JSON


async def test_list_faults_wait_for_a_list() -> None:
    """An empty list is for lists; a missing v1 is for the new list only, so that the old one is found."""
    faults = Faults()
    faults.next(Fault.EMPTY_LIST)
    faults.always(Fault.NO_V1)
    assert faults.take("PUT", V0) is None
    assert faults.take("GET", V0 + "7/") is None
    assert faults.take("GET", V0) is Fault.EMPTY_LIST
    assert faults.take("GET", V0) is None
    assert faults.take("GET", V1) is Fault.NO_V1
    assert faults.take("GET", V1) is Fault.NO_V1
    faults.clear()
    assert faults.take("GET", V1) is None


async def test_release_lets_go_on_what_hangs_now_and_nothing_later() -> None:
    faults = Faults()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(faults.hang())
        await asyncio.sleep(0)
        assert faults.hanging == 1
        faults.release()
        await first
        second = group.create_task(faults.hang())
        await asyncio.sleep(0)
        assert not second.done()
        faults.release()
    assert faults.hanging == 0
