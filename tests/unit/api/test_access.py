"""The access log: one line for each request, whatever the request was made of."""

import json
import logging
import re
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vastproxy.api.access import NAME_LIMIT_CHARS, WORD_LIMIT_BYTES, AccessLog, clipped

NOW = 1_769_857_200.25
FIELDS: dict[str, Any] = {
    "request_id": b"0123456789abcdef",
    "method": b"POST",
    "path": b"/v1/chat/completions",
    "key": "web",
    "model": "Qwen/Qwen3-8B",
    "instance_id": 17,
    "via": "direct",
    "status": 200,
    "error": None,
    "streamed": True,
    "sent_bytes": 512,
    "received_bytes": 99,
    "attempts": 1,
    "queued_s": 0.0,
    "ttfb_s": 0.0049,
    "took_s": 0.0123,
    "tokens_in": 11,
    "tokens_out": 7,
    "client": "203.0.113.7",
}
#: Nobody served it: no key, no model, no instance, no answer.
BARE: dict[str, Any] = {
    **dict.fromkeys(["key", "model", "instance_id", "ttfb_s", "tokens_in", "tokens_out"]),
    **{
        "via": "",
        "status": 503,
        "error": "no_backend_available",
        "streamed": False,
        "attempts": 0,
        "client": "",
    },
}
TEXT = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d info    ([!-~…]+) ([!-~…]+) ([!-~…]+) key=([!-~…]+) model=([!-~…]+) → "
    r"instance=(-|\d+) via=([!-~…]+) status=(\d+) error=([!-~…]+) streamed bytes=(\d+) attempts=(\d+) "
    r"took=(\d+)ms ttfb=(-|\d+ms) client=([!-~…]+) tokens=11\+7 tried=([!-~…]+)\n"
)
anything = st.binary(max_size=60) | st.sampled_from(
    [b"", b"/a b", b"/a\nb", b"/a\r\nb", b'/"}\\', b"\\x0a", b"\x7f\x1b[2J", "/ä\u2028→".encode()]
)


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="vastproxy.access")


class Clock:
    def __init__(self, *times: float) -> None:
        self.times = list(times)
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


def written(form: Literal["text", "json"] = "text", **fields: Any) -> str:
    """What one request with these fields writes."""
    lines: list[bytes] = []
    AccessLog(form=form, sink=lines.append, clock=Clock(NOW)).log(**{**FIELDS, **fields})
    (line,) = lines
    return line.decode()


def test_a_line_for_people() -> None:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW))
    assert written() == (
        f"{moment} info    0123456789abcdef POST /v1/chat/completions key=web model=Qwen/Qwen3-8B → "
        "instance=17 via=direct status=200 streamed bytes=512 attempts=1 took=12ms ttfb=5ms client=203.0.113.7 "
        "tokens=11+7\n"
    )


def test_a_line_for_people_of_a_request_that_nobody_served() -> None:
    """What there is nothing to say of is not named."""
    assert written(**BARE)[28:] == (
        "0123456789abcdef POST /v1/chat/completions → instance=- status=503 error=no_backend_available bytes=512 "
        "attempts=0 took=12ms ttfb=- client=-\n"
    )


def test_a_line_for_people_of_a_request_with_a_story() -> None:
    line = written(queued_s=1.5, tokens_in=None, tried=[(3, "failed", "it broke off"), (4, "refused", "")])
    assert line.endswith(" tokens=-+7 waited=1500ms tried=3:failed,4:refused\n")


def test_a_line_for_programs() -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(NOW))
    assert json.loads(written("json")) == {
        "time": moment,
        "level": "info",
        "logger": "vastproxy.access",
        "request_id": "0123456789abcdef",
        "method": "POST",
        "path": "/v1/chat/completions",
        "key": "web",
        "model": "Qwen/Qwen3-8B",
        "instance_id": 17,
        "via": "direct",
        "status": 200,
        "error": None,
        "streamed": True,
        "sent_bytes": 512,
        "received_bytes": 99,
        "attempts": 1,
        "queue_s": 0,
        "ttfb_s": 0.0049,
        "took_s": 0.0123,
        "tokens_in": 11,
        "tokens_out": 7,
        "client": "203.0.113.7",
    }


