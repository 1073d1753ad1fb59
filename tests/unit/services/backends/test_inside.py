"""Everything that runs inside one instance, round by round, with a clock by hand."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.builders import make_instance
from tests.helpers.inside_table import (
    NOT_FOUND,
    InsideTable,
    Paths,
    models,
    ok,
    portal,
    sglang,
    vllm,
)
from vastproxy.services.backends.engine import CLOSED_KEPT_S, MODELS_EVERY, Engine
from vastproxy.services.backends.fetch import ProbeResponse
from vastproxy.services.backends.health import Observation
from vastproxy.services.backends.inside import Inside, Look
from vastproxy.services.backends.inside_plan import MAX_ENGINES
from vastproxy.services.backends.portal import PORTAL_PORT
from vastproxy.services.errors import (
    BackendProtocolError,
    BackendTimeout,
    ResponseInterrupted,
    TunnelError,
    TunnelLost,
    TunnelRefused,
)
from vastproxy.settings.model import EngineSettings

GOOD, BAD, ABSENT = Observation.GOOD, Observation.BAD, Observation.ABSENT
CLOSED = "no inference engine answers on the ports 18000, 8000, 30000, 11434, 21434, 8080, 80"


class Bench:
    """One instance on a bench. A round every five seconds."""

    def __init__(
        self, ports: Mapping[int, Paths | Exception], *, env: Mapping[str, str] | None = None, **over: Any
    ) -> None:
        self.now = 1000.0
        self.fetch = InsideTable(ports)
        self.instance = make_instance(
            id=7, **({"extra_env": [list(one) for one in env.items()]} if env else {})
        )
        self.inside = Inside(
            lambda: self.instance,
            EngineSettings(**over),
            token="t",
            unhealthy_after=3,
            proof_s=10.0,
            clock=lambda: self.now,
        )

    async def round(self, *, after_s: float = 5.0) -> Look:
        self.now += after_s
        return await self.inside.round(self.fetch)

    async def rounds(self, count: int) -> list[Observation]:
        return [(await self.round()).observation for _ in range(count)]

    def set(self, port: int, path: str, answer: ProbeResponse | Exception) -> None:
        paths = self.fetch.ports[port]
        assert isinstance(paths, dict)
        paths[path] = answer


def show(look: Look) -> list[tuple[int, str, tuple[str, ...], bool]]:
    return [(each.port, each.kind, each.models, each.is_healthy) for each in look.engines]


# One engine


async def test_the_first_round_finds_the_engine_its_models_and_its_load() -> None:
    bench = Bench({18000: sglang("a", "b")})
    look = await bench.round()
    assert (look.observation, look.detail) == (GOOD, "")
    (engine,) = look.engines
    assert show(look) == [(18000, "sglang", ("a", "b"), True)]
    assert engine.load is not None
    assert (engine.load.running, engine.load.waiting, engine.capacity) == (3, 1, 48)
    assert engine.request_lines == b"host: 127.0.0.1:18000\r\nauthorization: Bearer t\r\n"


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
async def test_a_steady_round_is_health_and_load_and_models_now_and_then(kind: str) -> None:
    bench = Bench({18000: sglang("a") if kind == "sglang" else vllm("a")})
    await bench.round()
    bench.fetch.take_asked()
    told = [(18000, "/v1/loads?include=core")] if kind == "sglang" else []
    for count in range(1, 2 * MODELS_EVERY):
        await bench.round()
        listed = [(18000, "/v1/models")] if count == MODELS_EVERY else []
        assert bench.fetch.take_asked() == [(18000, "/health"), *listed, *told], count


async def test_models_that_cannot_be_read_stay_as_they_were() -> None:
    bench = Bench({18000: vllm("a")})
    await bench.round()
    bench.set(18000, "/v1/models", ok("garbage"))
    assert await bench.rounds(MODELS_EVERY) == [GOOD] * MODELS_EVERY
    assert bench.inside.engines[0].models == ("a",)
    bench.set(18000, "/v1/models", models("vllm", "new"))
    await bench.rounds(MODELS_EVERY)
    assert bench.inside.engines[0].models == ("new",)


async def test_nothing_inside_says_where_it_was_looked_for() -> None:
    bench = Bench({})
    assert await bench.round() == Look(ABSENT, CLOSED, ())
    bench.fetch.ports[30000] = vllm("a")
    assert (await bench.round()).observation is GOOD


async def test_bad_health_is_bad_and_the_engine_is_offered_until_the_streak_is_long_enough() -> None:
    bench = Bench({18000: vllm("a")})
    await bench.round()
    bench.set(18000, "/health", ProbeResponse(500))
    for healthy in (True, True, False, False):
        look = await bench.round()
        assert look.observation is BAD
        assert look.detail == "port 18000 answered 500 to /health"
        assert look.engines[0].is_healthy is healthy
    bench.set(18000, "/health", ProbeResponse(200))
    assert (await bench.round()).engines[0].is_healthy


async def test_answers_to_clients_outweigh_bad_health() -> None:
    bench = Bench({18000: vllm("a")})
    (engine,) = (await bench.round()).engines
    bench.set(18000, "/health", BackendTimeout("port 18000 did not answer", phase="headers"))
    engine.in_flight = 1
    for _ in range(6):
        engine.has_answered = True
        assert (await bench.round()).observation is BAD
        assert engine.is_healthy
    engine.in_flight = 0
    await bench.rounds(3)
    assert not engine.is_healthy


async def test_loading_and_a_refused_token_take_it_out_at_once() -> None:
    for answer, part in (
        (ProbeResponse(503, body=b'{"status":"loading model"}'), "the model is loading"),
        (ProbeResponse(401), "does not accept our token"),
    ):
        bench = Bench({18000: vllm("a")})
        await bench.round()
        bench.set(18000, "/health", answer)
        look = await bench.round()
        assert look.observation is ABSENT
        assert part in look.detail
        assert not look.engines[0].is_healthy


async def test_a_closed_port_is_absent_at_once_then_it_is_looked_for_everywhere() -> None:
    bench = Bench({18000: vllm("a")})
    (engine,) = (await bench.round()).engines
    engine.requests = 5
    del bench.fetch.ports[18000]
    assert (await bench.round()).detail == "port 18000 is closed"
    look = await bench.round()
    assert (look.observation, look.detail) == (ABSENT, CLOSED)
    assert not engine.is_healthy
    bench.fetch.ports[18000] = vllm("b")
    look = await bench.round()
    assert show(look) == [(18000, "vllm", ("b",), True)]
    assert look.engines == (engine,)
    assert engine.requests == 5


async def test_an_engine_that_came_back_as_another_kind_is_another_one() -> None:
    bench = Bench({18000: vllm("a")})
    (engine,) = (await bench.round()).engines
    bench.fetch.ports[18000] = sglang("a")
    bench.set(18000, "/health", ProbeResponse(404))
    await bench.rounds(3)
    bench.set(18000, "/health", ProbeResponse(200))
    bench.set(18000, "/v1/models", models("sglang", "a"))
    bench.inside.interrupted()
    look = await bench.round(after_s=20)
    assert show(look) == [(18000, "sglang", ("a",), True)]
    assert look.engines[0] is not engine


async def test_an_engine_that_only_fails_to_say_what_it_is_stays_the_same() -> None:
    """A busy one may answer the model list alone."""
    bench = Bench({18000: sglang("a")})
    (engine,) = (await bench.round()).engines
    bench.set(18000, "/get_model_info", ProbeResponse(500))
    bench.set(18000, "/v1/models", models("", "a"))
    bench.inside.interrupted()
    look = await bench.round(after_s=400)
    assert look.engines == (engine,)
    assert (engine.kind, look.observation) == ("sglang", GOOD)


async def test_what_is_starting_says_so_and_is_served_when_it_is_up() -> None:
    loading = ProbeResponse(503, body=b'{"error":{"code":503,"message":"Loading model"}}')
    bench = Bench({18000: {"*": loading}})
    look = await bench.round()
    assert (look.observation, look.detail) == (ABSENT, "the engine on port 18000 is starting")
    bench.fetch.ports[18000] = vllm("a")
    assert (await bench.round()).observation is GOOD


async def test_a_placeholder_page_is_no_engine_and_later_no_health() -> None:
    page = ProbeResponse(200, {"content-type": "text/html"}, b"<html><title>Loading...</title></html>")
    bench = Bench({18000: {"*": page}})
    look = await bench.round()
    assert (look.observation, look.engines) == (ABSENT, ())
    assert "18000 is a page that says something is loading" in look.detail
    bench.fetch.ports[18000] = vllm("a")
    assert (await bench.round()).observation is GOOD
    bench.fetch.ports[18000] = {"*": page}
    assert await bench.rounds(3) == [BAD] * 3
    bench.fetch.ports[18000] = vllm("a") | {"/health": ProbeResponse(200, body=b"model is loading")}
    look = await bench.round()
    assert (look.observation, look.detail) == (ABSENT, "the model is loading")


async def test_only_caddy_answers_and_wants_the_token() -> None:
    bench = Bench({8000: vllm("a")})
    bench.fetch.tokens[8000] = "t"
    look = await bench.round()
    assert show(look) == [(8000, "vllm", ("a",), True)]
    assert look.engines[0].target.needs_token


async def test_its_own_port_takes_the_place_of_caddys_when_it_appears() -> None:
    bench = Bench({8000: vllm("a")})
    bench.fetch.tokens[8000] = "t"
    (door,) = (await bench.round()).engines
    bench.fetch.ports[18000] = vllm("a")
    look = await bench.round(after_s=300)
    assert show(look) == [(18000, "vllm", ("a",), True)]
    assert look.engines[0] is not door
    assert look.engines[0].found.ports == (18000, 8000)
    bench.fetch.take_asked()
    await bench.round(after_s=300)
    assert 8000 not in [port for port, _ in bench.fetch.take_asked()]


# Load and capacity


async def test_load_is_read_in_its_interval_and_never_when_switched_off() -> None:
    bench = Bench({18000: sglang("a")}, load_interval_s=20.0)
    await bench.round()
    bench.fetch.take_asked()
    asked = []
    for _ in range(8):
        await bench.round()
        asked.append(any("/v1/loads" in path for _, path in bench.fetch.take_asked()))
    assert asked == [False, False, False, True] * 2
    off = Bench({18000: sglang("a")}, load_interval_s=0)
    await off.rounds(5)
    assert not any("load" in path for _, path in off.fetch.take_asked())
    assert off.inside.engines[0].load is None


async def test_a_round_that_comes_a_little_early_reads_the_load_too() -> None:
    bench = Bench({18000: sglang("a")}, load_interval_s=5.0)
    await bench.round()
    bench.fetch.take_asked()
    await bench.round(after_s=4.5)
    assert len(bench.fetch.take_asked()) == 2


async def test_one_load_that_is_not_told_leaves_the_last_and_a_dead_engine_has_none() -> None:
    bench = Bench({18000: sglang("a")})
    (engine,) = (await bench.round()).engines
    bench.set(18000, "/v1/loads?include=core", BackendTimeout("slow", phase="headers"))
    await bench.round()
    assert engine.load is not None
    bench.set(18000, "/health", ProbeResponse(401))
    await bench.round()
    assert engine.load is None


async def test_the_arguments_tell_the_capacity_that_an_engine_does_not() -> None:
    bench = Bench({18000: vllm("a")}, env={"VLLM_ARGS": "--port 18000 --max-num-seqs 24"})
    (engine,) = (await bench.round()).engines
    assert (engine.load, engine.capacity) == (None, 24)


# Several


TWO = {PORTAL_PORT: portal(first=18000, second=19000), 18000: sglang("a"), 19000: vllm("b")}


async def test_two_engines_each_with_its_models_and_the_portals_names() -> None:
    look = await Bench(TWO).round()
    assert show(look) == [(18000, "sglang", ("a",), True), (19000, "vllm", ("b",), True)]
    assert [engine.service for engine in look.engines] == ["first", "second"]


async def test_one_that_fails_is_not_offered_and_comes_back_alone() -> None:
    bench = Bench(TWO)
    first, second = (await bench.round()).engines
    bench.set(19000, "/health", ProbeResponse(500))
    for healthy in (True, True, False):
        look = await bench.round()
        assert (look.observation, look.detail, first.is_healthy) == (GOOD, "", True)
        assert second.is_healthy is healthy
    assert second.detail == "port 19000 answered 500 to /health"
    bench.set(19000, "/health", ProbeResponse(200))
    assert (await bench.round()).engines == (first, second)
    assert second.is_healthy
    assert second.detail == ""


async def test_one_whose_port_closes_costs_one_question_a_round_and_is_known_again() -> None:
    bench = Bench(TWO)
    first, second = (await bench.round()).engines
    closed = bench.fetch.ports.pop(19000)
    assert (await bench.round()).observation is GOOD
    assert not second.is_healthy
    bench.fetch.take_asked()
    await bench.round()
    assert [path for port, path in bench.fetch.take_asked() if port == 19000] == ["/get_model_info"]
    bench.fetch.ports[19000] = closed
    await bench.round()
    look = await bench.round()
    assert look.engines == (first, second)
    assert second.is_healthy


async def test_what_opens_there_again_may_be_another_engine_and_is_found_out() -> None:
    bench = Bench(TWO)
    first, second = (await bench.round()).engines
    del bench.fetch.ports[19000]
    await bench.round()
    bench.fetch.ports[19000] = sglang("c")
    await bench.rounds(2)
    assert bench.inside.engines[0] is first
    assert second not in bench.inside.engines
    assert show(await bench.round())[1] == (19000, "sglang", ("c",), True)


async def test_one_that_is_back_and_still_loading_says_so() -> None:
    bench = Bench(TWO)
    _, second = (await bench.round()).engines
    del bench.fetch.ports[19000]
    await bench.round()
    loading = ProbeResponse(503, body=b'{"error":{"code":503,"message":"Loading model"}}')
    bench.fetch.ports[19000] = {"*": loading}
    assert (await bench.round()).observation is GOOD
    assert second.detail == "the engine on port 19000 is starting"


async def test_one_that_stays_closed_is_forgotten() -> None:
    bench = Bench(TWO)
    first, _ = (await bench.round()).engines
    del bench.fetch.ports[19000]
    await bench.round()
    await bench.round(after_s=CLOSED_KEPT_S)
    assert bench.inside.engines == (first,)


async def test_when_none_is_well_the_most_telling_reason_is_told() -> None:
    bench = Bench(TWO)
    await bench.round()
    bench.set(18000, "/health", ProbeResponse(503, body=b'{"status":"starting"}'))
    del bench.fetch.ports[19000]
    look = await bench.round()
    assert (look.observation, look.detail) == (ABSENT, "the model is loading")


async def test_all_fail_and_some_still_serve() -> None:
    """The instance is not given up while one of them is in its streak."""
    bench = Bench(TWO)
    first, second = (await bench.round()).engines
    bench.set(18000, "/health", ProbeResponse(500))
    await bench.rounds(2)
    del bench.fetch.ports[19000]
    look = await bench.round()
    assert not first.is_healthy
    assert not second.is_healthy
    assert look.observation is ABSENT
    bench.set(18000, "/health", ProbeResponse(200))
    await bench.round()
    bench.set(18000, "/health", ProbeResponse(500))
    look = await bench.round()
    assert (look.observation, first.is_healthy) == (BAD, True)


async def test_an_engine_started_later_is_found_without_asking_those_that_serve() -> None:
    bench = Bench({18000: sglang("a")})
    (first,) = (await bench.round()).engines
    bench.fetch.ports[21434] = vllm("b")
    bench.fetch.take_asked()
    await bench.round(after_s=299)
    assert {port for port, _ in bench.fetch.take_asked()} == {18000}
    look = await bench.round(after_s=1)
    asked = bench.fetch.take_asked()
    assert [path for port, path in asked if port == 18000] == ["/health"]
    assert look.engines[0] is first
    assert show(look)[1] == (21434, "vllm", ("b",), True)


async def test_a_search_that_hangs_keeps_nobody_from_seeing_that_an_engine_fails() -> None:
    bench = Bench({18000: sglang("a")})
    (engine,) = (await bench.round()).engines
    gate = bench.fetch.gates[8080] = asyncio.Event()
    bench.set(18000, "/health", ProbeResponse(401))
    going = asyncio.get_running_loop().create_task(bench.round(after_s=300))
    async with asyncio.timeout(5):
        while engine.is_healthy:
            await asyncio.sleep(0)
    assert not going.done()
    gate.set()
    assert (await going).observation is ABSENT


async def test_an_engine_that_is_starting_beside_another_is_soon_looked_for_again() -> None:
    loading = ProbeResponse(503, body=b'{"error":{"code":503,"message":"Loading model"}}')
    bench = Bench({18000: sglang("a"), 8000: {"*": loading}})
    assert len((await bench.round()).engines) == 1
    bench.fetch.ports[8000] = vllm("b")
    await bench.rounds(3)
    assert len(bench.inside.engines) == 2


async def test_searches_for_something_that_never_comes_become_rare() -> None:
    loading = ProbeResponse(503, body=b'{"error":{"code":503,"message":"Loading model"}}')
    bench = Bench({18000: sglang("a"), 8000: {"*": loading}})
    await bench.rounds(360)
    searches = sum(port == 8000 for port, _ in bench.fetch.asked)
    assert 5 <= searches <= 14


async def test_no_more_engines_are_kept_than_can_be_looked_after() -> None:
    ports = range(20000, 20000 + 3 * MAX_ENGINES)
    names = {f"s{port}": port for port in ports}
    bench = Bench({PORTAL_PORT: portal(**names), **{port: vllm(str(port)) for port in ports}})
    look = await bench.round()
    assert len(look.engines) == MAX_ENGINES
    assert look.observation is GOOD


# The instance itself


@pytest.mark.parametrize("error", [TunnelLost("gone"), TunnelRefused("key"), TunnelError("full")])
@pytest.mark.parametrize("ports", [{18000: vllm("a")}, TWO])
async def test_what_the_tunnel_says_is_passed_on(error: Exception, ports: dict[int, Paths]) -> None:
    bench = Bench(ports)
    bench.fetch.lost = error
    with pytest.raises(type(error)):
        await bench.round()
    bench.fetch.lost = None
    assert (await bench.round()).observation is GOOD
    bench.fetch.lost = error
    for after_s in (5.0, 300.0):
        with pytest.raises(type(error)):
            await bench.round(after_s=after_s)


async def test_after_an_interruption_no_engine_is_healthy_before_it_was_seen() -> None:
    bench = Bench(TWO)
    before = (await bench.round()).engines
    bench.inside.interrupted()
    assert not any(engine.is_healthy for engine in before)
    look = await bench.round()
    assert look.engines == before
    assert all(engine.is_healthy for engine in before)


async def test_another_start_of_the_instance_is_another_machine() -> None:
    bench = Bench(TWO)
    before = (await bench.round()).engines
    bench.instance = make_instance(id=7, start_date=1.0)
    after = (await bench.round()).engines
    assert show(Look(GOOD, "", after)) == show(Look(GOOD, "", before))
    assert not set(before) & set(after)


def test_an_engine_never_shows_its_token() -> None:
    async def look() -> tuple[Engine, ...]:
        return (await Bench({18000: vllm("a")}).round()).engines

    (engine,) = asyncio.run(look())
    assert repr(engine) == "<Engine vllm port=18000 healthy in_flight=0>"


ANSWERS = st.one_of(
    st.builds(
        ProbeResponse,
        st.sampled_from([200, 204, 401, 404, 500, 502, 503]),
        st.sampled_from([{}, {"content-type": "text/html"}, {"x-portal-placeholder": "true"}]),
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [b"loading", b"[" * 5000, b'{"status":"ok"}', b'{"loads":[{}]}', b'{"data":[{}]}']
            ),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(["data", "id", "status", "loads", "version"]), inner, max_size=3
                    )
                ),
                max_leaves=6,
            ).map(lambda value: json.dumps(value).encode()),
        ),
    ),
    st.sampled_from(
        [
            NOT_FOUND,
            BackendTimeout("slow", phase="headers"),
            BackendProtocolError("no HTTP"),
            ResponseInterrupted("broke off", received=True),
        ]
    ),
)
PATHS = st.sampled_from(
    ["/health", "/v1/models", "/version", "/get_model_info", "/v1/loads?include=core", "/metrics", "*"]
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([18000, 8000, PORTAL_PORT]),
            st.one_of(st.none(), st.just(vllm("a")), st.just(sglang("a")), st.dictionaries(PATHS, ANSWERS)),
            st.sampled_from([1.0, 5.0, 400.0]),
        ),
        max_size=8,
    )
)
def test_whatever_is_inside_it_is_bounded_and_in_one_line(
    steps: list[tuple[int, Paths | None, float]],
) -> None:
    async def play() -> None:
        bench = Bench({18000: vllm("a")})
        for port, paths, after_s in steps:
            if paths is None:
                bench.fetch.ports.pop(port, None)
            else:
                bench.fetch.ports[port] = dict(paths)
            look = await bench.round(after_s=after_s)
            ports = [engine.port for engine in look.engines]
            assert len(ports) == len(set(ports)) <= MAX_ENGINES
            assert "\n" not in look.detail
            assert bool(look.detail) is (look.observation is not GOOD)
            healthy = any(engine.is_healthy for engine in look.engines)
            assert healthy or look.observation is not GOOD
            assert not healthy or look.observation is not ABSENT

    asyncio.run(play())
