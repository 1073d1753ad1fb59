"""Which misfortunes are drawn."""

import itertools
import random

import pytest

from vastproxy.simulator.chaos import Incident, Misfortune, draw
from vastproxy.simulator.errors import SimulatorError
from vastproxy.simulator.simulation import Simulation


def test_a_seed_fixes_the_sequence() -> None:
    first, second = (
        list(itertools.islice(draw(random.Random(seed), instances=3), 30)) for seed in ("same", "same")
    )
    assert first == second


def test_every_kind_occurs_before_any_occurs_again() -> None:
    strikes = list(itertools.islice(draw(random.Random(1), instances=3), 2 * len(Misfortune)))
    half = len(Misfortune)
    assert {strike.misfortune for strike in strikes[:half]} == set(Misfortune)
    assert {strike.misfortune for strike in strikes[half:]} == set(Misfortune)
    assert {strike.victim for strike in strikes} == {0, 1, 2}
    assert all(3 <= strike.pause_s <= 8 and 4 <= strike.lasting_s <= 10 for strike in strikes)


def test_incidents_are_told_in_words() -> None:
    assert str(Incident(Misfortune.ENGINE, 7, healed=False)) == "7: engine dies"
    assert str(Incident(Misfortune.API_DOWN, None, healed=True)) == "API answers 502 – over"


async def test_impossible_simulations_say_so() -> None:
    for options in ({"instances": -1}, {"tokens_per_s": 0}, {"engines": ("nonsense",)}, {"engines": ()}):
        with pytest.raises(SimulatorError):
            Simulation(**options)
    simulation = Simulation()
    with pytest.raises(SimulatorError, match="not running"):
        _ = simulation.ssh_key_path
    with pytest.raises(LookupError):
        simulation.instance(1)
    assert repr(simulation) == "<Simulation down instances=0>"
