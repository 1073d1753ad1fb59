"""Which engine a model is asked of, and by which name: nothing but that name is changed, and the frame fits."""

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.exchanging import Scene, settle
from tests.helpers.mixed import CHAT, asked_at, body_of, chat, head_of, serves
from vastproxy.api.upload import Rename, Upload
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.http1.chunked import ChunkedReader
from vastproxy.services.http1.framing import CHUNKED, Framing
from vastproxy.settings.admission import QueueSettings
from vastproxy.settings.routing import RoutingSettings

pytestmark = pytest.mark.virtual_time

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ALIASES = {"fast": ("long-name-of-a-model", "b"), "slow": ("nobody-has-it",)}
FORM = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\n%b\r\n--x--\r\n'


@pytest.fixture
async def named(make_scene: Callable[..., Scene]) -> Scene:
    """Two engines with a model each, an alias for both of them, and a default."""
    scene = make_scene(
        routing=RoutingSettings(policy="cheapest_first", aliases=ALIASES, default_model="fast"),
        queue=QueueSettings(max_wait_s=10),
    )
    serves(scene, 1, "long-name-of-a-model")
    serves(scene, 2, "b", kind=EngineKind.SGLANG)
    return scene


def sglang(scene: Scene) -> None:
    serves(scene, 1, "long-name-of-a-model", kind=EngineKind.SGLANG)


async def finished(scene: Scene, failures: int = 0) -> None:
    scene.streams[-1].feed(OK)
    await settle()
    scene.assert_idle(failures=failures)


# ── names ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("asked_for", "instance", "name"),
    [
        ("fast", 1, "long-name-of-a-model"),
        ("b", 2, "b"),
        ("B", 2, "b"),
        ("LONG-name-of-a-MODEL", 1, "long-name-of-a-model"),
        (None, 1, "long-name-of-a-model"),
        ("", 1, "long-name-of-a-model"),
    ],
)
async def test_a_model_by_its_own_name(named: Scene, asked_for: str | None, instance: int, name: str) -> None:
    """An alias, another case, the default: the engine reads the name that it knows, in a body of the length it says."""
    asked = await named.ask(b"POST", CHAT, body=chat(asked_for))
    assert b"Bearer token-%d" % instance in asked.stream.written
    said = asked_at(asked.stream)
    assert said.pop("model") == name
    assert said["messages"] == json.loads(chat())["messages"]
    await finished(named)


async def test_what_needs_no_other_name_is_not_touched(named: Scene) -> None:
    body = b' { "messages" : [ ], "model":"long-name-of-a-model" ,"x":1e5}\r\n'
    asked = await named.ask(b"POST", CHAT, body=body)
    assert body_of(asked.stream) == body
    await finished(named)


async def test_every_other_byte_stays(named: Scene) -> None:
    body = b' { "messages" : [ {"model":"fast"} ], "model" : "fast" ,"x":1e5}\r\n'
    asked = await named.ask(b"POST", CHAT, body=body)
    assert body_of(asked.stream) == body.replace(b'"model" : "fast"', b'"model" : "long-name-of-a-model"')
    await finished(named)


async def test_a_form_has_the_name_too(named: Scene) -> None:
    asked = await named.ask(
        b"POST",
        b"/v1/audio/transcriptions",
        body=FORM % b"fast",
        headers=[(b"content-type", b"multipart/form-data; boundary=x")],
    )
    assert body_of(asked.stream) == FORM % b"long-name-of-a-model"
    await finished(named)


async def test_a_body_that_cannot_be_read_goes_as_it_is(named: Scene) -> None:
    body = b"\x1f\x8b\x08\x00 compressed"
    asked = await named.ask(b"POST", CHAT, body=body, headers=[(b"content-encoding", b"gzip")])
    assert body_of(asked.stream) == body
    await finished(named)


async def test_a_request_without_a_body_is_nobodys_model(named: Scene) -> None:
    asked = await named.ask(b"GET", b"/version")
    assert asked.stream.written.endswith(b"\r\n\r\n")
    assert b"content-length" not in head_of(asked.stream)
    await finished(named)


# ── nobody has it ──────────────────────────────────────────────────────────────────────────────


async def test_a_model_that_nobody_has_is_refused_in_openais_shape(named: Scene) -> None:
    """Naming those that there are; nobody is asked, nobody waits."""
    asked = await named.ask(b"POST", CHAT, body=chat("c"))
    assert asked.client.status == 404
    assert asked.client.header(b"content-type") == b"application/json"
    error = json.loads(asked.client.body)["error"]
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error",
        "model_not_found",
        "model",
    )
    assert error["message"] == "The model 'c' is not served here. Served: b, fast, long-name-of-a-model."
    assert asked.client.header(b"retry-after") is None
    assert named.streams == []
    assert named.access.lines == [(404, 0, len(asked.client.body), len(chat("c")), None)]
    named.assert_idle()


async def test_an_alias_of_what_nobody_has_is_refused(named: Scene) -> None:
    asked = await named.ask(b"POST", CHAT, body=chat("slow"))
    assert (asked.client.status, asked.error) == (404, "model_not_found")


