"""What stands on the terminal: the header, rows, cards, events, requests and details, as text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from tests.helpers.fake_proxy import FIRST_ID, backend, event, gpu, overview, request, rows
from vastproxy.cli.top import cards, details, events, facts, keys, requests, table
from vastproxy.cli.top.board import Board
from vastproxy.cli.top.header import header
from vastproxy.cli.top.look import LETTERS, SIGNS, look_for


def words_of(line: Text) -> str:
    return " ".join(line.plain.split())


def board(**changes: Any) -> Board:
    made = Board("http://127.0.0.1:8080", link="live")
    made.overview(overview(rows(3), **changes))
    return made


def test_the_header_of_a_wide_terminal() -> None:
    title, empty, values, labels = map(words_of, header(board(), 140, SIGNS, now=0.0))
    assert title == "vastproxy http://127.0.0.1:8080/v1 ● 3/3 healthy vast.ai 84ms up 3 h 12 min"
    assert empty == ""
    assert values == "12.3 1,240 12 0 92% $1.92 $0.43 $38.20 19h – 84ms 310ms 0"
    assert labels == (
        "req/s tok/s in flight queue sticky $/h $/1M tok credit lasts today ttft p50 ttft p99 errors/s"
    )


@pytest.mark.parametrize("width", [1, 20, 40, 60, 80, 120, 200])
def test_the_header_fits(width: int) -> None:
    """Narrow terminals keep what matters most."""
    for look in (SIGNS, LETTERS):
        assert {line.cell_len for line in header(board(), width, look, now=0.0)} <= {0, width}
    shown = "\n".join(line.plain for line in header(board(), width, SIGNS, now=0.0))
    if width >= 40:
        assert "3/3 healthy" in shown
        assert "req/s" in shown
        assert "$/h" in shown


def test_the_header_says_what_is_wrong() -> None:
    shown = header(board(status="degraded", reason="2 of 3 backends can serve"), 80, SIGNS, now=0.0)
    assert shown[-1].plain.strip() == "2 of 3 backends can serve"
    api = {"status": "unhealthy", "latency_ms": None, "error": "HTTP 502"}
    shown = header(board(vast_api=api), 80, SIGNS, now=0.0)
    assert shown[-1].plain.strip() == "vast.ai does not answer: HTTP 502"
    assert "vast.ai unhealthy" in shown[0].plain


def test_the_header_says_that_the_proxy_has_gone() -> None:
    """What it said last stays."""
    gone = board()
    gone.lost("nothing answers at http://127.0.0.1:8080; is `vastproxy serve` running?", 100.0)
    shown = header(gone, 120, SIGNS, now=113.0)
    assert shown[-1].plain.strip().endswith("running?; trying again, for 10 s now")
    assert "3/3 healthy" in shown[0].plain


def test_before_the_first_answer() -> None:
    shown = header(Board("http://proxy:8080"), 80, LETTERS, now=0.0)
    assert shown[-1].plain.strip() == "connecting to http://proxy:8080~"
    assert "* -" in shown[0].plain


def test_a_row_of_a_wide_terminal() -> None:
    (line,) = table.lines([backend()], 170, SIGNS, chosen=0)
    assert words_of(line) == (
        "▸ #48001001 RTX 4090 ● healthy 3m 🐇 Qwen3-8B ━━━━━╸── 67% 61°C 18.2/24G 312W 3 340 $0.36 0 6d"
    )
    names = words_of(table.head(170, SIGNS, "load"))
    assert names == "Instance GPUs State For Via Model Load▾ % Heat Memory Watts Req Tok/s $/h Err Left"


def test_a_row_in_letters() -> None:
    (line,) = table.lines([backend(path="relay", gpus=2)], 120, LETTERS, chosen=None)
    assert line.plain.isascii()
    assert line.plain.split()[:7] == ["#48001001", "RTX", "4090x2", "*", "healthy", "3m", "R"]


def test_a_row_in_trouble_says_why() -> None:
    """In the place of figures that are not there."""
    row = backend(state="unhealthy", path=None, error="nobody answers on port 18000", gpus=0)
    (line,) = table.lines([row], 100, SIGNS, chosen=None)
    assert words_of(line).endswith("3m – nobody answers on port 18000")


@pytest.mark.parametrize("width", [0, 1, 2, 30, 40, 79, 80, 100, 160, 300])
def test_rows_have_the_width_of_the_terminal(width: int) -> None:
    for look in (SIGNS, LETTERS):
        lines = [*table.lines(rows(2), width, look, chosen=1), table.head(width, look, "id")]
        assert {line.cell_len for line in lines} == {width}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(
    key=st.sampled_from(sorted(backend())),
    value=JSON,
    width=st.sampled_from([40, 80, 160]),
    lacks=st.booleans(),
)
def test_whatever_a_proxy_tells_of_a_backend_can_be_shown(
    key: str, value: Any, width: int, lacks: bool
) -> None:
    """A proxy of another version may tell something else, or nothing."""
    row = backend() | {key: value}
    if lacks:
        del row[key]
    for look in (SIGNS, LETTERS):
        for line in table.lines([row], width, look, chosen=0):
            assert line.cell_len == width
        assert len(cards.lines([row], width, look, chosen=0)) == cards.height(row)
        details.lines(row, {}, [], width, look)
    for order in facts.ORDERS:
        facts.arranged([row, backend(FIRST_ID + 1)], order, "a b")


@given(key=st.sampled_from(sorted(overview())), value=JSON)
def test_whatever_a_proxy_tells_of_itself_can_be_shown(key: str, value: Any) -> None:
    made = Board("http://127.0.0.1:8080")
    made.overview(overview(rows(1)) | {key: value})
    assert len(header(made, 100, SIGNS, now=0.0)) >= 4
    assert len(made.backends) <= 1


def test_a_card() -> None:
    lines = [line.plain for line in cards.lines([backend(gpus=2)], 60, SIGNS, chosen=None)]
    assert lines[0].startswith("╭─ #48001001  RTX 4090\N{MULTIPLICATION SIGN}2 ─")
    assert lines[0].endswith("─ ● healthy 3m ─╮")
    told = [" ".join(line.strip("│ ━╸─").replace("━", "").replace("─", "").split()) for line in lines[1:-1]]
    assert told == [
        "🐇 direct Qwen/Qwen3-8B sglang",
        "0 ╸ 67% 61°C 18.2/24G 312W",
        "1 ╸ 67% 61°C 18.2/24G 312W",
        "3 in flight 340 tok/s $0.36/h 0 err 6d left",
    ]
    assert lines[-1].startswith("╰──")


def test_a_chosen_card_is_seen_without_colour() -> None:
    plain, chosen = (cards.lines(rows(1), 60, LETTERS, chosen=at)[0].plain for at in (None, 0))
    assert (plain[0], chosen[0]) == ("+", "#")


def test_many_gpus_share_a_line() -> None:
    lines = [line.plain for line in cards.lines([backend(gpus=8)], 60, SIGNS, chosen=None)]
    assert len(lines) == 8
    assert [line[2:4].strip() for line in lines[2:6]] == ["0", "1", "2", "+5"]
    assert lines[5].split()[-2:] == ["1562W", "│"]


@pytest.mark.parametrize(("width", "many"), [(40, 0), (80, 1), (120, 2), (200, 3)])
def test_cards_stand_side_by_side(width: int, many: int) -> None:
    assert cards.across(width) == many
    lines = cards.lines(rows(7), max(width, 56), SIGNS, chosen=3)
    assert {line.cell_len for line in lines} == {max(width, 56)}
    assert len(lines) == sum(cards.shelves(rows(7), max(width, 56)))


def test_a_lost_gpu_is_told() -> None:
    row = backend(gpus=2) | {"gpus": [gpu(), gpu(1, lost=True)]}
    assert "the driver has lost this GPU" in cards.lines([row], 60, SIGNS, chosen=None)[3].plain
    none = backend() | {"gpus": [], "gpu_error": "nvidia-smi does not answer"}
    assert "nvidia-smi does not answer" in cards.lines([none], 60, SIGNS, chosen=None)[2].plain


def test_time_left_is_told_by_its_haste() -> None:
    def left(**changes: Any) -> tuple[str, str]:
        shown = facts.time_left(backend() | {"time_left": changes or None}, SIGNS)
        return shown.plain, str(shown.style)

    assert left() == ("–", "")
    assert left(left_s=86_400.0) == ("1d", "")
    assert left(left_s=1_800.0) == ("30m", "yellow")
    assert left(left_s=60.0) == ("1m", "red")
    assert left(left_s=86_400.0, outbid_risk="high") == ("1d?", "yellow")


def test_sorting_puts_first_what_needs_somebody() -> None:
    found = [backend(1, tokens_per_s=1.0), backend(2, state="unhealthy"), backend(3, tokens_per_s=None)]
    assert [row["id"] for row in facts.arranged(found, "state")] == [2, 1, 3]
    assert [row["id"] for row in facts.arranged(found, "tokens")] == [2, 1, 3]
    assert [row["id"] for row in facts.arranged(found, "id")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("sought", "found"), [("", 3), ("H100", 1), ("healthy 4090", 1), ("48001003", 1), ("4090 5090", 0)]
)
def test_each_word_of_a_filter_must_match(sought: str, found: int) -> None:
    assert len(facts.arranged(rows(3), "id", sought)) == found


def test_events_as_the_log_has_them() -> None:
    line = events.line(event(1), 60, SIGNS)
    assert line.plain.split(maxsplit=1)[1].strip() == "#48001001 connecting → healthy"
    lost = events.line(event(2, level="error", instance=None, text="all is lost"), 60, SIGNS)
    assert lost.plain.rstrip().endswith("  all is lost")
    assert "red" in {str(span.style) for span in lost.spans}
    assert "something else" in events.line({"kind": "something_else"}, 60, SIGNS).plain


def test_lines_of_the_log_keep_their_colours_and_nothing_else() -> None:
    line = events.log_line("\x1b[31mred\x1b[0m \x1b[2Jtext", 20, SIGNS)
    assert "\x1b" not in line.plain
    assert line.plain.startswith("red")
    assert any(str(span.style) for span in line.spans)
    warning = events.log_line("2026-01-31 12:00:00 warning it is late", 60, SIGNS)
    assert "yellow" in {str(span.style) for span in warning.spans}


def test_requests_in_flight() -> None:
    assert words_of(requests.line(request(7), 100, SIGNS, chosen=True)) == (
        "▸ 4.2s #48001001 Qwen3-8B web 12.4k 5f1c0e9a2b3d00000007"
    )
    waiting = requests.line(request(8, state="waiting", priority="batch", key=None), 100, SIGNS)
    assert waiting.plain.split()[1:4] == ["waiting", "Qwen3-8B", "batch"]
    assert requests.line(request(7), 60, SIGNS).plain.rstrip().endswith("0000007")
    assert "48001001" in requests.searched(request(7))


def test_details_tell_all() -> None:
    row = backend(gpus=2, state="unhealthy", error="nobody answers")
    row["gpu_signs"] = [{"text": "GPU 0: ECC errors", "fault": True}]
    row["time_left"] |= {"drains_in_s": 600.0, "outbid_risk": "high", "price_rise": {"to": 1.0}}
    row["machine"] = {"rented_before": True, "score": 0.93}
    more = {"instance": {"template_name": "SGLang"}}
    shown = "\n".join(line.plain.rstrip() for line in details.lines(row, more, [event(1)], 120, SIGNS))
    for words in (
        "#48001001  RTX 4090\N{MULTIPLICATION SIGN}2  ● unhealthy for 3 min 10 s",
        "trouble       nobody answers",
        "machine       24436, you rented it before, score 0.93",
        "6 d, until the contract ends, no new requests in 10 min, risk to be outbid: high, a higher price waits",
        "image         SGLang",
        "relay   up       10.0.0.1:41000",
        "sglang:18000",
        "GPU 0: ECC errors",
        "connecting → healthy",
    ):
        assert words in shown


@pytest.mark.parametrize("width", [10, 40, 60, 80, 120])
def test_the_keys_fit(width: int) -> None:
    line = keys.footer(width, SIGNS).plain
    assert len(line) == width
    assert "q quit" in line
    assert ("destroy" in line) == (width >= 80)


def test_signs_need_utf8() -> None:
    assert look_for(ascii_only=False, encoding="utf-8") is SIGNS
    assert look_for(ascii_only=True, encoding="utf-8") is LETTERS
    assert look_for(ascii_only=False, encoding="ANSI_X3.4-1968") is LETTERS
    assert look_for(ascii_only=False, encoding=None) is LETTERS
