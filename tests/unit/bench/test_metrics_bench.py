"""The measure of metrics measures what it says: whole pages about whole fleets, and how long nobody else had a turn."""

import time

from bench.metrics import MODELS, _count_requests, _longest_block
from tests.helpers.scraped import Scraped
from tests.helpers.watched import MadeFleet, copies
from vastproxy.services.metrics.exposition import Form
from vastproxy.services.metrics.metrics import Metrics
from vastproxy.services.metrics.scrape import Scrape


async def test_a_page_is_about_every_model_and_instance() -> None:
    metrics, fleet = Metrics(), MadeFleet(*copies(5))
    _count_requests(metrics.requests, fleet.backend_ids)
    page = Scraped(b"".join(await Scrape(metrics, fleet).page(Form.TEXT)).decode())
    assert len(page.label_values("vastproxy_requests_total", "model")) == MODELS
    assert len(page.label_values("vastproxy_backend_output_tokens_total", "instance_id")) == 5


async def test_a_block_is_the_longest_time_without_a_turn() -> None:
    """It is some of the time that a page takes, and none of it where everybody has a turn all the time."""
    fleet = MadeFleet(*copies(200))
    began = time.perf_counter()
    longest_ms = await _longest_block(Scrape(Metrics(), fleet))
    assert 0 < longest_ms <= (time.perf_counter() - began) * 1e3
    assert fleet.seen == 200
