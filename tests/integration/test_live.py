"""The live stream of a real proxy on the real server: what readers get, however they read, and what they leave."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.prompt import PromptServer, listen
from tests.helpers.raw import Handler
from tests.helpers.sse import SseReader
from tests.helpers.stage import Stage, always, next_request, ok, until
from tests.helpers.talk import Talk, ask, get, post
from vastproxy.api.app import create_app
from vastproxy.api.live import MAX_READERS, LiveEndpoint
from vastproxy.jobs.live import LiveJob
from vastproxy.services.access.keyfile import edit_keys
from vastproxy.services.access.records import KeyBook, KeyLimits, Right
from vastproxy.services.events import LabelWritten
from vastproxy.services.tasks import Tasks
from vastproxy.settings.model import ServerSettings

V1 = "/vastproxy/v1"
LIVE = f"{V1}/live?every_s=0.2"
JSON = "content-type: application/json"


class Feed(Stage):
    """A stage with its figures kept up."""

    live: LiveEndpoint

    @contextlib.asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        app = create_app(self.settings, fleet=self.fleet)
        self.live = app.state.live
        tasks = Tasks("figures")
        tasks.spawn(LiveJob(self.fleet.live, interval_s=0.05).run(), name="live")
        async with self.script, PromptServer(self._config(app), listen()) as server:
            self._server = server
            self.port = server.port
            yield
        await tasks.aclose()

    def reader(self, target: str = LIVE, *lines: str, receive_bytes: int | None = None) -> SseReader:
        return SseReader(self.port, target, *lines, receive_bytes=receive_bytes)

    async def get(self, target: str) -> Any:
        answer = await ask(self.port, get(V1 + target))
        assert answer.status == 200, answer
        return json.loads(answer.body)

    @property
    def is_left_alone(self) -> bool:
        """Is nothing kept for any reader?"""
        return not self.live.readers and not self.fleet.events.streams

    def happen(self, *labels: str) -> None:
        """Something harmless happens, once for each label."""
        for label in labels:
            self.fleet.events.publish(LabelWritten(1, label))


@pytest.fixture
async def feed() -> AsyncIterator[Feed]:
    async with Feed(always(ok(b'{"usage":{"prompt_tokens":7,"completion_tokens":5}}'))) as feed:
        yield feed
        await until(lambda: feed.is_left_alone)


async def test_the_overview_comes_at_once_then_what_has_happened(feed: Feed) -> None:
    async with feed.reader() as reader:
        assert b"content-type: text/event-stream" in reader.head
        assert b"cache-control: no-store" in reader.head
        assert (await reader.next()) is not None  # when to come back
        overview = await reader.next()
        assert overview is not None
        assert overview.kind == "fleet"
        (row,) = overview.data["backends"]
        assert (row["id"], row["state"], row["draining"]) == (1, "healthy", False)
        assert (await reader.happened("backend_added"))["instance"] == 1
        changes = [await reader.happened("state_changed") for _ in range(2)]
        assert changes[-1]["after"] == "healthy"


async def test_events_arrive_as_they_happen_and_the_overview_follows(feed: Feed) -> None:
    async with feed.reader() as reader:
        await reader.until("fleet")
        answer = await ask(feed.port, post(b"{}", JSON, target=f"{V1}/backends/1/drain"))
        assert answer.status == 200
        while (await reader.happened("state_changed"))["after"] != "draining":
            pass
        while not (await reader.until("fleet")).data["backends"][0]["draining"]:
            pass


async def test_who_comes_back_gets_what_he_has_missed_and_nothing_twice(feed: Feed) -> None:
    async with feed.reader() as reader:
        await reader.until("fleet")
        feed.happen("before")
        while (seen := await reader.happened("label_written"))["label"] != "before":
            pass
    missed = [f"missed-{number}" for number in range(150)]  # more than a newcomer is told
    feed.happen(*missed)
    async with feed.reader(LIVE, f"last-event-id: {seen['seq']}") as reader:
        got = [(await reader.until("happened")).data["label"] for _ in missed]
        assert got == missed
        feed.happen("now")
        assert (await reader.until("happened")).data["label"] == "now"


async def test_who_comes_back_too_late_is_told_how_much_is_gone(feed: Feed) -> None:
    seq = feed.fleet.events.seq
    feed.happen(*map(str, range(1_200)))
    async with feed.reader(LIVE, f"last-event-id: {seq}") as reader:
        assert (await reader.until("lost")).data == {"events": 200}
        assert (await reader.until("happened")).data["label"] == "200"


@pytest.mark.parametrize("known", ["17", "99999999999999999", "x", ""])
async def test_a_number_of_another_process_is_none(feed: Feed, known: str) -> None:
    async with feed.reader(LIVE, f"last-event-id: {known}") as reader:
        assert (await reader.happened("backend_added"))["instance"] == 1


async def test_who_does_not_read_loses_the_oldest_is_told_and_holds_up_nobody(feed: Feed) -> None:
    """Every event is either read or counted as lost; the other reader, who reads, has them all."""
    count = 6_000
    async with feed.reader(receive_bytes=4096) as slow, feed.reader() as quick:
        feed.happen("begin")
        for reader in (slow, quick):
            while (await reader.until("happened")).data.get("label") != "begin":
                pass
        first = feed.fleet.events.seq
        read = lost = 0
        for start in range(0, count, 300):
            feed.happen(*(f"{number}-{'x' * 600}" for number in range(start, start + 300)))
            for _ in range(300):
                assert (await quick.until("happened")).data["label"].partition("-")[0] == str(read)
                read += 1
        seen: list[int] = []
        while not seen or seen[-1] < first + count:
            sent = await slow.next()
            assert sent is not None
            if sent.kind == "lost":
                lost += sent.data["events"]
            elif sent.kind == "happened" and sent.id is not None and sent.id > first:
                seen.append(sent.id)
        assert lost > 0
        assert lost + len(seen) == count
        assert seen == sorted(set(seen))


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_reader_who_is_gone_leaves_nothing_behind(feed: Feed, how: str) -> None:
    """Found out at once, long before there is anything to send to him."""
    before = len(asyncio.all_tasks())
    async with contextlib.AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(feed.reader(f"{V1}/live?every_s=60")) for _ in range(5)]
        for reader in readers:
            await reader.until("fleet")
        assert feed.live.readers == 5
        for reader in readers:
            reader.talk.reset() if how == "reset" else reader.talk.writer.close()
        await until(lambda: feed.is_left_alone, limit_s=10.0)
        await until(lambda: len(asyncio.all_tasks()) <= before, limit_s=10.0)


async def test_where_nothing_changes_a_sign_of_life_comes(feed: Feed) -> None:
    async with feed.reader() as reader:
        await reader.until("fleet")
        sent = await reader.next()
        while sent is not None and sent.kind in ("happened", "fleet"):
            sent = await reader.next()
        assert sent is not None
        assert (sent.kind, sent.data) == ("", "still")


async def test_only_so_many_may_read(feed: Feed) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_READERS):
            reader = await stack.enter_async_context(feed.reader())
            await reader.until("fleet")
        answer = await ask(feed.port, get(LIVE))
        assert (answer.status, answer.header("retry-after")) == (503, "5")
        assert json.loads(answer.body)["error"]["code"] == "too_many_readers"
    await until(lambda: not feed.live.readers)
    async with feed.reader() as reader:
        await reader.until("fleet")


async def test_when_the_server_stops_streams_come_to_their_proper_end(feed: Feed) -> None:
    async with feed.reader() as reader:
        await reader.until("fleet")
        feed.live.close()
        while await reader.next() is not None:
            pass
        assert reader.ended
    assert (await ask(feed.port, get(LIVE))).status == 503


async def test_a_reader_whose_key_is_revoked_is_sent_away(tmp_path: Path) -> None:
    """The stream ends; asking again needs a key that is in force."""
    path = tmp_path / "keys.json"

    def create(book: KeyBook) -> tuple[KeyBook, str]:
        book, _, key = book.create("watcher", rights=frozenset({Right.ADMIN}), limits=KeyLimits(), now=0.0)
        return book, key

    key = edit_keys(path, create)
    script = always(ok())
    bearer = f"authorization: Bearer {key}"
    async with Feed(script, server=ServerSettings(keys_file=str(path))) as feed:
        assert (await ask(feed.port, get(LIVE))).status == 401
        async with feed.reader(LIVE, bearer) as reader:
            await reader.until("fleet")
            edit_keys(path, lambda book: (book.without(book.find("watcher")), None))
            while await reader.next() is not None:
                pass
            assert reader.ended
        assert (await ask(feed.port, get(LIVE, bearer))).status == 401


async def test_head_has_no_stream(feed: Feed) -> None:
    async with Talk(feed.port) as talk:
        answer = await talk.ask(get(LIVE, method="HEAD"))
        assert (answer.status, answer.header("content-type")) == (200, "text/event-stream")
        assert (await talk.ask(get(f"{V1}/process"))).status == 200


@pytest.mark.parametrize("query", ["every_s=0", "every_s=61", "every_s=x", "every_s=nan", "every_s="])
async def test_a_pace_that_cannot_be_is_refused(feed: Feed, query: str) -> None:
    answer = await ask(feed.port, get(f"{V1}/live?{query}"))
    assert answer.status == 400
    assert json.loads(answer.body)["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "code": "invalid_query",
        "param": "every_s",
    }


async def test_what_requests_take_is_counted(feed: Feed) -> None:
    for _ in range(3):
        assert (await ask(feed.port, post(b'{"model":"m"}', JSON, target="/v1/completions"))).status == 200
    overview = await feed.get("/fleet")
    totals = overview["totals"]
    assert (totals["requests"], totals["errors"]) == (3, 0)
    assert (totals["tokens_in"], totals["tokens_out"]) == (21, 15)
    assert totals["tokens_out_per_s"] > 0
    assert overview["backends"][0]["tokens_per_s"] > 0
    assert overview["backends"][0]["requests_per_s"] > 0


async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An engine that begins an answer and dies."""
    await next_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    writer.write(b"9\r\ndata: 1\n\n\r\n")
    await writer.drain()
    writer.transport.abort()


