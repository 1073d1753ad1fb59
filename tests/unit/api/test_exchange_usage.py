"""Usage that a client did not ask for: the engine is asked, the ledger and the log hear it, the client does not."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.exchanging import Asked, Scene
from vastproxy.api.access import AccessLog
from vastproxy.api.stripping import StrippedChunks, StrippedClient
from vastproxy.services.backends.engine_kinds import EngineKind
from vastproxy.services.errors import TunnelLost
from vastproxy.services.ledger.book import Book
from vastproxy.services.upstream.strip_usage import UsageStrip
from vastproxy.settings import Settings
from vastproxy.settings.ledger import LedgerSettings

pytestmark = pytest.mark.virtual_time

CHAT = b"/v1/chat/completions"
BODY = b'{"model":"m","stream":true,"messages":[]}'
ASKING = b'{"stream_options":{"include_usage":true},"model":"m","stream":true,"messages":[]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"t"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":12,"total_tokens":46,"completion_tokens":34}}\n\n'
DONE = b"data: [DONE]\n\n"
TELLING = [EngineKind.VLLM, EngineKind.SGLANG, EngineKind.LLAMACPP]


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Counted:
    """A scene with a ledger and a log."""

    def __init__(self, kind: EngineKind = EngineKind.VLLM, backends: int = 1) -> None:
        self.scene = Scene(backends=backends, kind=kind)
        self.book = Book()
        self.scene.tools.note = self.book.entries.append
        self.lines: list[bytes] = []
        self.scene.tools.access_log = AccessLog(form="json", sink=self.lines.append)

    async def ask(self, body: bytes = BODY, target: bytes = CHAT) -> Asked:
        return await self.scene.ask(b"POST", target, body=body)

    @property
    def sent(self) -> bytes:
        """The body that the engine was sent last."""
        return self.scene.streams[-1].written.partition(b"\r\n\r\n")[2]

    @property
    def logged(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.lines[-1])
        return told


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="vastproxy.access")


@pytest.fixture(params=TELLING)
async def counted(request: pytest.FixtureRequest) -> AsyncIterator[Counted]:
    made = Counted(request.param)
    yield made
    await made.scene.aclose()


async def test_a_stream_is_asked_for_its_usage_and_its_client_does_not_see_it(counted: Counted) -> None:
    asked = await counted.ask()
    wanted = json.loads(counted.sent)
    assert wanted.pop("stream_options") == {"include_usage": True}
    wanted.pop("rid", None)
    assert wanted == json.loads(BODY)
    for piece in (HEAD, framed(TOKEN), framed(TOKEN), framed(USAGE), framed(DONE), b"0\r\n\r\n"):
        asked.stream.feed(piece)
    assert asked.client.body == TOKEN + TOKEN + DONE
    assert asked.client.complete
    assert (counted.logged["tokens_in"], counted.logged["tokens_out"]) == (12, 34)
    assert counted.logged["sent_bytes"] == len(TOKEN + TOKEN + DONE)
    (entry,) = counted.book.entries
    assert entry[0] == 1
    assert entry[3:8] == ("chat", 200, None, 12, 34)
    assert entry[9:12] == (True, len(BODY), len(TOKEN + TOKEN + DONE))
    counted.scene.assert_idle()


async def test_a_client_that_asks_sees_it(counted: Counted) -> None:
    asked = await counted.ask(ASKING)
    assert json.loads(counted.sent)["stream_options"] == {"include_usage": True}
    assert counted.sent.startswith(ASKING[:-1])
    for piece in (HEAD, framed(TOKEN), framed(USAGE), framed(DONE), b"0\r\n\r\n"):
        asked.stream.feed(piece)
    assert asked.client.body == TOKEN + USAGE + DONE
    assert (counted.logged["tokens_in"], counted.logged["tokens_out"]) == (12, 34)


@given(
    st.lists(st.sampled_from([TOKEN, USAGE, DONE, b": still\n\n", b"data: half"]), max_size=6),
    st.lists(st.integers(0, 400), max_size=6),
    st.lists(st.integers(0, 900), max_size=8),
)
async def test_however_it_comes_the_client_gets_the_rest(
    events: list[bytes], chunk_ends: list[int], read_ends: list[int]
) -> None:
    """Cut into chunks anywhere, and the chunks into reads."""
    stream = b"".join(events)
    counted = Counted()
    asked = await counted.ask()
    raw = b"".join(map(framed, filter(None, cut(stream, chunk_ends)))) + b"0\r\n\r\n"
    asked.stream.feed(HEAD)
    for piece in filter(None, cut(raw, read_ends)):
        asked.stream.feed(piece)
    expected = UsageStrip()
    assert asked.client.body == expected.feed(stream) + expected.end()
    assert asked.client.complete
    assert counted.logged["sent_bytes"] == len(asked.client.body)
    if expected.taken:
        assert counted.logged["tokens_out"] == 34
    await counted.scene.aclose()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


async def test_all_at_once_with_the_head() -> None:
    counted = Counted()
    asked = await counted.ask()
    asked.stream.feed(HEAD + framed(TOKEN + USAGE + DONE) + b"0\r\n\r\n")
    assert asked.client.body == TOKEN + DONE
    await counted.scene.aclose()


@pytest.mark.parametrize("kind", [EngineKind.OLLAMA, EngineKind.TGI, EngineKind.OPENAI])
async def test_engines_that_may_not_know_it_are_not_asked(kind: EngineKind) -> None:
    counted = Counted(kind)
    asked = await counted.ask()
    assert counted.sent == BODY
    for piece in (HEAD, framed(TOKEN), framed(USAGE), b"0\r\n\r\n"):
        asked.stream.feed(piece)
    assert asked.client.body == TOKEN + USAGE
    await counted.scene.aclose()


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (CHAT, b'{"model":"m","stream":false}'),
        (CHAT, b'{"model":"m"}'),
        (b"/v1/responses", BODY),
        (b"/v1/embeddings", BODY),
    ],
)
async def test_what_is_no_such_stream_is_not_touched(target: bytes, body: bytes) -> None:
    counted = Counted()
    await counted.ask(body, target)
    assert counted.sent == body
    await counted.scene.aclose()


async def test_it_can_be_switched_off() -> None:
    counted = Counted()
    settings = Settings(ledger=LedgerSettings(ask_usage=False))
    counted.scene.fleet.settings = settings
    tools = type(counted.scene.tools)(counted.scene.fleet, access_log=AccessLog(enabled=False))  # type: ignore[arg-type]
    counted.scene.tools = tools
    await counted.ask()
    assert counted.sent == BODY
    await counted.scene.aclose()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        HEAD.replace(b"transfer-encoding", b"content-encoding: x\r\ntransfer-encoding"),
    ],
)
async def test_an_answer_of_another_form_is_passed_on_as_it_is(head: bytes) -> None:
    counted = Counted()
    asked = await counted.ask()
    for piece in (head, framed(TOKEN), framed(USAGE), b"0\r\n\r\n"):
        asked.stream.feed(piece)
    assert asked.client.body == TOKEN + USAGE
    await counted.scene.aclose()


async def test_an_announced_length_is_kept() -> None:
    counted = Counted()
    asked = await counted.ask()
    body = TOKEN + USAGE
    asked.stream.feed(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    asked.stream.feed(body)
    assert asked.client.body == body
    await counted.scene.aclose()


async def test_a_stream_that_breaks_off_ends_with_an_error_of_its_own_event() -> None:
    """Half an event that was held back is not passed on, so that the error is an event."""
    counted = Counted()
    asked = await counted.ask()
    for piece in (HEAD, framed(TOKEN), framed(TOKEN[:20])):
        asked.stream.feed(piece)
    asked.stream.lose(TunnelLost("gone"))
    body = asked.client.body
    assert body.startswith(TOKEN)
    assert TOKEN[:20] not in body[len(TOKEN) :]
    assert body[len(TOKEN) :].lstrip(b"\n").startswith(b"event: error\ndata: {")
    await counted.scene.aclose()


async def test_a_client_that_leaves_has_what_was_told_so_far() -> None:
    counted = Counted()
    asked = await counted.ask()
    for piece in (HEAD, framed(TOKEN), framed(TOKEN)):
        asked.stream.feed(piece)
    asked.exchange.client_left()
    (entry,) = counted.book.entries
    assert entry[4] == 499
    assert entry[8] == 3, "the reads in which it came: its head is one"
    await counted.scene.aclose()


async def test_what_no_instance_was_asked_for_is_not_noted() -> None:
    counted = Counted(backends=0)
    asked = await counted.ask()
    assert asked.client.status == 503
    assert not counted.book.entries
    await counted.scene.aclose()


def test_what_is_no_part_of_the_body_goes_through() -> None:
    """The client behind is asked and told what one before it would be."""

    class Behind:
        peer, scheme, write_paused, chunks = "192.0.2.1", "https", True, None

        def __init__(self) -> None:
            self.heard: list[Any] = []

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **named: self.heard.append((name, args, named))

    behind = Behind()
    client = StrippedClient(behind)
    assert (client.peer, client.scheme, client.write_paused, client.chunks) == (
        "192.0.2.1",
        "https",
        True,
        None,
    )
    client.interim(103, b"x: y\r\n")
    client.pause_reading()
    client.resume_reading()
    client.switch(b"")
    client.respond(200, b"", length=None, data=TOKEN + USAGE, last=True)
    client.break_off(b"e")
    assert [heard[0] for heard in behind.heard] == [
        *("interim", "pause_reading", "resume_reading", "switch", "respond", "break_off")
    ]
    assert behind.heard[4][2]["data"] == TOKEN


def test_a_slow_client_is_seen_to_be_slow_on_the_short_way_too() -> None:
    class Chunks:
        write_paused = True

        def __init__(self) -> None:
            self.sent: list[bytes] = []

        def send_chunk(self, chunk: bytes) -> None:
            self.sent.append(chunk)

    chunks = Chunks()
    stripped = StrippedChunks(chunks, UsageStrip())
    assert stripped.write_paused
    for data in (TOKEN, USAGE, USAGE + DONE, DONE):
        stripped.send_chunk(framed(data))
    assert chunks.sent == [framed(TOKEN), framed(DONE), framed(DONE)]