def test_each_line_for_programs_has_the_same_fields() -> None:
    """Only `tried` is left out where there is nothing in it."""
    served, bare = json.loads(written("json")), json.loads(written("json", **BARE))
    assert list(served) == list(bare)
    empty = ("key", "model", "instance_id", "via", "ttfb_s", "tokens_in", "tokens_out")
    assert [bare[name] for name in empty] == [None] * len(empty)
    assert (bare["error"], bare["streamed"], bare["client"]) == ("no_backend_available", False, "")


def test_a_line_for_programs_of_a_request_with_a_story() -> None:
    line = json.loads(written("json", queued_s=1.5, tokens_out=None, tried=[(3, "failed", 'it "broke"\x7f')]))
    assert (line["queue_s"], line["tokens_in"], line["tokens_out"]) == (1.5, 11, None)
    assert line["tried"] == [{"instance_id": 3, "outcome": "failed", "error": 'it "broke"\x7f'}]


def test_every_field_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/LOGS.md").read_text()
    for name in json.loads(written("json", tried=[(1, "failed", "")])):
        assert f"`{name}`" in page, name
    line = written(error="x", queued_s=1.0, tried=[(1, "failed", "")])
    for word in re.findall(r" ([a-z]+=)", line):
        assert f"`{word}" in page, word


words = st.text(max_size=40)


@given(
    request_id=anything,
    method=anything,
    path=anything,
    client=words,
    key=words,
    model=words,
    error=words,
    via=words,
)
@example(
    b"\xe2\x86\x92", b"\xff", b"/ \xe2\x86\x92 instance=1", "\n", " model=x", "a\u2028b", "\x85", "\ud800"
)
def test_a_request_is_one_line_of_text_and_each_value_one_word(
    request_id: bytes, method: bytes, path: bytes, client: str, key: str, model: str, error: str, via: str
) -> None:
    via = via or "-"
    line = written(
        request_id=request_id,
        method=method,
        path=path,
        client=client,
        key=key,
        model=model,
        error=error,
        via=via,
        tried=[(1, error, model)],
    )
    found = TEXT.fullmatch(line)
    assert found is not None, line
    raw = [path, *(text.encode("utf-8", "surrogatepass") for text in (key, model, via, error, client))]
    for number, value in zip((3, 4, 5, 7, 9, 14), raw, strict=True):
        word = re.sub(r"\\x(..)", lambda code: chr(int(code[1], 16)), found[number])
        assert word.encode("latin-1") == (value or b"-")


@given(
    request_id=anything,
    method=anything,
    path=anything,
    client=words,
    key=words,
    model=words,
    error=words,
    via=words,
)
@example(b"\xe2\x80\xa8", b"\xff", b'/"}\n{"', "\n", '","status":200,"x":"', "\u2028", "\x7f", "\ud800")
def test_a_request_is_one_line_of_json_and_each_value_is_in_it(
    request_id: bytes, method: bytes, path: bytes, client: str, key: str, model: str, error: str, via: str
) -> None:
    fields = {"request_id": request_id, "method": method, "path": path, "client": client}
    names = {"key": key, "model": model, "error": error, "via": via}
    line = written("json", **fields, **names, tried=[(1, error, model)])
    assert line.endswith("\n")
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    entry = json.loads(line)
    assert entry["path"].encode("latin-1") == path
    assert entry["request_id"].encode("latin-1") == request_id
    assert entry["method"].encode("latin-1") == method
    assert entry["client"].encode("latin-1").decode("utf-8", "surrogatepass") == client
    assert {name: entry[name] for name in names} == {**names, "via": via or None}
    assert entry["tried"] == [{"instance_id": 1, "outcome": error, "error": model}]
    assert entry["status"] == 200