async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An engine that has troubles of its own."""
    await next_request(reader)
    writer.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    ("script", "status", "code"), [(broken, 200, "backend_interrupted"), (refusing, 500, "http_500")]
)
async def test_a_request_that_fails_is_told(script: Handler, status: int, code: str) -> None:
    async with Feed(script) as feed, feed.reader() as reader:
        await reader.until("fleet")
        request = post(b'{"model":"m"}', JSON, "x-request-id: mine", target="/v1/completions")
        async with Talk(feed.port) as talk:
            talk.write(request)
            told = await reader.happened("request_failed")
        assert told["instance"] == 1
        assert (told["request_id"], told["status"], told["code"]) == ("mine", status, code)
        assert (told["model"], told["level"], told["more"]) == ("m", "warning", 0)
        while (await reader.until("fleet")).data["totals"]["errors"] != 1:
            pass


async def test_what_a_client_got_wrong_is_no_failure(feed: Feed) -> None:
    async with feed.reader() as reader:
        await reader.until("fleet")
        assert (
            await ask(feed.port, post(b'{"model":"other"}', JSON, target="/v1/completions"))
        ).status == 404
        assert (await ask(feed.port, get("/flush_cache"))).status == 403
        feed.happen("behind")
        while (sent := await reader.until("happened")).data.get("label") != "behind":
            assert sent.data["kind"] != "request_failed"
    assert (await feed.get("/fleet"))["totals"]["errors"] == 0


async def test_one_backend_and_what_there_is_to_tell_of_it(feed: Feed) -> None:
    feed.happen("seen")
    told = await feed.get("/backends/1")
    assert told["id"] == told["instance"]["id"] == 1
    assert told["instance"]["jupyter_token"] in (None, "***")
    assert told["events"][-1]["label"] == "seen"
    assert (await ask(feed.port, get(f"{V1}/backends/9"))).status == 404


async def test_the_last_events_can_be_asked_for(feed: Feed) -> None:
    feed.happen("a", "b", "c")
    told = (await feed.get("/events?limit=2"))["events"]
    assert [each["label"] for each in told] == ["b", "c"]
    assert (await feed.get("/events?instance=9"))["events"] == []
    assert [each["label"] for each in (await feed.get("/events?instance=1&limit=1"))["events"]] == ["c"]
