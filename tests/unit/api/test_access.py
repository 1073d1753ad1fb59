"""The access log: one line for each request, whatever the request was made of."""

import json
import logging
import re
import time
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vastproxy.api.access import WORD_LIMIT_BYTES, AccessLog

NOW = 1_769_857_200.25
FIELDS: dict[str, Any] = {
    "request_id": b"0123456789abcdef",
    "method": b"POST",
    "target": b"/v1/chat/completions?key=secret",
    "instance_id": 17,
    "status": 200,
    "sent_bytes": 512,
    "received_bytes": 99,
    "attempts": 1,
    "took_s": 0.0123,
    "ttfb_s": 0.0049,
    "client": "203.0.113.7",
}
TEXT = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d info    ([!-~…]+) ([!-~…]+) ([!-~…]+) → instance=(-|\d+) status=(\d+) "
    r"bytes=(\d+) attempts=(\d+) took=(\d+)ms ttfb=(-|\d+ms) client=([!-~…]+)\n"
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
        f"{moment} info    0123456789abcdef POST /v1/chat/completions → instance=17 status=200 bytes=512 "
        "attempts=1 took=12ms ttfb=5ms client=203.0.113.7\n"
    )


def test_a_line_for_people_of_a_request_that_nobody_served() -> None:
    line = written(instance_id=None, ttfb_s=None, client="")
    assert " instance=- " in line
    assert line.endswith(" ttfb=- client=-\n")


def test_a_line_for_programs() -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(NOW))
    assert json.loads(written("json")) == {
        "time": moment,
        "level": "info",
        "logger": "vastproxy.access",
        "request_id": "0123456789abcdef",
        "method": "POST",
        "path": "/v1/chat/completions",
        "instance_id": 17,
        "status": 200,
        "sent_bytes": 512,
        "received_bytes": 99,
        "attempts": 1,
        "took_s": 0.0123,
        "ttfb_s": 0.0049,
        "client": "203.0.113.7",
    }


def test_a_line_for_programs_of_a_request_that_nobody_served() -> None:
    line = json.loads(written("json", instance_id=None, ttfb_s=None, client=""))
    assert (line["instance_id"], line["ttfb_s"], line["client"]) == (None, None, "")


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_query_is_not_logged(form: Literal["text", "json"]) -> None:
    assert "secret" not in written(form)
    assert "key" not in written(form)


@given(request_id=anything, method=anything, target=anything, client=st.text(max_size=40))
@example(request_id=b"\xe2\x86\x92", method=b"\xff", target=b"/ \xe2\x86\x92 instance=1", client="\n")
def test_a_request_is_one_line_of_text_and_each_value_one_word(
    request_id: bytes, method: bytes, target: bytes, client: str
) -> None:
    line = written(request_id=request_id, method=method, target=target, client=client)
    found = TEXT.fullmatch(line)
    assert found is not None, line
    path = re.sub(r"\\x(..)", lambda code: chr(int(code[1], 16)), found[3])
    assert path.encode("latin-1") == (target.partition(b"?")[0] or b"-")


@given(request_id=anything, method=anything, target=anything, client=st.text(max_size=40))
@example(request_id=b"\xe2\x80\xa8", method=b"\xff", target=b'/"}\n{"', client="\n")
def test_a_request_is_one_line_of_json_and_each_byte_of_the_path_is_in_it(
    request_id: bytes, method: bytes, target: bytes, client: str
) -> None:
    line = written("json", request_id=request_id, method=method, target=target, client=client)
    assert line.endswith("\n")
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    entry = json.loads(line)
    assert entry["path"].encode("latin-1") == target.partition(b"?")[0]
    assert entry["request_id"].encode("latin-1") == request_id
    assert entry["method"].encode("latin-1") == method
    assert entry["client"].encode("latin-1").decode("utf-8", "surrogatepass") == client


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_long_path_is_cut(form: Literal["text", "json"]) -> None:
    """A head may be 64 KiB; the log of it is not. An ellipsis says so, and no path can hold one."""
    assert len(written(form, target=b"/" + b"\xff" * 60_000)) < 8 * WORD_LIMIT_BYTES
    line = written(form, target=b"/" + b"a" * 60_000)
    assert len(line) < WORD_LIMIT_BYTES + 400
    assert "a…" in line or "a\\u2026" in line
    assert "…" not in written(form, target="/…".encode()).replace("→", "")
    whole = b"/" + b"b" * (WORD_LIMIT_BYTES - 1)
    assert whole.decode() in written(form, target=whole)
    assert "…" not in written(form, target=whole)


def test_many_paths_clients_and_instances_are_told_apart() -> None:
    """More of each than are kept, and each comes back."""
    lines: list[bytes] = []
    access = AccessLog(form="json", sink=lines.append, clock=Clock(NOW))
    numbers = [*range(5000), 0, 1, 4999]
    for number in numbers:
        mine = {"target": b"/%d" % number, "client": f"c{number}", "instance_id": number}
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
        "0123456789abcdef POST /v1/chat/completions → instance=17 status=200 bytes=512 attempts=1 "
        "took=12ms ttfb=5ms client=203.0.113.7"
    )