def test_the_name_of_a_model_that_somebody_made_up_is_cut() -> None:
    """A client, or an engine that calls its own so."""
    assert json.loads(written("json", model="m" * 5_000))["model"] == "m" * NAME_LIMIT_CHARS + "…"
    assert clipped("m" * NAME_LIMIT_CHARS) == "m" * NAME_LIMIT_CHARS
    assert clipped("m" * 5_000) == "m" * NAME_LIMIT_CHARS + "…"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_long_path_is_cut(form: Literal["text", "json"]) -> None:
    """A head may be 64 KiB; the log of it is not. An ellipsis says so, and no path can hold one."""
    assert len(written(form, path=b"/" + b"\xff" * 60_000)) < 8 * WORD_LIMIT_BYTES
    line = written(form, path=b"/" + b"a" * 60_000)
    assert len(line) < WORD_LIMIT_BYTES + 700
    assert "a…" in line or "a\\u2026" in line
    assert "…" not in written(form, path="/…".encode()).replace("→", "")
    whole = b"/" + b"b" * (WORD_LIMIT_BYTES - 1)
    assert whole.decode() in written(form, path=whole)
    assert "…" not in written(form, path=whole)


def test_many_paths_clients_and_instances_are_told_apart() -> None:
    """More of each than are kept, and each comes back."""
    lines: list[bytes] = []
    access = AccessLog(form="json", sink=lines.append, clock=Clock(NOW))
    numbers = [*range(5000), 0, 1, 4999]
    for number in numbers:
        mine = {"path": b"/%d" % number, "client": f"c{number}", "instance_id": number}
        access.log(**{**FIELDS, **mine})
    entries = [json.loads(line) for line in lines]
    assert [entry["path"] for entry in entries] == [f"/{number}" for number in numbers]
    assert [entry["client"] for entry in entries] == [f"c{number}" for number in numbers]
    assert [entry["instance_id"] for entry in entries] == numbers


def test_the_time_is_of_each_line_also_when_the_clock_is_set_back() -> None:
    times = (NOW, NOW + 0.5, NOW + 1, NOW + 3600, NOW - 7200)
    lines: list[bytes] = []
    access = AccessLog(sink=lines.append, clock=Clock(*times))
    for _ in times:
        access.log(**FIELDS)
    assert [line[:19].decode() for line in lines] == [
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) for moment in times
    ]


def test_nothing_is_made_when_it_is_off() -> None:
    lines: list[bytes] = []
    clock = Clock(NOW)
    access = AccessLog(enabled=False, sink=lines.append, clock=clock)
    access.log(**FIELDS)
    assert (lines, clock.asked, access.enabled) == ([], 0, False)


def test_nothing_is_made_above_info(caplog: pytest.LogCaptureFixture) -> None:
    lines: list[bytes] = []
    access = AccessLog(sink=lines.append, clock=Clock(NOW, NOW, NOW + 1))
    caplog.set_level(logging.WARNING, logger="vastproxy.access")
    access.log(**FIELDS)
    assert (lines, access.enabled) == ([], False)
    caplog.set_level(logging.INFO, logger="vastproxy.access")
    access.log(**FIELDS)
    access.log(**FIELDS)
    assert (len(lines), access.enabled) == (1, True)  # the level is looked at once a second


def test_without_a_sink_the_lines_are_records_of_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    """In a library, whoever configured logging decides where they go and how they look, at once."""
    access = AccessLog(form="json")
    access.log(**FIELDS)
    caplog.set_level(logging.WARNING, logger="vastproxy.access")
    access.log(**FIELDS)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("vastproxy.access", logging.INFO)
    assert record.getMessage() == (
        "0123456789abcdef POST /v1/chat/completions key=web model=Qwen/Qwen3-8B → instance=17 via=direct status=200 "
        "streamed bytes=512 attempts=1 took=12ms ttfb=5ms client=203.0.113.7 tokens=11+7"
    )
