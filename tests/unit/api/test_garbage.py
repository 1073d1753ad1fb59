"""What requests were made of is gone with them: none of it waits for the garbage collector, which
`vastproxy serve` lets run seldom."""

import gc
import time
from collections.abc import Iterator

import pytest

from tests.helpers.exchanging import Scene, settle
from vastproxy.api.attempts import Attempts
from vastproxy.api.exchange import Exchange
from vastproxy.api.upload import Upload
from vastproxy.services.traces import Traces

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left(*kinds: type) -> list[object]:
    return [thing for thing in gc.get_objects() if isinstance(thing, kinds)]


async def end(scene: Scene, how: str) -> None:
    asked = await scene.ask(body=b"hello")
    if how == "answered":
        asked.stream.feed(ANSWER)
    elif how == "answered in pieces":
        asked.stream.feed(ANSWER[:-1])
        asked.stream.feed(ANSWER[-1:])
    elif how == "broken off":
        asked.stream.feed(ANSWER[:-1])
        asked.stream.lose()
    elif how == "not answered":
        asked.stream.lose()
    else:
        asked.exchange.client_left()
    await settle()


@pytest.mark.parametrize("how", ["answered", "answered in pieces", "broken off", "not answered", "left"])
async def test_a_request_that_has_ended(scene: Scene, how: str) -> None:
    scene.tools.traces = Traces(kept=0, clock=time.monotonic, wall_clock=time.time)
    await end(scene, how)
    scene.tools.traces = (
        scene.fleet.traces
    )  # the other one lists some that have ended until it is asked for room
    assert left(Exchange, Attempts, Upload) == []


@pytest.mark.parametrize("how", ["answered", "broken off", "not answered", "left"])
async def test_the_story_that_is_kept_holds_nothing_else(scene: Scene, how: str) -> None:
    await end(scene, how)
    assert len(scene.fleet.traces) == 1
    assert left(Exchange, Upload) == []
