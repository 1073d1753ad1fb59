"""`vastproxy cost` and `vastproxy machines`: told by a proxy, or read from the ledger that it has left."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.ledgers import HOUR, busy_book, make_entry, make_rented, write_ledger
from tests.unit.cli.conftest import Answers, Peer, Run
from vastproxy.cli.consoles import plain_console
from vastproxy.cli.ledger import NoLedger
from vastproxy.cli.machines import show
from vastproxy.cli.tables import amount, figure

StartPeer = Callable[[Answers], Peer]
COST, MACHINES = "/vastproxy/v1/cost", "/vastproxy/v1/machines"


def figures(**over: Any) -> dict[str, Any]:
    return {
        "dollars": 3.5,
        "idle_dollars": 1.25,
        "bandwidth_dollars": 0.5,
        "tokens_in": 1_000_000,
        "tokens_out": 250_000,
        "estimated_tokens": 125_000,
        "requests": 12_345,
        "errors": 3,
        "dollars_per_million_tokens": 2.8,
        **over,
    }


def report(**over: Any) -> dict[str, Any]:
    rows = [
        {"name": "qwen\x1b[31m", **figures()},
        {"name": "(idle)", **figures(dollars_per_million_tokens=None)},
    ]
    return {"by": "model", "since_unix": 0, "until_unix": 1, "total": figures(), "rows": rows, **over}


@pytest.fixture
def ledger(workplace: Path) -> Path:
    """A ledger where one is looked for."""
    path = workplace / ".local/state/vastproxy/ledger.db"
    entries = (make_entry(), make_entry(tokens=(None, None)), *(make_entry() for _ in range(30)))
    write_ledger(
        path, busy_book(make_rented(), make_rented(2), seconds=3600, entries=entries), until=HOUR + 3600
    )
    return path


def test_a_table(run: Run, peer: StartPeer) -> None:
    there = peer({COST: (200, report())})
    result = run("cost", there.url, "--by", "model", "--since", "7d")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split() == ["Model", "$", "Idle", "$", "$/1M", "tok", "Requests", "In", "Out"]
    name = "qwen\N{REPLACEMENT CHARACTER}[31m"
    assert lines[1].split() == [name, "3.50", "1.25", "2.80", "12.3k", "1M", "250k"]
    assert lines[2].split() == ["(idle)", "3.50", "1.25", "-", "12.3k", "1M", "250k"]
    assert lines[3].split()[0] == "total"
    assert lines[4] == f"as told by {there.url}; 10% of the tokens are estimated; $0.500 of it for traffic"


def test_json_is_what_the_proxy_told(run: Run, peer: StartPeer) -> None:
    result = run("cost", "--json", peer({COST: (200, report())}).url)
    assert json.loads(result.output) == report()


def test_nothing_to_tell(run: Run, peer: StartPeer) -> None:
    empty = {"by": "key", "rows": [], "total": figures(estimated_tokens=0, bandwidth_dollars=0)}
    result = run("cost", peer({COST: (200, empty)}).url)
    assert result.output.startswith("nothing was rented or served in that time\nas told by http")


def test_a_proxy_of_another_kind_is_no_traceback(run: Run, peer: StartPeer) -> None:
    odd = {"by": [], "rows": [7, {"name": None}], "total": 3}
    assert run("cost", peer({COST: (200, odd)}).url).exit_code == 0
    assert run("machines", peer({MACHINES: (200, {"machines": [7, {}]})}).url).exit_code == 0


@pytest.mark.parametrize("command", ["cost", "machines"])
@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (401, {"error": {}}, "only to holders of a key"),
        (
            503,
            {"error": {"message": "the ledger /x cannot be used: full."}},
            "the ledger /x cannot be used: full.",
        ),
        (404, {"error": None}, "does not tell it: HTTP 404"),
    ],
)
def test_who_does_not_tell(
    run: Run, peer: StartPeer, command: str, status: int, content: object, words: str
) -> None:
    there = peer({COST: (status, content), MACHINES: (status, content)})
    result = run(command, there.url)
    assert result.exit_code == 1
    assert words in str(result.exception)


@pytest.mark.parametrize("since", ["yesterday", "", "24"])
def test_since_when_must_be_understood(run: Run, since: str) -> None:
    assert run("cost", "--since", since).exit_code == 2


def test_without_a_proxy_the_ledger_it_left_is_read(run: Run, ledger: Path) -> None:
    result = run("cost", "--since", "all", "--by", "instance", LISTEN_ADDR="127.0.0.1:1")
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].startswith(f"as told by {ledger} (no proxy answers us); ")
    assert result.output.splitlines()[1].startswith("1 ")


def test_who_may_not_ask_the_proxy_may_read_his_file(run: Run, peer: StartPeer, ledger: Path) -> None:
    there = peer({COST: (401, {})})
    result = run("cost", "--since", "all", LISTEN_ADDR=there.url.removeprefix("http://"))
    assert str(ledger) in result.output


def test_a_file_by_name(run: Run, ledger: Path, tmp_path: Path) -> None:
    elsewhere = ledger.rename(tmp_path / "l.db")
    told = json.loads(
        run("cost", "--since", "all", "--by", "model", "--json", "--file", str(elsewhere)).output
    )
    assert told["total"]["requests"] == 32
    assert [row["name"] for row in told["rows"]] == ["m", "(unfinished)"]
    machines = json.loads(run("machines", "--json", "--file", str(elsewhere)).output)["machines"]
    assert {row["machine_id"] for row in machines} == {7001, 7002}


def test_without_proxy_and_file_the_proxy_is_missed(run: Run) -> None:
    result = run("machines", LISTEN_ADDR="127.0.0.1:1")
    assert result.exit_code == 1
    assert "nothing answers at http://127.0.0.1:1" in str(result.exception)


@pytest.mark.parametrize("command", ["cost", "machines"])
def test_a_directory_that_cannot_be_entered_is_one_line(run: Run, workplace: Path, command: str) -> None:
    """Its name is too long to look at, which is refused to root, too."""
    where = str(workplace / ("x" * 300))
    result = run(command, LISTEN_ADDR="127.0.0.1:1", VASTPROXY_TUNNELS__STATE_DIR=where)
    assert isinstance(result.exception, NoLedger)
    assert str(result.exception) == f"the ledger {where}/ledger.db cannot be read: file name too long"


@pytest.mark.parametrize("command", ["cost", "machines"])
def test_a_proxy_and_a_file_are_two_things(run: Run, ledger: Path, command: str) -> None:
    result = run(command, "http://127.0.0.1:1", "--file", str(ledger))
    assert result.exit_code == 2
    assert "URL names a proxy, and --file a ledger" in result.output


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such file"), (b"", "it is empty"), (b"x" * 9000, "not a database")]
)
def test_a_file_that_is_no_ledger(run: Run, workplace: Path, content: bytes | None, words: str) -> None:
    path = workplace / "x.db"
    if content is not None:
        path.write_bytes(content)
    result = run("cost", "--file", str(path))
    assert result.exit_code == 1
    assert f"the ledger {path} cannot be read" in str(result.exception)
    assert words in str(result.exception)


def test_machines_in_a_table(run: Run, ledger: Path) -> None:
    result = run("machines", "--file", str(ledger))
    lines = result.output.splitlines()
    assert lines[0].split() == [
        *("Machine", "Rented", "Hours", "Requests", "Errors"),
        *("Drops", "TTFT", "tok/s", "Score", "Last", "seen"),
    ]
    assert lines[1].startswith("7001 1x RTX 4090")
    assert " 1.00 " in lines[1], "its score"
    assert lines[-1] == f"as told by {ledger}"
    assert max(map(len, lines[:-1])) <= 80


#: As a machine is after some months of use.
USED = {
    "machine_id": 48001,
    "gpu": "8x RTX PRO 6000 WS",
    "rentals": 12,
    "hours": 412.37,
    "requests": 41_234,
    "errors": 1_234,
    "tunnel_drops": 123,
    "ttft_p50_ms": 181.3,
    "tokens_per_s": 1234.56,
    "score": 0.93,
    "last_seen_unix": 0,
}


@pytest.mark.parametrize(
    ("over", "shown"),
    [
        ({}, "12x 412 41.2k 1234 123 181.3 ms 1235 0.93 12 d"),
        ({"hours": 99.37, "ttft_p50_ms": 12_345.6}, "12x 99.37 41.2k 1234 123 12.3k ms 1235 0.93 12 d"),
        ({"ttft_p50_ms": 1234.5, "last_seen_unix": 1_030_000}, "41.2k 1234 123 1234 ms 1235 0.93 1 h"),
        (
            {"hours": 12_345.6, "last_seen_unix": 1_033_300},
            "12x 12.3k 41.2k 1234 123 181.3 ms 1235 0.93 58 min",
        ),
        ({"last_seen_unix": 1_036_790}, "1235 0.93 now"),
        ({"last_seen_unix": None}, "1235 0.93 -"),
    ],
)
def test_a_machine_that_was_used_fits_80_columns(over: dict[str, Any], shown: str) -> None:
    out = io.StringIO()
    show(plain_console(file=out, width=80), {"machines": [{**USED, **over}]}, "x", clock=lambda: 1_036_800)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[-3:] == ["Score", "Last", "seen"]
    assert " ".join(lines[1].split()).endswith(shown), "and nothing is cut off"


def test_no_machines(run: Run, peer: StartPeer) -> None:
    result = run("machines", peer({MACHINES: (200, {"machines": []})}).url)
    assert result.output.startswith("no machine is known yet")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0, "0"),
        (950, "950"),
        (9999, "9999"),
        (12_345, "12.3k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (999_950, "1M"),
        (1e6, "1M"),
        (4_560_000, "4.56M"),
        (999_999_999, "1G"),
        (-999_999, "-1M"),
        (12_345e9, "12300G"),
    ],
)
def test_figures(number: float | None, text: str) -> None:
    assert figure(number) == text


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(None, "-"), (0, "0.00"), (1234.5, "1,234.50"), (0.5, "0.500"), (0.0301, "0.0301"), (0.99999, "1.00")],
)
def test_amounts(dollars: float | None, text: str) -> None:
    assert amount(dollars) == text
