"""What the doctor says of a machine that was rented before."""

from dataclasses import replace

from tests.helpers.builders import make_instance
from vastproxy.services.diagnosis.check import Verdict
from vastproxy.services.diagnosis.machine import machine_checks
from vastproxy.services.ledger.machines import Machine, Rental

KNOWN = Machine(24817, "1x RTX 4090", 0.0, 1.0, (Rental("1@1", 0.0, 1.0),), 12.34, 1000, 0, 2, None, None)


def test_a_machine_that_was_rented_before() -> None:
    (check,) = machine_checks(make_instance(), KNOWN)
    assert (check.id, check.verdict, check.fix) == ("machine", Verdict.OK, "")
    assert check.detail == f"rented before: 12.3 h in all, 2 lost connections, score {KNOWN.score:.2f}"
    assert check.instance == make_instance().id


def test_one_of_which_little_is_known() -> None:
    (check,) = machine_checks(make_instance(), replace(KNOWN, hours=0.5))
    assert check.detail == "rented before: 0.5 h in all, 2 lost connections"


def test_one_that_failed_is_worth_a_warning() -> None:
    (check,) = machine_checks(make_instance(), replace(KNOWN, errors=900))
    assert check.verdict is Verdict.WARN
    assert "vastproxy machines" in check.fix


def test_nothing_is_said_of_a_machine_that_is_new() -> None:
    instance = make_instance()
    assert machine_checks(instance, None) == ()
    assert machine_checks(instance, replace(KNOWN, rentals=(Rental(instance.identity, 0.0, 1.0),))) == ()


def test_nothing_is_said_of_one_that_has_two_instances_at_a_time() -> None:
    instance = make_instance()
    rentals = (Rental("9@9", 0.0, 100.0), Rental(instance.identity, 50.0, 100.0))
    assert machine_checks(instance, replace(KNOWN, rentals=rentals)) == ()
