"""Events on the short way: the client is sent the same body as on the long one, in its order, and nothing is missed by
those who do not see them."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.helpers.recording_sink import IDLE_S, REQUEST, Asking, RecordingSink
from vastproxy.services.errors import BackendTimeout, ResponseInterrupted
from vastproxy.services.http1.chunked import ChunkedReader, event_bytes
from vastproxy.services.http1.headers import LAST_CHUNK, chunk
from vastproxy.services.upstream.response import ResponseHead

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"data: hello\n\n"


@dataclass
class Client:
    """Who is sent chunks: `body` is what it reads of them and of what the sink was told, in order."""

    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    write_paused: bool = False

    def send_chunk(self, chunk: bytes) -> None:
        reader = ChunkedReader()
        self.body += reader.feed(chunk)
        assert reader.is_between
        assert not reader.done
        self.chunks.append(chunk)


@dataclass
class Engine:
    has_answered: bool = False


class RelayingSink(RecordingSink):
    """A sink that asks for the short way once it is answered."""

    def __init__(self, asking: Asking) -> None:
        super().__init__()
        self.asking, self.client, self.engine = asking, Client(), Engine()

    def engine_answered(self, head: ResponseHead, data: bytes, done: bool) -> None:
        super().engine_answered(head, data, done)
        self.client.body += data
        if not done:
            self.asking.connection.relay_to(self.client, self.engine)

    def engine_data(self, data: bytes, done: bool) -> None:
        super().engine_data(data, done)
        self.client.body += data


def relaying(head: bytes = HEAD) -> tuple[Asking, RelayingSink]:
    """A connection whose answer has begun."""
    bench = Asking()
    sink = RelayingSink(bench)
    bench.send(sink=sink)
    bench.stream.feed(head)
    return bench, sink


@pytest.mark.virtual_time
async def test_an_event_goes_to_the_client_as_it_came() -> None:
    bench, sink = relaying()
    for _ in range(3):
        bench.stream.feed(chunk(EVENT))
    assert sink.client.chunks == [chunk(EVENT)] * 3
    assert sink.calls == ["answered"]
    assert bench.connection.relayed_bytes == 3 * len(EVENT)
    assert sink.engine.has_answered
    bench.stream.feed(LAST_CHUNK)
    assert sink.done
    assert bench.connection.may_serve()


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "data",
    [
        chunk(b"half an ev"),
        chunk(b"\n"),
        chunk(EVENT) * 2,
        chunk(EVENT) + LAST_CHUNK,
        chunk(EVENT)[:-1],
        b"d;x=y\r\ndata: hello\n\n\r\n",
        b"00d\r\ndata: hello\n\n\r\n",
        chunk(EVENT * 1000),
    ],
)
async def test_anything_else_goes_to_the_sink(data: bytes) -> None:
    bench, sink = relaying()
    bench.stream.feed(data)
    assert sink.client.chunks == []
    assert sink.calls == ["answered", "data"]
    assert not bench.connection.relayed_last


@pytest.mark.virtual_time
async def test_what_looks_like_an_event_in_the_middle_of_a_chunk_is_none() -> None:
    bench, sink = relaying()
    inner = chunk(EVENT)
    bench.stream.feed(b"%x\r\n" % (2 * len(inner)))
    bench.stream.feed(inner)
    bench.stream.feed(inner)
    assert sink.client.chunks == []
    assert sink.body == inner * 2
    bench.stream.feed(b"\r\n")
    bench.stream.feed(inner)
    assert sink.client.chunks == [inner]


@pytest.mark.virtual_time
async def test_what_came_last() -> None:
    bench, _ = relaying()
    assert not bench.connection.relayed_last
    bench.stream.feed(chunk(EVENT))
    assert bench.connection.relayed_last
    bench.stream.feed(b"8\r")  # nothing of the body yet
    assert bench.connection.relayed_last
    bench.stream.feed(b"\ndata: he\r\n")
    assert not bench.connection.relayed_last


@pytest.mark.virtual_time
@pytest.mark.parametrize("end", ["abort", "forget", "close"])
async def test_nothing_is_relayed_after_the_end(end: str) -> None:
    bench, sink = relaying()
    bench.stream.feed(chunk(EVENT))
    getattr(bench.connection, end)()
    bench.connection.data_received(chunk(EVENT))
    assert len(sink.client.chunks) == 1
    assert "data" not in sink.calls


@pytest.mark.virtual_time
async def test_the_next_answer_goes_the_long_way_until_it_is_asked_for() -> None:
    bench, sink = relaying()
    bench.stream.feed(chunk(EVENT))
    bench.stream.feed(LAST_CHUNK)
    bench.send()
    assert bench.connection.relayed_bytes == 0
    bench.stream.feed(HEAD)
    bench.stream.feed(chunk(EVENT))
    assert len(sink.client.chunks) == 1
    assert bench.sink.body == EVENT


@pytest.mark.virtual_time
@pytest.mark.parametrize("head", [b"Content-Length: 100\r\n", b""], ids=["length", "until close"])
async def test_a_body_without_chunks_goes_the_long_way(head: bytes) -> None:
    bench, sink = relaying(b"HTTP/1.1 200 OK\r\n%b\r\n" % head)
    bench.stream.feed(chunk(EVENT))
    assert sink.client.chunks == []
    assert sink.body == chunk(EVENT)


@pytest.mark.virtual_time
async def test_a_client_that_does_not_read_stops_the_engine() -> None:
    bench, sink = relaying()
    sink.client.write_paused = True
    bench.stream.feed(chunk(EVENT))
    assert not bench.stream.reading
    bench.connection.resume_reading()
    assert bench.stream.reading


@pytest.mark.virtual_time
async def test_an_answer_that_breaks_off_is_not_whole() -> None:
    bench, sink = relaying()
    bench.stream.feed(chunk(EVENT))
    bench.connection.eof_received()
    assert isinstance(sink.error, ResponseInterrupted)
    assert bench.connection.relayed_last


@pytest.mark.virtual_time
async def test_events_are_no_silence_and_silence_behind_them_is() -> None:
    bench, sink = relaying()
    for _ in range(8):
        await asyncio.sleep(IDLE_S / 2)
        bench.stream.feed(chunk(EVENT))
    assert sink.error is None
    await asyncio.sleep(IDLE_S * 1.3)
    assert isinstance(sink.error, BackendTimeout)


PIECES = st.lists(
    st.one_of(
        st.just(EVENT),
        st.just(b"data: he"),
        st.just(b"\n\n"),
        st.just(b"\n"),
        st.just(chunk(EVENT)),
        st.binary(max_size=20),
    ),
    max_size=12,
)


@given(PIECES, st.lists(st.integers(1, 40), max_size=30), st.data())
async def test_the_same_body_in_any_pieces(bodies: list[bytes], cuts: list[int], data: st.DataObject) -> None:
    """However the answer is cut – at chunks, or anywhere – the client reads what the engine wrote, in its order."""
    frames = [chunk(body) for body in bodies if body]
    if data.draw(st.booleans()):
        pieces = frames
        event("cut at chunks")
    else:
        whole, pieces, at = b"".join(frames), [], 0
        for size in [*cuts, len(whole)]:
            pieces.append(whole[at : at + size])
            at += size
    bench, sink = relaying()
    for piece in pieces:
        if piece:
            bench.stream.feed(piece)
    assert not sink.done
    assert sink.client.body == b"".join(bodies)
    bench.stream.feed(LAST_CHUNK)
    assert sink.done
    assert sink.error is None
    told = len(sink.body) + bench.connection.relayed_bytes
    assert told == len(b"".join(bodies))
    assert bench.stream.written == REQUEST


@given(st.binary(max_size=60).map(lambda body: body + b"\n\n"))
def test_an_event_in_its_frame_is_recognised(body: bytes) -> None:
    assert event_bytes(chunk(body)) == len(body)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_nothing_is_recognised_that_is_not_one_whole_chunk(before: bytes, data: bytes) -> None:
    for candidate in (data, before + chunk(data), chunk(before) + chunk(data), chunk(data)[1:]):
        if size := event_bytes(candidate):
            reader = ChunkedReader()
            body = reader.feed(candidate)
            assert (len(body), reader.is_between, reader.done) == (size, True, False)
            assert candidate == chunk(body)
            assert body.endswith(b"\n\n")
