"""Which ports are looked at, which of them are one engine, and what a person is told when there is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.discovery_plan import (
    MAX_PORTAL_PORTS,
    MAX_PORTS,
    Attempt,
    Candidate,
    Found,
    Origin,
    Outcome,
    comes_through_gateway,
    explain,
    gateway_doors,
    plan_candidates,
    plan_targets,
)
from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget, HealthStatus
from vastproxy.services.backends.fetch import ProbeResponse
from vastproxy.services.backends.pages import Page
from vastproxy.services.backends.portal import PORTAL_PORT, PortalEndpoint, PortalReading, PortalService

# -- which ports -------------------------------------------------------------------------------------


def test_ports_are_asked_in_the_order_of_trust_and_each_once() -> None:
    portal = PortalReading((PortalEndpoint("A", 18000), PortalEndpoint("B", 7000)))
    planned = plan_candidates(portal, (9000, 7000), (8000, 9000, 18000))
    assert planned == (
        Candidate(18000, Origin.PORTAL, "A"),
        Candidate(7000, Origin.PORTAL, "B"),
        Candidate(9000, Origin.ARGUMENTS),
        Candidate(8000, Origin.PROBING),
    )


def test_a_service_that_is_called_an_api_is_looked_at_too() -> None:
    """An image that others made after vast.ai's lists services and no endpoints."""
    services = (
        PortalService("My vLLM", 17000, 7000),
        PortalService("Jupyter", 18080, 8080),
        PortalService("Model UI", 17860, 7860),
        PortalService("a|b:1:2:3:openai", 5000),
    )
    planned = plan_candidates(PortalReading(services=services), (), ())
    assert planned == (
        Candidate(17000, Origin.PORTAL, "My vLLM"),
        Candidate(5000, Origin.PORTAL, "a|b:1:2:3:openai"),
    )


def test_a_portal_that_names_many_ports_leaves_room_for_the_others() -> None:
    portal = PortalReading(tuple(PortalEndpoint("x", port) for port in range(40_000, 40_064)))
    planned = plan_candidates(portal, tuple(range(50_000, 50_100)), (18000,))
    assert len(planned) == MAX_PORTS
    assert sum(one.origin is Origin.PORTAL for one in planned) == MAX_PORTAL_PORTS


def test_the_portal_is_no_engine() -> None:
    portal = PortalReading((PortalEndpoint("x", PORTAL_PORT),))
    assert plan_candidates(portal, (PORTAL_PORT,), (PORTAL_PORT, 80)) == (Candidate(80, Origin.PROBING),)


@pytest.mark.parametrize(
    ("config", "doors"),
    [
        (
            "localhost:1111:11111:/:Instance Portal|localhost:8000:18000:/docs:SGLang API",
            {1111: 11111, 8000: 18000},
        ),
        ("localhost:8080:8080:/terminals/1:Jupyter Terminal", {}),
        ("localhost:8080:18080:/:Jupyter|localhost:8080:8080:/terminals/1:Terminal", {8080: 18080}),
        ("garbage|a:b:c:d:e|localhost:0:1:/:x|localhost:1:70000:/:x|", {}),
        ("", {}),
    ],
)
def test_the_doors_of_a_portal_configuration(config: str, doors: dict[int, int]) -> None:
    assert gateway_doors(config) == doors


@given(st.text(max_size=200))
def test_no_portal_configuration_breaks_it(config: str) -> None:
    for outside, inside in gateway_doors(config).items():
        assert 1 <= outside <= 65535
        assert outside != inside


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"via": "1.1 Caddy"}, True),
        ({"server": "Caddy"}, True),
        ({"server": "uvicorn", "via": "1.0 x, 1.1 caddy"}, True),
        ({"server": "uvicorn"}, False),
        ({}, False),
    ],
)
def test_caddys_signature(headers: dict[str, str], expected: bool) -> None:
    assert comes_through_gateway(ProbeResponse(200, headers)) is expected


# -- which engines -----------------------------------------------------------------------------------


def seen(
    port: int,
    origin: Origin = Origin.PROBING,
    *,
    kind: EngineKind = EngineKind.VLLM,
    models: tuple[str, ...] | None = ("m",),
    needs_token: bool = False,
    gateway: bool = False,
    service: str = "",
) -> Found:
    target = EngineTarget(kind, port, "1", needs_token=needs_token)
    return Found(Candidate(port, origin, service), target, models, gateway)


def test_what_was_said_of_caddys_port_is_said_of_the_engine_behind_it() -> None:
    door = seen(8000, Origin.ARGUMENTS, needs_token=True, service="vLLM API")
    (engine,) = plan_targets([seen(18000), door], {})
    assert (engine.target.port, engine.origin, engine.service) == (18000, Origin.ARGUMENTS, "vLLM API")


def test_engines_are_ordered_by_who_named_them() -> None:
    found = [
        seen(1, models=("a",)),
        seen(2, Origin.ARGUMENTS, models=("b",)),
        seen(3, Origin.PORTAL, models=("c",)),
    ]
    assert [one.target.port for one in plan_targets(found, {})] == [3, 2, 1]


@pytest.mark.parametrize(
    "other",
    [
        seen(8000, needs_token=True, models=("other",)),
        seen(8000, needs_token=True, kind=EngineKind.SGLANG),
        seen(8000, needs_token=True, models=None),
        seen(8000, needs_token=False),
    ],
)
def test_in_doubt_they_are_two(other: Found) -> None:
    assert len(plan_targets([seen(18000), other], {})) == 2