@pytest.mark.parametrize("name", ["x" * 10_000, "\x00\x1b[31m\r\n", '"}', "😀", "\ud800"])
async def test_whatever_the_name_the_refusal_is_json_of_some_length(named: Scene, name: str) -> None:
    asked = await named.ask(b"POST", CHAT, body=chat(name))
    assert (asked.client.status, asked.error) == (404, "model_not_found")
    assert len(asked.client.body) < 4096
    json.loads(asked.client.body)
    named.assert_idle()


async def test_one_that_went_a_moment_ago_is_waited_for(named: Scene) -> None:
    """Its host is being replaced."""
    named.fleet.dispatcher.targets.forget(named.backends[1])
    named.fleet.expecting = True
    asked = await named.ask(b"POST", CHAT, body=chat("b"))
    assert asked.client.calls == []
    serves(named, 1, "b")
    await settle()
    assert asked_at(asked.stream)["model"] == "b"
    await finished(named)


# ── elsewhere, by another name ─────────────────────────────────────────────────────────────────


async def test_each_engine_that_is_tried_reads_its_own_name(named: Scene) -> None:
    """And the second one an id in the same body, whose length is that of all of it."""
    asked = await named.ask(b"POST", CHAT, body=chat("fast"))
    asked.stream.feed(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n")
    await settle()
    first, second = (asked_at(stream) for stream in named.streams)
    assert re.fullmatch("[0-9a-f]{32}", second.pop("rid"))
    assert (first.pop("model"), second.pop("model")) == ("long-name-of-a-model", "b")
    assert first == second
    await finished(named)


async def test_a_name_that_becomes_longer_or_shorter_with_an_id_in_pieces(named: Scene) -> None:
    """Announced lengths are those of what is sent."""
    sglang(named)
    for number, name in enumerate(("fast", "LONG-NAME-OF-A-MODEL")):
        body = chat(name, text="x" * 500)
        framing = Framing(chunked=False, length=len(body))
        asked = await named.ask(b"POST", CHAT, body=body[:60], complete=False, framing=framing)
        asked.exchange.client_data(body[60:200], complete=False)
        asked.exchange.client_data(body[200:], complete=True)
        said = asked_at(asked.stream)
        assert said.pop("model") == "long-name-of-a-model"
        assert len(said.pop("rid")) == 32
        assert said == {"messages": [{"role": "user", "content": "x" * 500}]}
        asked.stream.feed(OK)
        assert len(named.access.lines) == number + 1
        assert named.access.lines[-1][3] == len(body)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("kind", [EngineKind.VLLM, EngineKind.SGLANG])
async def test_however_it_comes_the_engine_reads_the_same(
    named: Scene, kind: EngineKind, chunked: bool, last: bool
) -> None:
    serves(named, 1, "long-name-of-a-model", kind=kind)
    body = chat("fast", last=last, text='"model":"x", \\u0022 { ' * 50)
    wanted = {**json.loads(body), "model": "long-name-of-a-model"}
    framing = CHUNKED if chunked else Framing(chunked=False, length=len(body))
    for cut in (1, 12, len(body) // 2, len(body) - 1):
        asked = await named.ask(b"POST", CHAT, body=body[:cut], complete=False, framing=framing)
        asked.exchange.client_data(body[cut:], complete=True)
        await settle()
        said = asked_at(asked.stream)
        assert (said.pop("rid", None) is not None) == (kind is EngineKind.SGLANG)
        assert said == wanted
        await finished(named)


@given(data=st.data())
def test_any_cuts_make_no_difference(data: st.DataObject) -> None:
    """Chunked or announced, in whatever pieces: what the engine reads is what was meant, with its model's name."""
    # Reads bodies through `Upload` alone: an exchange for each example would need a loop for each.
    body = chat("fast", last=data.draw(st.booleans()), text=data.draw(st.text(max_size=30)))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=4)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    upload = Upload(len(body) if data.draw(st.booleans()) else None)
    held = data.draw(st.integers(1, len(pieces)))
    for number, piece in enumerate(pieces[:held], start=1):
        upload.add(piece, complete=number == len(pieces), on_its_way=False)
    rename = Rename("long-name-of-a-model", b"application/json")
    length, sent = upload.begin(CHAT if data.draw(st.booleans()) else None, rename)
    for number, piece in enumerate(pieces[held:], start=held + 1):
        upload.add(piece, complete=number == len(pieces), on_its_way=True)
        sent += upload.more(piece)
    if length is None:
        reader = ChunkedReader()
        sent = reader.feed(sent)
        assert reader.done
    else:
        assert len(sent) == length
    said = json.loads(sent)
    said.pop("rid", None)
    was_known = b'"model"' in b"".join(pieces[:held])
    name = said.pop("model")
    assert name in ("long-name-of-a-model", "fast")
    if held == len(pieces):
        assert was_known
        assert name == "long-name-of-a-model"
    wanted = json.loads(body)
    del wanted["model"]
    assert said == wanted
