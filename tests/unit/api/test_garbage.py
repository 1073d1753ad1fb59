"""What requests were made of is gone with them: none of it waits for the garbage collector, which
`vastproxy serve` lets run seldom."""

import gc
import time
from collections.abc import Iterator

import pytest

from tests.helpers.exchanging import Scene, settle
from tests.helpers.mixed import CHAT, chat, serves
from vastproxy.api.attempts import Attempts
from vastproxy.api.exchange import Exchange
from vastproxy.api.gathering import Gathering
from vastproxy.api.upload import Upload
from vastproxy.services.http1.framing import CHUNKED
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


@pytest.mark.parametrize("how", ["answered", "left while it is gathered", "left while it is asked"])
@pytest.mark.parametrize("are_alike", [True, False])
async def test_a_body_that_came_in_pieces(scene: Scene, how: str, are_alike: bool) -> None:
    """Who gathers it calls back, and so refers to the request."""
    if not are_alike:
        serves(scene, 1, "m")
        serves(scene, 2, "b")
    await end_in_pieces(scene, how)
    assert left(Exchange, Gathering, Upload) == []


async def end_in_pieces(scene: Scene, how: str) -> None:
    body = chat("m", last=True)
    asked = await scene.ask(b"POST", CHAT, body=body[:20], complete=False, framing=CHUNKED)
    if how == "left while it is gathered":
        asked.exchange.client_left()
    else:
        asked.exchange.client_data(body[20:], complete=True)
        await settle()
        if how == "answered":
            asked.stream.feed(ANSWER)
        else:
            asked.exchange.client_left()
    await settle()