def test_engines_without_models_are_never_held_to_be_the_same() -> None:
    assert len(plan_targets([seen(1, models=()), seen(2, models=(), needs_token=True)], {})) == 2


def test_a_door_to_a_port_where_nothing_answers_is_the_engine() -> None:
    (engine,) = plan_targets([seen(8000, needs_token=True)], {8000: 18000})
    assert engine.target.port == 8000


def test_doors_in_a_row_lead_to_the_last() -> None:
    (engine,) = plan_targets([seen(1), seen(2), seen(3)], {1: 2, 2: 3})
    assert (engine.target.port, engine.doors) == (3, (1, 2))


def test_doors_in_a_circle_are_engines() -> None:
    assert {one.target.port for one in plan_targets([seen(1), seen(2)], {1: 2, 2: 1})} == {1, 2}


FOUND = st.lists(
    st.builds(
        seen,
        st.integers(1, 8),
        st.sampled_from(list(Origin)),
        models=st.sampled_from([None, (), ("m",), ("n",)]),
        needs_token=st.booleans(),
        gateway=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda one: one.target.port,
)


@given(found=FOUND, doors=st.dictionaries(st.integers(1, 8), st.integers(1, 8)))
def test_every_port_belongs_to_exactly_one_engine(found: list[Found], doors: dict[int, int]) -> None:
    engines = plan_targets(found, doors)
    ports = [port for one in engines for port in (one.target.port, *one.doors)]
    assert sorted(ports) == sorted(one.target.port for one in found)
    ranks = [list(Origin).index(one.origin) for one in engines]
    assert ranks == sorted(ranks)


@given(found=FOUND, doors=st.dictionaries(st.integers(1, 8), st.integers(1, 8)), data=st.data())
def test_the_order_of_the_ports_does_not_decide_how_many_engines_there_are(
    found: list[Found], doors: dict[int, int], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(found))
    assert len(plan_targets(found, doors)) == len(plan_targets(shuffled, doors))


# -- why there is none -------------------------------------------------------------------------------


def attempts(
    *ports: int, outcome: Outcome = Outcome.CLOSED, origin: Origin = Origin.PROBING
) -> list[Attempt]:
    return [Attempt(Candidate(port, origin), outcome) for port in ports]


NOBODY = PortalReading(problem="the instance has no portal", exists=False)


def test_nothing_listens() -> None:
    assert (
        explain(NOBODY, attempts(18000, 8000), ()) == "no inference engine answers on the ports 18000, 8000"
    )
    assert explain(NOBODY, [], ()) == "there is no port to look at"


def test_pages_are_named() -> None:
    pages = [Page.TEXT, Page.JUPYTER, Page.NGINX, Page.CADDY, Page.LOADING]
    tried = [
        Attempt(Candidate(port, Origin.PROBING), Outcome.OTHER, page) for port, page in enumerate(pages, 1)
    ]
    assert explain(NOBODY, tried, ()) == (
        "no inference engine answers on the ports 1, 2, 3, 4, 5; "
        "2 is Jupyter; 3 is nginx's default page; 4 is Caddy's default page"
    )


def test_the_portals_trouble_is_part_of_the_reason() -> None:
    silent = PortalReading(problem="the portal did not answer within 5 s")
    assert explain(silent, attempts(80), ()).endswith("80; the portal did not answer within 5 s")
    assert explain(PortalReading(), attempts(80), ()).endswith("80; its portal lists no endpoint either")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("RUNNING", "but nothing listens there yet: the model may still be loading"),
        ("unknown", "but nothing listens there yet: the model may still be loading"),
        ("FATAL", "but nothing listens there: the process is FATAL, see its log in the portal"),
        ("EXITED", "but nothing listens there: the process is EXITED, see its log in the portal"),
    ],
)
def test_the_portals_engine_does_not_listen(state: str, said: str) -> None:
    endpoint, service = PortalEndpoint("vLLM API", 18000), PortalService("vLLM API", 18000, 8000, state)
    reason = explain(PortalReading((endpoint,), (service,)), attempts(18000, 80), ())
    assert reason == f"its portal has vLLM API on port 18000, {said}"


def test_a_nameless_endpoint_and_no_services() -> None:
    reason = explain(PortalReading((PortalEndpoint("", 18000),)), attempts(18000), ())
    assert reason.startswith("its portal has an engine on port 18000, but nothing listens there yet")


def test_that_jupyter_does_not_let_us_in_is_not_the_reason() -> None:
    locked = EngineTarget(EngineKind.OPENAI, 8080, problem=HealthStatus.UNAUTHORIZED)
    portal = PortalReading(services=(PortalService("Jupyter", 18080, 8080),))
    assert explain(portal, attempts(8080, outcome=Outcome.LOCKED), (locked,)).startswith(
        "no inference engine"
    )
    assert explain(NOBODY, attempts(8080, outcome=Outcome.LOCKED), (locked,)) == locked.trouble


def test_that_caddy_does_not_let_us_in_to_the_engine_is() -> None:
    locked = EngineTarget(EngineKind.OPENAI, 8000, problem=HealthStatus.UNAUTHORIZED)
    portal = PortalReading((PortalEndpoint("A", 18000),), (PortalService("A", 18000, 8000),))
    tried = [*attempts(18000, origin=Origin.PORTAL), *attempts(8000, outcome=Outcome.LOCKED)]
    assert explain(portal, tried, (locked,)) == locked.trouble


def test_an_attempt_reads_well() -> None:
    assert str(attempts(80)[0]) == "80 (closed)"
