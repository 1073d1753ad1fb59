"""Bodies that come in pieces: where engines differ nobody is asked before the model is known, within bounds."""

import asyncio
from collections.abc import Callable

import pytest

from tests.helpers.exchanging import Scene, gathered, settle
from tests.helpers.mixed import CHAT, asked_at, body_of, chat, head_of, serves
from vastproxy.api.gathering import GATHER_BYTES, GATHER_S
from vastproxy.api.upload import REPLAY_LIMIT_BYTES
from vastproxy.api.wishes import MODEL_WITHIN_BYTES
from vastproxy.services.http1.framing import CHUNKED, Framing
from vastproxy.settings.model import ServerSettings
from vastproxy.settings.routing import RoutingSettings

pytestmark = pytest.mark.virtual_time

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
PIECE = b"x" * (64 * 1024)
BOTH = pytest.mark.parametrize("chunked", [False, True])


def framing_of(body: bytes, chunked: bool) -> Framing:
    return CHUNKED if chunked else Framing(chunked=False, length=len(body))


@pytest.fixture
async def mixed(make_scene: Callable[..., Scene]) -> Scene:
    """The first engine has model a, the second one b."""
    scene = make_scene()
    serves(scene, 1, "a")
    serves(scene, 2, "b")
    return scene


# ── engines that serve the same ────────────────────────────────────────────────────────────────


async def test_where_engines_are_alike_the_model_is_not_waited_for(scene: Scene) -> None:
    body = chat("m", last=True)
    asked = await scene.ask(b"POST", CHAT, body=body[:20], complete=False, framing=framing_of(body, False))
    assert scene.streams == []
    await gathered()
    assert asked.stream.written.endswith(body[:20])
    asked.exchange.client_data(body[20:], complete=True)
    assert body_of(asked.stream) == body
    asked.stream.feed(OK)
    scene.assert_idle()


async def test_where_engines_are_alike_a_beginning_of_some_length_is_enough(scene: Scene) -> None:
    asked = await scene.ask(b"POST", CHAT, body=b"{", complete=False, framing=CHUNKED)
    asked.exchange.client_data(b" " * (GATHER_BYTES - 2), complete=False)
    await settle()
    assert scene.streams == []
    asked.exchange.client_data(b" ", complete=False)
    await settle()
    assert len(scene.streams) == 1
    asked.exchange.client_left()
    await asyncio.sleep(2 * GATHER_S)
    scene.assert_idle()


async def test_who_leaves_while_his_body_is_gathered_has_asked_nobody(scene: Scene) -> None:
    asked = await scene.ask(b"POST", CHAT, body=b"{", complete=False, framing=CHUNKED)
    asked.exchange.client_left()
    await gathered()
    assert scene.streams == []
    assert scene.access.lines == [(499, 0, 0, 1, None)]
    scene.assert_idle()


# ── engines that differ ────────────────────────────────────────────────────────────────────────


@BOTH
async def test_a_model_at_the_beginning_is_enough(mixed: Scene, chunked: bool) -> None:
    """The rest follows as it comes."""
    body = chat("b", text="long " * 1000)
    asked = await mixed.ask(b"POST", CHAT, body=body[:100], complete=False, framing=framing_of(body, chunked))
    assert b"Bearer token-2" in asked.stream.written
    asked.exchange.client_data(body[100:2000], complete=False)
    asked.exchange.client_data(body[2000:], complete=True)
    assert body_of(asked.stream) == body
    asked.stream.feed(OK)
    assert asked.client.header(b"x-vastproxy-instance") == b"2"
    mixed.assert_idle()


