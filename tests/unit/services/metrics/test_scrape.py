"""A page has everything, is always fresh, and nobody has to wait for it."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import Gauge

from tests.helpers.scraped import Scraped
from tests.helpers.watched import BACKEND, MadeFleet, copies, full_metrics, full_page
from vastproxy import __version__
from vastproxy.services.metrics.document import with_tables
from vastproxy.services.metrics.exposition import Form
from vastproxy.services.metrics.families import CATALOGUE
from vastproxy.services.metrics.metrics import Metrics
from vastproxy.services.metrics.scrape import SLICE_S, Scrape
from vastproxy.services.snapshot import BackendSnapshot, VastApiSnapshot
from vastproxy.settings.metrics import MetricsSettings

PAGE = Path(__file__).parents[4] / "docs/METRICS.md"


async def scrape(metrics: Metrics, fleet: MadeFleet, form: Form = Form.TEXT) -> Scraped:
    page = await Scrape(metrics, fleet).page(form)
    return Scraped(b"".join(page).decode(), form)


@pytest.mark.parametrize("form", Form)
async def test_a_page_has_every_metric_of_the_catalogue_and_nothing_else_of_ours(form: Form) -> None:
    found = await full_page(form)
    told = {name for name in found.names if name.startswith(("vastproxy_", "gen_ai_"))}
    expected = {family.name: family for chapter in CATALOGUE.values() for family in chapter}
    for name in told:
        base = name
        for ending in ("_bucket", "_sum", "_count"):
            if name not in expected and name.endswith(ending):
                base = name.removesuffix(ending)
        family = expected[base]
        for labels in found.all(name):
            assert {label for label, _ in labels} - {"le"} <= set(family.labels), name
    bases = {name.removesuffix("_count") for name in told} | told
    assert set(expected) <= bases, set(expected) - bases


async def test_every_name_in_a_page_is_documented() -> None:
    documented = PAGE.read_text()
    for name in (await full_page()).families:
        assert f"`{name}" in documented, name


def test_the_document_is_that_of_the_catalogue() -> None:
    text = PAGE.read_text()
    assert with_tables(text) == text, "run `make docs`"


def test_a_document_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        with_tables("# nothing here")


async def test_what_others_tell_is_in_the_page() -> None:
    found = await full_page()
    assert found.get("vastproxy_build_info", version=__version__) == 1
    assert found["vastproxy_requests_in_flight"] == 2
    assert found.get("vastproxy_requests_waiting", priority="interactive") == 4
    assert found.get("vastproxy_requests_waiting", priority="batch") == 0
    assert found["vastproxy_ejections_total"] == 2
    assert found["vastproxy_backends_ejected"] == 1
    assert found["vastproxy_retry_budget"] == 3
    assert found["vastproxy_account_credit_dollars"] == 12.5
    assert found.get("vastproxy_rent_dollars_total", use="busy") == 1.5
    assert found.get("vastproxy_rent_dollars_total", use="idle") == 0.25
    assert found["vastproxy_bandwidth_dollars_total"] == 0.125
    assert found.get("vastproxy_tokens_total", model="m", direction="prompt") == 30
    assert found.get("vastproxy_tokens_total", model="m", direction="answer") == 41
    assert found.get("vastproxy_estimated_tokens_total", model="m") == 5
    assert found["vastproxy_vast_api_up"] == 1
    assert found["vastproxy_vast_api_latency_seconds"] == 0.12
    assert found.get("vastproxy_backends", state="healthy") == 1
    assert found.get("vastproxy_backends", state="unhealthy") == 0
    assert found.get("vastproxy_backends", state="total") is None
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_open_fds"] > 0
    assert found["vastproxy_tasks"] >= 1


async def test_what_is_unknown_is_left_out() -> None:
    api = VastApiSnapshot("unknown", None, None)
    found = await scrape(Metrics(), MadeFleet(api=api))
    for name in (
        "vastproxy_vast_api_up",
        "vastproxy_vast_api_latency_seconds",
        "vastproxy_account_credit_dollars",
        "vastproxy_rent_dollars_total",
        "vastproxy_retry_budget",
        "vastproxy_requests_waiting",
    ):
        assert name not in found.names
    assert found.get("vastproxy_backends", state="healthy") == 0


async def test_an_api_that_fails_is_down() -> None:
    api = VastApiSnapshot("unhealthy", None, "no answer")
    assert (await scrape(Metrics(), MadeFleet(api=api)))["vastproxy_vast_api_up"] == 0


async def test_whoever_embeds_the_proxy_adds_metrics_of_his_own() -> None:
    metrics = Metrics()
    Gauge("mine", "of another program", registry=metrics.registry).set(3)
    assert (await scrape(metrics, MadeFleet()))["mine"] == 3


async def test_two_proxies_in_one_process_count_apart() -> None:
    first, second = full_metrics(), Metrics()
    assert (await scrape(first, MadeFleet()))["vastproxy_retries_total"] == 1
    assert (await scrape(second, MadeFleet()))["vastproxy_retries_total"] == 0


async def test_the_setting_bounds_the_models() -> None:
    metrics = Metrics(MetricsSettings(max_models=1))
    for model in ("a", "b"):
        metrics.requests.finished("chat", model, 7, 200, None, 1, 0.1, 0.2, 9, 9, 9, 3, 25, 25, True)
    found = await scrape(metrics, MadeFleet())
    assert found.label_values("vastproxy_requests_total", "model") == {"a", "other"}


class _Ticks:
    """A clock that goes on by a quarter of a slice with each look."""

    now = 0.0

    def __call__(self) -> float:
        self.now += SLICE_S / 4
        return self.now


async def test_others_have_their_turn_while_a_page_is_made() -> None:
    """Whatever a slice of work is, the loop goes round between any two."""
    fleet, turns, longest, seen = MadeFleet(*copies(400)), 0, 0, 0

    def turn() -> None:
        nonlocal turns, longest, seen
        turns, longest, seen = turns + 1, max(longest, fleet.seen - seen), fleet.seen
        if fleet.seen < 400:
            asyncio.get_running_loop().call_soon(turn)

    asyncio.get_running_loop().call_soon(turn)
    await Scrape(Metrics(), fleet, clock=_Ticks()).page(Form.TEXT)
    assert turns >= 100
    assert longest <= 6


async def test_a_page_is_begun_after_it_was_asked_for() -> None:
    metrics, fleet = Metrics(), MadeFleet()
    scrape = Scrape(metrics, fleet)
    for number in range(3):
        page = Scraped(b"".join(await scrape.page(Form.TEXT)).decode())
        assert page["vastproxy_polls_failed_total"] == number
        metrics.happened.polls_failed += 1


async def test_many_who_ask_at_once_share_a_page() -> None:
    """The first has his own; all who came while it was made have the next one together."""
    fleet = MadeFleet(*copies(3))
    scrape = Scrape(Metrics(), fleet)
    first = asyncio.get_running_loop().create_task(scrape.page(Form.TEXT))
    await asyncio.sleep(0)
    others = await asyncio.gather(*(scrape.page(Form.TEXT) for _ in range(20)))
    await first
    assert fleet.seen == 6
    assert all(page is others[0] for page in others)


async def test_one_who_leaves_does_not_spoil_it_for_the_next() -> None:
    fleet = MadeFleet(BACKEND)
    scrape = Scrape(Metrics(), fleet)
    leaving = asyncio.get_running_loop().create_task(scrape.page(Form.TEXT))
    await asyncio.sleep(0)
    next_ = asyncio.get_running_loop().create_task(scrape.page(Form.TEXT))
    await asyncio.sleep(0)
    leaving.cancel()
    page = Scraped(b"".join(await next_).decode())
    assert page.get("vastproxy_backend_up", instance_id="7") == 1
    with pytest.raises(asyncio.CancelledError):
        await leaving


class _Shrinking(MadeFleet):
    """Loses a backend while it is looked at."""

    def each_backend(self) -> Iterator[BackendSnapshot]:
        yield from self.backends[:1]


async def test_a_backend_that_goes_meanwhile_is_left_out() -> None:
    found = await scrape(Metrics(), _Shrinking(BACKEND, replace(BACKEND, id=8)))
    assert found.label_values("vastproxy_backend_up", "instance_id") == {"7"}
