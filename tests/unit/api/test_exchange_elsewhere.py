"""Engines that say first of all that they do not begin a request: it is asked elsewhere, or their word is passed on;
and what each attempt leaves in the log."""

import asyncio
import json
import logging
from collections.abc import Callable

import pytest

from tests.helpers.exchanging import Asked, Scene, gathered, settle
from tests.helpers.mixed import CHAT, asked_at, body_of, chat, serves
from vastproxy.api.access import AccessLog
from vastproxy.api.upload import REPLAY_LIMIT_BYTES
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.http1.framing import CHUNKED
from vastproxy.services.routing.outlier import State
from vastproxy.settings.admission import AdmissionSettings, QueueSettings
from vastproxy.settings.model import UpstreamSettings
from vastproxy.settings.routing import RoutingSettings

pytestmark = pytest.mark.virtual_time

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b"b\r\ndata: one\n\n\r\n"


def says(status: int, body: bytes = b"busy", fields: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\n%bcontent-length: %d\r\n\r\n%b" % (status, fields, len(body), body)


async def post(scene: Scene, body: bytes | None = None) -> Asked:
    return await scene.ask(b"POST", CHAT, body=chat() if body is None else body)


def outcomes(scene: Scene) -> list[tuple[int, str, str]]:
    """What became of each attempt of the last request."""
    claim = scene.fleet.traces.latest(1)[0]
    return [(lease.backend.id, lease.outcome, lease.error) for lease in claim.leases]


# ── asked elsewhere ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [429, 503, 401])
async def test_an_engine_that_does_not_begin_it_is_passed_by(scene: Scene, status: int) -> None:
    """The same bytes go to another one, and nothing of the first answer to the client."""
    asked = await post(scene)
    asked.stream.feed(says(status, b"no", b"retry-after: 7\r\n"))
    await settle()
    assert b"Bearer token-2" in asked.stream.written
    assert body_of(asked.stream) == body_of(scene.streams[0]) == chat()
    asked.stream.feed(OK)
    assert (asked.client.status, asked.client.body) == (200, b"ok")
    assert asked.client.header(b"x-vastproxy-instance") == b"2"
    assert asked.client.header(b"retry-after") is None
    assert scene.access.lines == [(200, 2, 2, len(chat()), 2)]
    assert [what for _, what, _ in outcomes(scene)] == ["refused", "answered"]
    scene.assert_idle()


async def test_whatever_part_of_the_refusal_has_come_it_is_dropped(scene: Scene) -> None:
    asked = await post(scene)
    first = asked.stream
    first.feed(b"HTTP/1.1 503 X\r\ncontent-length: 10\r\n\r\nhalf")
    assert first.aborted
    await settle()
    asked.stream.feed(OK)
    assert asked.client.body == b"ok"
    scene.assert_idle()


async def test_an_engine_is_asked_with_an_id_of_its_own_each_time(make_scene: Callable[..., Scene]) -> None:
    """SGLang refuses one that it knows. It need not be told to stop what it has not begun."""
    scene = make_scene(kind=EngineKind.SGLANG)
    asked = await post(scene)
    asked.stream.feed(says(503))
    await settle()
    rids = [asked_at(stream).pop("rid") for stream in scene.streams]
    assert len(rids) == len(set(rids)) == 2
    without = [
        {key: value for key, value in asked_at(stream).items() if key != "rid"} for stream in scene.streams
    ]
    assert without == [json.loads(chat())] * 2
    asked.stream.feed(OK)
    await settle()
    assert len(scene.streams) == 2
    assert not any(b"/abort_request" in stream.written for stream in scene.streams)
    scene.assert_idle()


async def test_attempts_are_limited(make_scene: Callable[..., Scene]) -> None:
    """The last answer is the client's."""
    scene = make_scene(backends=4, upstream=UpstreamSettings(max_attempts=3))
    asked = await post(scene)
    for number in range(3):
        asked.stream.feed(says(503, b"busy %d" % number))
        await settle()
    assert (asked.client.status, asked.client.body) == (503, b"busy 2")
    assert scene.access.lines == [(503, 3, 6, len(chat()), 3)]
    scene.assert_idle()


async def test_the_fleet_has_a_budget_of_second_attempts(make_scene: Callable[..., Scene]) -> None:
    """One of five in flight. It is given back when the second answer begins, or the request ends."""
    scene = make_scene(routing=RoutingSettings(policy="cheapest_first", retry_share=0, retry_least=1))
    first = await post(scene)
    first.stream.feed(says(503))
    await settle()
    second_try = scene.streams[-1]
    assert not scene.fleet.dispatcher.may_retry
    other = await scene.ask(b"POST", CHAT, body=chat(), pin=1)
    at = next(stream for stream in scene.streams if stream is not second_try and not stream.is_closing())
    at.feed(says(503, b"no more"))
    assert (other.client.status, other.client.body) == (503, b"no more")
    second_try.feed(SSE + EVENT)
    assert scene.fleet.dispatcher.may_retry
    first.exchange.client_left()
    scene.assert_idle()


async def test_a_second_attempt_that_fails_too_makes_room_for_the_third(
    make_scene: Callable[..., Scene],
) -> None:
    """A request has one of the budget at a time, however many attempts it makes."""
    scene = make_scene(
        backends=3, routing=RoutingSettings(policy="cheapest_first", retry_share=0, retry_least=1)
    )
    asked = await post(scene)
    for _ in range(2):
        asked.stream.feed(says(503))
        await settle()
    asked.stream.feed(OK)
    assert asked.client.header(b"x-vastproxy-instance") == b"3"
    assert scene.fleet.dispatcher.may_retry
    scene.assert_idle()


async def test_an_attempt_that_is_left_gives_its_retry_back(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(routing=RoutingSettings(policy="cheapest_first", retry_share=0, retry_least=1))
    asked = await post(scene)
    asked.stream.feed(says(503))
    await settle()
    asked.exchange.client_left()
    assert scene.fleet.dispatcher.may_retry
    assert scene.access.lines == [(499, 2, 0, len(chat()), 2)]
    scene.assert_idle()


async def test_what_could_not_be_reached_takes_nothing_of_the_budget(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene(routing=RoutingSettings(policy="cheapest_first", retry_share=0, retry_least=0))
    scene.tunnels[0].refuse()
    asked = await post(scene)
    asked.stream.feed(OK)
    assert asked.client.header(b"x-vastproxy-instance") == b"2"
    scene.assert_idle(failures=1)


# ── passed on ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("backends", [1, 2])
async def test_where_nobody_else_is_there_the_client_is_told_what_the_engine_said(
    make_scene: Callable[..., Scene], status: int, backends: int
) -> None:
    scene = make_scene(backends=backends)
    asked = await post(scene)
    for number in range(backends):
        asked.stream.feed(says(status, b"later %d" % number, b"retry-after: 17\r\n"))
        await settle()
    assert (asked.client.status, asked.client.body) == (status, b"later %d" % (backends - 1))
    assert asked.client.header(b"retry-after") == b"17"
    assert asked.client.header(b"x-vastproxy-instance") == b"%d" % backends
    scene.assert_idle()


@pytest.mark.parametrize(
    ("method", "target"), [(b"POST", b"/v1/files"), (b"DELETE", b"/v1/x"), (b"PUT", b"/v1/x")]
)
async def test_what_may_change_something_is_not_asked_twice(
    scene: Scene, method: bytes, target: bytes
) -> None:
    asked = await scene.ask(method, target, body=b"hello")
    asked.stream.feed(says(503))
    await settle()
    assert (asked.client.status, len(scene.streams)) == (503, 1)
    scene.assert_idle()


async def test_what_is_too_long_to_be_held_is_not_asked_twice(scene: Scene) -> None:
    asked = await scene.ask(b"POST", CHAT, body=b"{", complete=False, framing=CHUNKED)
    await gathered()
    asked.exchange.client_data(b" " * REPLAY_LIMIT_BYTES, complete=True)
    asked.stream.feed(says(503))
    await settle()
    assert (asked.client.status, len(scene.streams)) == (503, 1)
    scene.assert_idle()


async def test_who_has_another_model_is_no_other(scene: Scene) -> None:
    serves(scene, 2, "b")
    asked = await post(scene)
    asked.stream.feed(says(503))
    await settle()
    assert (asked.client.status, len(scene.streams)) == (503, 1)
    scene.assert_idle()


async def test_who_is_full_is_no_other(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(admission=AdmissionSettings(max_in_flight_per_backend=1), queue=QueueSettings())
    first = await scene.ask(pin=2)
    asked = await post(scene)
    mine = next(stream for stream in scene.streams if b"POST" in stream.written)
    mine.feed(says(503))
    await settle()
    assert (asked.client.status, len(scene.streams)) == (503, 2)
    first.exchange.client_left()
    scene.assert_idle()


async def test_an_answer_that_blames_the_client_is_his(scene: Scene) -> None:
    for status in (400, 403, 404, 422, 500, 502):
        asked = await post(scene)
        asked.stream.feed(says(status))
        assert (asked.client.status, asked.client.body) == (status, b"busy")
    assert {stream.written.count(b"Bearer token-2") for stream in scene.streams} == {0}
    scene.assert_idle()


# ── a key that is not accepted ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", [CHAT, b"/v1/files"])
async def test_an_engine_that_refuses_our_key_is_a_bad_gateway(
    make_scene: Callable[..., Scene], target: bytes
) -> None:
    """A 401 would tell the client that its own key is wrong, which was fine."""
    scene = make_scene(backends=1)
    asked = await scene.ask(b"POST", target, body=chat())
    asked.stream.feed(says(401, b'{"error":"token-1"}', b"www-authenticate: Bearer\r\n"))
    assert (asked.client.status, asked.error) == (502, "backend_unauthorized")
    assert b"engines.api_key" in asked.client.body
    assert b"token-1" not in asked.client.body
    assert asked.client.header(b"www-authenticate") is None
    assert asked.client.complete
    assert [what for _, what, _ in outcomes(scene)] == ["refused"]
    scene.assert_idle()


async def test_engines_that_all_refuse_our_key(scene: Scene) -> None:
    asked = await post(scene)
    for _ in range(2):
        asked.stream.feed(says(401))
        await settle()
    assert (asked.client.status, asked.error) == (502, "backend_unauthorized")
    assert asked.client.header(b"x-vastproxy-instance") == b"2"
    scene.assert_idle()


async def test_an_engine_that_goes_on_refusing_our_key_is_left_alone_and_told_of(scene: Scene) -> None:
    for _ in range(scene.settings.passive_health.refusals):
        asked = await scene.ask(b"POST", CHAT, body=chat(), pin=1)
        scene.tunnels[0].streams[-1].feed(says(401))
        await settle()
        scene.tunnels[1].streams[-1].feed(OK)
        assert asked.client.status == 200
    passive = scene.fleet.dispatcher.targets.passive
    record = passive.state_of(scene.backends[0].engine.key)  # type: ignore[union-attr]
    assert record is not None
    assert record.state is State.MISCONFIGURED
    assert [type(event).__name__ for event in scene.fleet.events] == ["TokenRefused"]
    before = len(scene.tunnels[0].streams)
    await post(scene)
    assert len(scene.tunnels[0].streams) == before


# ── Retry-After of engines ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("asked_for", [b"12", b"Thu, 01 Jan 1970 00:00:12 GMT"])
async def test_an_engine_is_left_alone_for_as_long_as_it_asks(scene: Scene, asked_for: bytes) -> None:
    scene.tools.wall_clock = lambda: 0.0
    asked = await post(scene)
    asked.stream.feed(says(503, fields=b"retry-after: %b\r\n" % asked_for))
    await settle()
    asked.stream.feed(OK)
    await asyncio.sleep(11.9)
    assert await next_choice(scene) == 2
    await asyncio.sleep(0.2)
    assert await next_choice(scene) == 1
    scene.assert_idle()


async def test_also_when_its_answer_was_the_clients(scene: Scene) -> None:
    """What may not be asked twice is refused; who comes next is spared the same engine."""
    asked = await scene.ask(b"POST", b"/v1/files", body=b"x")
    asked.stream.feed(says(503, fields=b"retry-after: 12\r\n"))
    assert asked.client.status == 503
    await asyncio.sleep(11.9)
    assert await next_choice(scene) == 2
    await asyncio.sleep(0.2)
    assert await next_choice(scene) == 1
    scene.assert_idle()


async def next_choice(scene: Scene) -> int:
    """Who is asked now."""
    asked = await scene.ask()
    lease = scene.fleet.traces.latest(1)[0].lease
    assert lease is not None
    asked.exchange.client_left()
    return lease.backend.id


# ── death in the middle ────────────────────────────────────────────────────────────────────────


async def test_a_stream_that_dies_ends_with_an_error_that_clients_understand(scene: Scene) -> None:
    """In OpenAI's shape, then a broken connection, never a clean end; and it is counted, once."""
    asked = await post(scene)
    asked.stream.feed(SSE + EVENT)
    asked.stream.lose(ConnectionResetError())
    await settle()
    events = asked.client.body.split(b"\n\n")
    assert events[0] == b"data: one"
    name, _, data = events[1].partition(b"\ndata: ")
    assert name == b"event: error"
    error = json.loads(data)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert (error["type"], error["code"]) == ("server_error", "backend_interrupted")
    assert (asked.client.broken, asked.client.complete) == (True, False)
    assert len(scene.streams) == 1
    assert scene.backends[0].engine is not None
    assert (scene.backends[0].failures, scene.backends[0].engine.failures) == (1, 1)
    assert scene.access.lines[0][:2] == (200, 1)
    assert outcomes(scene)[0][:2] == (1, "failed")
    assert outcomes(scene)[0][2]
    scene.assert_idle(failures=1)


async def test_a_limit_of_ours_is_not_told_as_if_the_client_had_left(
    make_scene: Callable[..., Scene],
) -> None:
    scene = make_scene(upstream=UpstreamSettings(total_timeout_s=8))
    asked = await post(scene)
    await asyncio.sleep(8.1)
    assert asked.client.status == 504
    ((instance, what, error),) = outcomes(scene)
    assert (instance, what) == (1, "failed")
    assert error == "the answer was not complete within 8 s (upstream.total_timeout_s)"
    scene.assert_idle()


# ── what the log has of it ─────────────────────────────────────────────────────────────────────


async def logged(scene: Scene, form: str, caplog: pytest.LogCaptureFixture) -> str:
    """The line about a request that two engines do not serve, and that waits for three seconds for the third."""
    caplog.set_level(logging.INFO, logger="vastproxy.access")
    lines: list[bytes] = []
    scene.tools.access_log = AccessLog(form=form, sink=lines.append, clock=lambda: 0.0)  # type: ignore[arg-type]
    first = await scene.ask()
    asked = await post(scene)
    await asyncio.sleep(3)
    first.stream.feed(OK)
    await settle()
    asked.stream.feed(says(503))
    await settle()
    asked.stream.feed(OK)
    assert asked.client.complete
    (line,) = [line for line in lines if b"POST" in line]
    assert line.endswith(b"\n")
    return line.decode()


@pytest.fixture
async def scarce(make_scene: Callable[..., Scene]) -> Scene:
    """One request at a time, through all."""
    return make_scene(admission=AdmissionSettings(max_in_flight=1), queue=QueueSettings())


async def test_the_log_has_the_wait_and_each_attempt(scarce: Scene, caplog: pytest.LogCaptureFixture) -> None:
    line = await logged(scarce, "text", caplog)
    assert " instance=2 via=direct status=200 " in line
    assert " attempts=2 " in line
    assert line.endswith(" waited=3000ms tried=1:refused\n")


async def test_the_log_in_json_has_them_too(scarce: Scene, caplog: pytest.LogCaptureFixture) -> None:
    entry = json.loads(await logged(scarce, "json", caplog))
    assert (entry["instance_id"], entry["status"], entry["attempts"]) == (2, 200, 2)
    assert entry["queue_s"] == pytest.approx(3, abs=0.01)
    assert entry["tried"] == [{"instance_id": 1, "outcome": "refused", "error": "HTTP 503"}]


@pytest.mark.parametrize("how", ["refused", "unreachable", "half"])
async def test_the_log_shows_what_the_status_does_not(
    make_scene: Callable[..., Scene], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Whether an error is the engine's answer or ours, and that an answer broke off."""
    scene = make_scene(backends=1)
    caplog.set_level(logging.INFO, logger="vastproxy.access")
    lines: list[bytes] = []
    scene.tools.access_log = AccessLog(sink=lines.append, clock=lambda: 0.0)
    if how == "unreachable":
        scene.tunnels[0].refuse()
    asked = await post(scene)
    if how == "refused":
        asked.stream.feed(says(401))
    elif how == "half":
        asked.stream.feed(SSE + EVENT)
        asked.stream.lose()
    status, what = {"refused": (502, "refused"), "unreachable": (503, "failed"), "half": (200, "failed")}[how]
    assert asked.client.status == status
    assert lines[0].decode().endswith(f" tried=1:{what}\n")
    assert b" status=%d " % status in lines[0]


async def test_the_log_of_an_engines_own_error_has_no_word_of_it(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="vastproxy.access")
    lines: list[bytes] = []
    scene.tools.access_log = AccessLog(sink=lines.append, clock=lambda: 0.0)
    (await post(scene)).stream.feed(says(500))
    (await post(scene)).exchange.client_left()
    assert [b" status=500 " in lines[0], b" status=499 " in lines[1]] == [True, True]
    assert not any(b"tried" in line for line in lines)


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_request_that_was_served_at_once_has_not_waited_nor_tried(
    scene: Scene, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="vastproxy.access")
    lines: list[bytes] = []
    scene.tools.access_log = AccessLog(form=form, sink=lines.append, clock=lambda: 0.0)  # type: ignore[arg-type]
    asked = await scene.ask()
    asked.stream.feed(OK)
    assert len(lines) == 1
    assert not any(word in lines[0] for word in (b"waited", b"tried"))
    assert form == "text" or json.loads(lines[0])["queue_s"] == 0