@BOTH
async def test_a_model_at_the_end_is_waited_for(mixed: Scene, chunked: bool) -> None:
    body = chat("b", last=True, text="long " * 30_000)
    assert len(body) > 2 * GATHER_BYTES
    asked = await mixed.ask(b"POST", CHAT, body=body[:1], complete=False, framing=framing_of(body, chunked))
    for at in range(1, len(body) - 1, 10_000):
        await asyncio.sleep(2 * GATHER_S)
        assert mixed.streams == []
        end = min(at + 10_000, len(body) - 1)
        asked.exchange.client_data(body[at:end], complete=False)
    asked.exchange.client_data(body[-1:], complete=True)
    await settle()
    assert body_of(asked.stream) == body
    assert b"Bearer token-2" in asked.stream.written
    asked.stream.feed(OK)
    assert asked.client.complete
    mixed.assert_idle()


@pytest.mark.parametrize("cut", range(1, len(chat("b", text="x")), 3))
async def test_wherever_a_body_is_cut_it_goes_to_who_has_its_model(mixed: Scene, cut: int) -> None:
    body = chat("b", text="x")
    asked = await mixed.ask(b"POST", CHAT, body=body[:cut], complete=False, framing=framing_of(body, False))
    asked.exchange.client_data(body[cut:], complete=True)
    await settle()
    assert (body_of(asked.stream), head_of(asked.stream)[b"authorization"]) == (body, b"Bearer token-2")
    asked.stream.feed(OK)
    mixed.assert_idle()


@BOTH
async def test_a_model_that_never_comes(mixed: Scene, chunked: bool) -> None:
    """It is anybody's then, and the engine says what it thinks of that."""
    body = chat(None, text="long " * 20_000)
    asked = await mixed.ask(b"POST", CHAT, body=body[:-1], complete=False, framing=framing_of(body, chunked))
    await gathered()
    assert mixed.streams == []
    asked.exchange.client_data(body[-1:], complete=True)
    await settle()
    assert body_of(asked.stream) == body
    asked.stream.feed(OK)
    mixed.assert_idle()


@pytest.mark.parametrize("first", [b"no JSON", b"[", b"\x1f\x8b\x08\x00"])
async def test_what_is_no_object_is_not_waited_for(mixed: Scene, first: bytes) -> None:
    asked = await mixed.ask(b"POST", CHAT, body=first, complete=False, framing=CHUNKED)
    assert len(mixed.streams) == 1
    asked.exchange.client_data(b"", complete=True)
    assert body_of(asked.stream) == first
    asked.stream.feed(OK)
    mixed.assert_idle()


async def test_an_empty_body_that_comes_in_pieces(mixed: Scene) -> None:
    asked = await mixed.ask(b"POST", CHAT, complete=False, framing=CHUNKED)
    await gathered()
    assert mixed.streams == []
    asked.exchange.client_data(b"", complete=True)
    await settle()
    assert body_of(asked.stream) == b""
    asked.stream.feed(OK)
    mixed.assert_idle()


async def test_a_model_that_nobody_has_is_refused_before_the_rest_comes(mixed: Scene) -> None:
    asked = await mixed.ask(b"POST", CHAT, body=b'{"model":"c",', complete=False, framing=CHUNKED)
    assert (asked.client.status, asked.error) == (404, "model_not_found")
    assert mixed.streams == []
    assert mixed.access.lines == [(404, 0, len(asked.client.body), 13, None)]
    asked.exchange.client_data(b'"messages":[]}', complete=True)
    mixed.assert_idle()


async def test_a_form_is_read_behind_its_file(mixed: Scene) -> None:
    file = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"\x00" * 200_000
    field = b'\r\n--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nb\r\n--x--\r\n'
    asked = await mixed.ask(
        b"POST",
        b"/v1/audio/transcriptions",
        body=file,
        headers=[(b"content-type", b"multipart/form-data; boundary=x")],
        complete=False,
        framing=framing_of(file + field, False),
    )
    await gathered()
    assert mixed.streams == []
    asked.exchange.client_data(field, complete=True)
    await settle()
    assert b"Bearer token-2" in asked.stream.written
    assert body_of(asked.stream) == file + field
    asked.stream.feed(OK)
    mixed.assert_idle()


