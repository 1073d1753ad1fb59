"""One engine inside an instance: when it may be given requests, and what is known of it."""

import pytest

from vastproxy.services.backends.discovery_plan import DiscoveredEngine, Origin
from vastproxy.services.backends.engine import MODELS_EVERY, Engine
from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget
from vastproxy.services.backends.health import Observation
from vastproxy.services.backends.load import Load

GOOD, BAD, ABSENT = Observation.GOOD, Observation.BAD, Observation.ABSENT
FOUND = DiscoveredEngine(EngineTarget(EngineKind.VLLM, 18000), ("a",), Origin.PORTAL, "vLLM API")


def see(engine: Engine, *seen: Observation, now: float = 0.0) -> list[bool]:
    healthy = []
    for one in seen:
        engine.observe(one, now, "why", unhealthy_after=3, proof_s=10.0)
        healthy.append(engine.is_healthy)
    return healthy


def test_one_good_probe_is_enough_and_three_bad_ones_or_one_certain_end_it() -> None:
    engine = Engine(FOUND)
    assert not engine.is_healthy
    assert see(engine, GOOD, BAD, BAD, GOOD, BAD, BAD, BAD) == [True] * 6 + [False]
    assert engine.detail == "why"
    assert see(engine, GOOD, ABSENT) == [True, False]
    assert see(engine, GOOD) == [True]
    assert engine.detail == ""


def test_answers_prove_life_for_a_while_and_only_under_load() -> None:
    engine = Engine(FOUND)
    see(engine, GOOD)
    engine.in_flight, engine.has_answered = 1, True
    assert see(engine, BAD, BAD, BAD, BAD) == [True] * 4
    assert not engine.has_answered
    assert see(engine, BAD, BAD, BAD, now=10.1) == [True, True, False]
    see(engine, GOOD)
    engine.in_flight, engine.has_answered = 0, True
    assert see(engine, BAD, BAD, BAD) == [True, True, False]


@pytest.mark.parametrize(
    ("token", "lines"),
    [
        (None, b"host: 127.0.0.1:18000\r\n"),
        ("", b"host: 127.0.0.1:18000\r\n"),
        ("s\u00e9\u20ac", b"host: 127.0.0.1:18000\r\nauthorization: Bearer s\xe9?\r\n"),
    ],
)
def test_the_lines_of_every_request(token: str | None, lines: bytes) -> None:
    assert Engine(FOUND, token=token).request_lines == lines


def test_models_come_with_the_search_and_every_so_many_rounds() -> None:
    engine = Engine(FOUND)
    assert [engine.models_due() for _ in range(2 * MODELS_EVERY + 1)] == [
        count in (MODELS_EVERY, 2 * MODELS_EVERY) for count in range(2 * MODELS_EVERY + 1)
    ]
    unknown = Engine(DiscoveredEngine(FOUND.target, None, Origin.PROBING))
    assert unknown.models == ()
    assert [unknown.models_due() for _ in range(MODELS_EVERY + 1)] == [
        True,
        *[False] * (MODELS_EVERY - 1),
        True,
    ]


def test_what_it_says_of_its_capacity_counts_more_than_its_arguments() -> None:
    engine = Engine(FOUND, configured=24)
    assert engine.capacity == 24
    engine.load = Load(running=1, capacity=48)
    assert engine.capacity == 48
    engine.load = Load(running=1)
    assert engine.capacity == 24
    assert Engine(FOUND).capacity is None


def test_what_is_known_goes_into_the_next_search() -> None:
    engine = Engine(FOUND)
    engine.models = ("a", "b")
    assert engine.as_known.models == ("a", "b")
    engine.models = ()
    assert engine.as_known.models is None


def test_it_has_no_room_for_anything_else() -> None:
    with pytest.raises(AttributeError):
        Engine(FOUND).typo = 1  # type: ignore[attr-defined]
