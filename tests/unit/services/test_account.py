"""What is known of the account's money: never a guess, and never an alarm of its own."""

import asyncio
import logging
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.builders import make_instance
from vastproxy.jobs.account import AccountJob
from vastproxy.services.account import KNOWN_FOR_S, REFUSED_FOR_S, Account
from vastproxy.services.events import CreditLow, FleetEvent, line_of
from vastproxy.services.funds import AccountSnapshot, snapshot_of
from vastproxy.services.tasks import Tasks
from vastproxy.vastai import (
    PriceRise,
    User,
    VastClient,
    VastError,
    VastNotFound,
    VastUnauthorized,
    VastUnavailable,
)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


RISE = PriceRise(999, 48001001, 0.36, 0.45)


class Asked:
    """The two calls that an account makes, answered from attributes."""

    def __init__(self) -> None:
        self.credit: float | None = 37.4182
        self.error: VastError | None = None
        self.calls = 0
        self.rises: tuple[PriceRise, ...] | VastError = ()
        self.asked_for_rises = 0

    def current_user(self) -> User:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return User(id=7, credit=self.credit)

    def price_rises(self) -> tuple[PriceRise, ...]:
        self.asked_for_rises += 1
        if isinstance(self.rises, VastError):
            raise self.rises
        return self.rises


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def account(asked: Asked, clock: Clock) -> Account:
    return Account(cast(VastClient, asked), clock=clock)


async def test_credit_cost_and_hours(account: Account) -> None:
    assert account.snapshot() == AccountSnapshot(None, None, None)
    account.listed(
        [
            make_instance(id=1, dph_total=0.5, instance={"totalHour": 0.5}),
            make_instance(id=2, actual_status="exited", dph_total=0.4, instance={"totalHour": 0.02}),
        ]
    )
    assert account.snapshot() == AccountSnapshot(None, 0.52, None)
    await account.read()
    snapshot = account.snapshot()
    assert (snapshot.credit_dollars, snapshot.dollars_per_hour, snapshot.hours_left) == (37.42, 0.52, 72.0)
    assert snapshot.lasts_s == pytest.approx(37.4182 / 0.52 * 3600)
    assert account.reading().credit_dollars == 37.4182


async def test_a_failure_keeps_what_is_known_for_an_hour(
    account: Account, asked: Asked, clock: Clock
) -> None:
    await account.read()
    asked.error = VastUnavailable("vast.ai answered 502", "bad_gateway")
    clock.now += KNOWN_FOR_S - 1
    await account.read()
    assert account.credit_dollars == 37.4182
    clock.now += 2
    assert account.credit_dollars is None
    assert account.reading().credit_dollars is None


async def test_a_key_without_the_right_is_no_error_and_asked_for_seldom(
    account: Account, asked: Asked, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asked.error = VastUnauthorized("missing scope user_read", "auth_error")
    for _ in range(3):
        await account.read()
    assert asked.calls == 1
    assert account.snapshot().credit_dollars is None
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    asked.error = None
    clock.now += REFUSED_FOR_S
    await account.read()
    assert account.credit_dollars == 37.4182


async def test_the_credit_goes_on_being_spent_after_it_was_read(account: Account, clock: Clock) -> None:
    account.listed([make_instance(dph_total=37.4182)])
    await account.read()
    clock.now += 600
    assert account.snapshot().lasts_s == pytest.approx(3000)


async def test_a_credit_that_runs_out_is_told_at_each_step_once(asked: Asked, clock: Clock) -> None:
    events: list[FleetEvent] = []
    account = Account(cast(VastClient, asked), clock=clock, publish=events.append)

    async def warnings(credit: float) -> int:
        """At a dollar an hour."""
        events.clear()
        asked.credit = credit
        await account.read()
        return len(events)

    account.listed([make_instance(dph_total=1.0)])
    told = [await warnings(hours) for hours in (30, 23, 20, 2.9, 2.0, 0.4, 0.1, 0)]
    assert told == [0, 1, 0, 1, 0, 1, 0, 0]
    assert await warnings(100) == 0
    assert await warnings(0.4) == 1, "one that jumps over two steps is told once"
    assert events == [CreditLow(1440.0, 1.0)]
    line = line_of(events[0])
    assert line.level == logging.WARNING
    assert "lasts 0.4 h more at $1.000 per hour" in line.text


async def test_nothing_is_told_of_an_account_that_costs_nothing(asked: Asked, clock: Clock) -> None:
    events: list[FleetEvent] = []
    account = Account(cast(VastClient, asked), clock=clock, publish=events.append)
    asked.credit = 0.0
    account.listed([])
    await account.read()
    assert events == []


async def test_price_rises_are_known_until_they_are_too_old(
    account: Account, asked: Asked, clock: Clock
) -> None:
    asked.rises = (RISE,)
    await account.read()
    assert account.snapshot().price_rises == {RISE.instance_id: RISE}
    asked.rises = VastUnavailable("vast.ai answered 502", "bad_gateway")
    clock.now += KNOWN_FOR_S - 1
    await account.read()
    assert account.snapshot().price_rises == {RISE.instance_id: RISE}
    clock.now += 2
    assert account.snapshot().price_rises == {}


async def test_an_api_that_knows_no_price_rises_is_asked_for_them_seldom(
    account: Account, asked: Asked, clock: Clock
) -> None:
    asked.rises = VastNotFound("vast.ai has no such page")
    for _ in range(3):
        await account.read()
    assert asked.asked_for_rises == 1
    assert account.credit_dollars == 37.4182
    clock.now += REFUSED_FOR_S
    await account.read()
    assert asked.asked_for_rises == 2


async def test_an_account_that_does_not_tell_its_credit(account: Account, asked: Asked) -> None:
    asked.credit = None
    await account.read()
    assert account.snapshot().credit_dollars is None


async def test_the_job_reads_at_once_and_again(asked: Asked) -> None:
    enough = asyncio.Event()

    class Counting(Account):
        """Tells when it was read often enough."""

        async def read(self) -> None:
            await super().read()
            if asked.calls == 3:
                enough.set()

    tasks = Tasks("test")
    counting = Counting(cast(VastClient, asked))
    tasks.spawn(AccountJob(counting, interval_s=0.001).run(), name="account")
    async with asyncio.timeout(10):
        await enough.wait()
    await tasks.aclose()
    assert counting.credit_dollars == 37.4182


@given(
    st.none() | st.floats(-1e6, 1e6),
    st.none() | st.floats(0, 1e4),
)
def test_hours_are_told_only_where_they_can_be(credit: float | None, cost: float | None) -> None:
    hours = snapshot_of(credit, cost).hours_left
    if credit is None or not cost:
        assert hours is None
    else:
        assert hours is not None
        assert hours >= 0
