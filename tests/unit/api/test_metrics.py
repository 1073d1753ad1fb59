"""`/metrics`: the format that is asked for, whole or not at all."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from tests.helpers.scraped import Scraped
from tests.helpers.watched import BACKEND, MadeFleet, copies
from vastproxy.api.metrics import MetricsEndpoint
from vastproxy.services.metrics.exposition import Form
from vastproxy.services.metrics.metrics import Metrics
from vastproxy.services.metrics.scrape import Scrape
from vastproxy.services.snapshot import BackendSnapshot


class Answer:
    """What one request was answered."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


async def ask(fleet: MadeFleet, *, method: str = "GET", accept: str | None = None) -> Answer:
    app = Starlette(routes=[Route("/metrics", MetricsEndpoint(Scrape(Metrics(), fleet)).metrics)])
    answer = Answer()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.pieces.append(message.get("body", b""))

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [] if accept is None else [(b"accept", accept.encode())]
    scope = {"type": "http", "asgi": {"spec_version": "2.4"}, "method": method, "path": "/metrics"}
    await app({**scope, "headers": headers, "query_string": b"", "root_path": ""}, receive, send)
    return answer


@pytest.mark.parametrize(
    ("accept", "form"),
    [(None, Form.TEXT), ("text/plain", Form.TEXT), ("application/openmetrics-text", Form.OPENMETRICS)],
)
async def test_a_page_comes_in_the_format_that_is_asked_for(accept: str | None, form: Form) -> None:
    answer = await ask(MadeFleet(BACKEND), accept=accept)
    assert answer.status == 200
    assert answer.headers["content-type"] == form.value
    assert answer.headers["vary"] == "accept"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert Scraped(answer.body.decode(), form).get("vastproxy_backend_up", instance_id="7") == 1


async def test_a_large_page_is_sent_in_pieces() -> None:
    """So that a slow reader holds it up, and not our memory."""
    answer = await ask(MadeFleet(*copies(1_000)))
    assert len(answer.body) > 2_000_000
    assert max(map(len, answer.pieces)) < 400_000


async def test_a_head_is_enough_for_who_asks_for_it() -> None:
    assert (await ask(MadeFleet(), method="HEAD")).status == 200


async def test_only_reading_is_allowed() -> None:
    assert (await ask(MadeFleet(), method="POST")).status == 405


class _Failing(MadeFleet):
    def each_backend(self) -> Iterator[BackendSnapshot]:
        raise ValueError("a bug")


async def test_what_fails_is_no_half_page() -> None:
    with pytest.raises(ValueError, match="a bug"):
        await ask(_Failing(BACKEND))
