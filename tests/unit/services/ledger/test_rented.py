"""What the ledger takes from the account: price, machine, traffic; of the instances that are ours."""

import pytest

from tests.helpers.builders import make_instance
from vastproxy.services.ledger.rented import Rented, rented
from vastproxy.settings.model import FleetSettings, Selector


def test_what_is_billed_now_counts() -> None:
    """A stopped instance costs its storage: `instance.totalHour`, not `dph_total`."""
    row = {"instance": {"totalHour": 0.0133}, "dph_total": 0.3633, "actual_status": "exited"}
    stopped = Rented.of(make_instance(**row, intended_status="stopped", cur_state="stopped"))
    assert stopped.dollars_per_hour == 0.0133
    assert not stopped.is_running
    assert Rented.of(make_instance()).dollars_per_hour == 0.36


def test_traffic_has_a_price_for_each_direction() -> None:
    one = Rented.of(make_instance(inet_up_cost=0.002, inet_down_cost=0.001))
    assert one.dollars_per_byte_out == pytest.approx(2e-12)
    assert one.dollars_per_byte_in == pytest.approx(1e-12)


@pytest.mark.parametrize("junk", [None, "0.1", -1, 0, float("nan"), float("inf"), True, 5000, [], {}])
def test_what_is_no_price_costs_nothing(junk: object) -> None:
    one = Rented.of(make_instance(inet_up_cost=junk, inet_down_cost=junk, dph_total=None))
    assert (one.dollars_per_byte_in, one.dollars_per_byte_out, one.dollars_per_hour) == (0.0, 0.0, 0.0)


def test_only_those_that_the_settings_let_in() -> None:
    listed = [make_instance(id=1), make_instance(id=2)]
    fleet = FleetSettings(exclude=Selector(ids=(2,)))
    found = rented(listed, fleet)
    assert list(found) == [1]
    assert found[1].identity == listed[0].identity
    assert found[1].machine_id == 24817
    assert found[1].gpu == "1x RTX 4090"