async def test_a_model_is_waited_for_so_long_and_no_longer(mixed: Scene) -> None:
    """16 MiB are held, for one that never comes. Then it is anybody's, all of it, and is not sent a second time."""
    first = b'{"messages":"'
    asked = await mixed.ask(b"POST", CHAT, body=first, complete=False, framing=CHUNKED)
    count = (MODEL_WITHIN_BYTES - len(first)) // len(PIECE)
    for _ in range(count):
        asked.exchange.client_data(PIECE, complete=False)
    await settle()
    assert mixed.streams == []
    asked.exchange.client_data(PIECE, complete=False)
    await settle()
    assert len(mixed.streams) == 1
    asked.exchange.client_data(b'"}', complete=True)
    assert body_of(asked.stream) == first + PIECE * (count + 1) + b'"}'
    asked.stream.lose()
    assert (asked.client.status, asked.error) == (502, "backend_interrupted")
    mixed.assert_idle(failures=1)


async def test_a_body_is_not_gathered_beyond_what_is_taken(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(server=ServerSettings(max_body_bytes=1024))
    serves(scene, 1, "a")
    asked = await scene.ask(b"POST", CHAT, body=b'{"messages":"', complete=False, framing=CHUNKED)
    asked.exchange.client_data(b"x" * 1024, complete=False)
    assert (asked.client.status, asked.error) == (413, "request_too_large")
    assert scene.streams == []
    scene.assert_idle()


async def test_the_client_leaves_while_its_model_is_awaited(mixed: Scene) -> None:
    asked = await mixed.ask(b"POST", CHAT, body=b'{"messages":"', complete=False, framing=CHUNKED)
    asked.exchange.client_left()
    await gathered()
    assert mixed.streams == []
    mixed.assert_idle()


async def test_a_long_body_that_could_not_be_delivered_is_delivered_elsewhere(
    make_scene: Callable[..., Scene],
) -> None:
    """What is held for its model's sake has not been sent when the connection could not be made."""
    scene = make_scene(backends=3)
    serves(scene, 1, "a")
    scene.tunnels[1].refuse()
    body = chat("m", last=True, text="x" * (2 * REPLAY_LIMIT_BYTES))
    asked = await scene.ask(b"POST", CHAT, body=body[:-1], complete=False, framing=framing_of(body, False))
    asked.exchange.client_data(body[-1:], complete=True)
    await settle()
    assert b"Bearer token-3" in asked.stream.written
    assert body_of(asked.stream) == body
    asked.stream.feed(OK)
    scene.assert_idle(failures=1)


async def test_engines_that_begin_to_differ_while_a_body_comes(scene: Scene) -> None:
    """What has come before is read as well, and the moment that was to be waited does not end the wait."""
    body = chat("b", last=True)
    asked = await scene.ask(b"POST", CHAT, body=body[:20], complete=False, framing=framing_of(body, False))
    serves(scene, 2, "b")
    asked.exchange.client_data(body[20:-2], complete=False)
    await gathered()
    assert scene.streams == []
    asked.exchange.client_data(body[-2:], complete=True)
    await settle()
    assert b"Bearer token-2" in asked.stream.written
    assert body_of(asked.stream) == body
    asked.stream.feed(OK)
    scene.assert_idle()


async def test_engines_that_begin_to_differ_and_a_model_that_has_come(scene: Scene) -> None:
    body = chat("b")
    asked = await scene.ask(b"POST", CHAT, body=body[:20], complete=False, framing=framing_of(body, False))
    serves(scene, 2, "b")
    asked.exchange.client_data(body[20:30], complete=False)
    await settle()
    assert b"Bearer token-2" in asked.stream.written
    asked.exchange.client_data(body[30:], complete=True)
    assert body_of(asked.stream) == body
    asked.stream.feed(OK)
    scene.assert_idle()


# ── the default model ──────────────────────────────────────────────────────────────────────────


async def test_a_default_model_makes_engines_differ(make_scene: Callable[..., Scene]) -> None:
    """Whether the request names one has to be known then."""
    scene = make_scene(routing=RoutingSettings(policy="cheapest_first", default_model="m"))
    body = chat(None)
    asked = await scene.ask(b"POST", CHAT, body=body[:-1], complete=False, framing=framing_of(body, False))
    await gathered()
    assert scene.streams == []
    asked.exchange.client_data(body[-1:], complete=True)
    await settle()
    assert asked_at(asked.stream)["model"] == "m"
    asked.stream.feed(OK)
    scene.assert_idle()


# ── Expect: 100-continue ───────────────────────────────────────────────────────────────────────


async def test_the_client_is_invited_by_us_where_the_model_has_to_be_known(mixed: Scene) -> None:
    """Once: the engine is not asked for another invitation, and if it sends one all the same that goes nowhere."""
    body = chat("b")
    asked = await mixed.ask(
        b"POST", CHAT, expects_continue=True, complete=False, framing=framing_of(body, False)
    )
    assert [status for status, _ in asked.client.interims] == [100]
    assert mixed.streams == []
    asked.exchange.client_data(body[:5], complete=False)
    asked.exchange.client_data(body[5:], complete=True)
    await settle()
    assert b"expect" not in asked.stream.written
    assert body_of(asked.stream) == body
    asked.stream.feed(CONTINUE + OK)
    assert [status for status, _ in asked.client.interims] == [100]
    assert asked.client.complete
    mixed.assert_idle()


async def test_a_body_that_comes_uninvited_is_not_invited(mixed: Scene) -> None:
    body = chat("b")
    asked = await mixed.ask(b"POST", CHAT, body=body, expects_continue=True)
    assert body_of(asked.stream) == body
    asked.stream.feed(OK)
    assert asked.client.interims == []
    mixed.assert_idle()


async def test_who_would_be_refused_anyway_is_not_invited(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene(server=ServerSettings(max_body_bytes=1024))
    serves(scene, 1, "a")
    asked = await scene.ask(
        b"POST", CHAT, expects_continue=True, complete=False, framing=Framing(chunked=False, length=1025)
    )
    assert (asked.client.status, asked.client.interims) == (413, [])


async def test_where_engines_are_alike_the_engine_invites_once_however_many_are_asked(scene: Scene) -> None:
    """The first one invites and is full then; that the second one invites as well has been said."""
    body = chat("m")
    asked = await scene.ask(
        b"POST", CHAT, expects_continue=True, complete=False, framing=framing_of(body, False)
    )
    asked.stream.feed(CONTINUE)
    asked.stream.feed(FULL)
    await settle()
    assert b"Bearer token-2" in asked.stream.written
    assert b"\r\nexpect: 100-continue\r\n" in asked.stream.written
    asked.stream.feed(CONTINUE)
    assert [status for status, _ in asked.client.interims] == [100]
    asked.exchange.client_data(body, complete=True)
    assert body_of(asked.stream) == body
    asked.stream.feed(OK)
    assert asked.client.complete
    scene.assert_idle()


async def test_an_engine_that_is_full_is_not_the_end_of_who_waits_to_be_invited(scene: Scene) -> None:
    """Nothing of the body has come, so the next engine is asked to invite."""
    body = chat("m")
    asked = await scene.ask(
        b"POST", CHAT, expects_continue=True, complete=False, framing=framing_of(body, False)
    )
    asked.stream.feed(FULL)
    await settle()
    assert b"Bearer token-2" in asked.stream.written
    assert b"\r\nexpect: 100-continue\r\n" in asked.stream.written
    assert asked.client.interims == []
    asked.stream.feed(CONTINUE)
    assert [status for status, _ in asked.client.interims] == [100]
    asked.exchange.client_data(body, complete=True)
    assert body_of(asked.stream) == body
    asked.stream.feed(OK)
    assert asked.client.header(b"x-vastproxy-instance") == b"2"
    scene.assert_idle()
