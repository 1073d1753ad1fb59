"""How findings look on a terminal, in a pipe, and to a program."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vastproxy.cli.doctor.view import View, conclude, document, lines, verdict
from vastproxy.services.diagnosis.check import Check, Verdict

OK = Check("a", "credit", Verdict.OK, "$37.42 left")
WARN = Check("b", "direct path", Verdict.WARN, "refuses connections", "wait a minute", instance=7)
FAIL = Check("c", "engine", Verdict.FAIL, "no engine " * 20, "look at `vastproxy logs 7` " * 9, instance=7)
SKIP = Check("d", "proxy", Verdict.SKIP, "none runs", "never shown")


def console(**options: object) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, highlight=False, **options), out  # type: ignore[arg-type]


def shown(*checks: Check, **options: object) -> str:
    made, out = console(**options)
    with View(made) as view:
        view.tell(*checks)
    return out.getvalue()


def test_each_line_has_a_word_and_what_is_not_good_has_something_to_do() -> None:
    assert shown(OK, WARN, SKIP) == (
        "ok    credit          $37.42 left\n"
        "instance 7\n"
        "warn  direct path     refuses connections\n"
        "                      do: wait a minute\n"
        "the proxy\n"
        "skip  proxy           none runs\n"
    )


def test_a_pipe_gets_one_line_for_each_and_a_terminal_what_fits_it() -> None:
    assert [len(line) > 150 for line in shown(FAIL).splitlines()[1:]] == [True, True]
    folded = lines(FAIL, 80)
    assert len(folded) > 4
    assert max(len(line) for line in folded) <= 80


def test_a_command_that_fits_is_in_one_piece() -> None:
    text = (
        "wait; if it stays so for as long as you can bear it, `vastai reboot instance 48001001` restarts it"
    )
    shown = [line.plain for line in lines(Check("x", "x", Verdict.FAIL, "found", text), 80)]
    assert any("`vastai reboot instance 48001001`" in line for line in shown)
    endless = Check("x", "x", Verdict.FAIL, "found", f"`{'a ' * 99}`")
    assert all(len(line) <= 80 for line in lines(endless, 80))


@given(st.text(max_size=200), st.text(max_size=200), st.integers(10, 200))
def test_nothing_breaks_a_line_or_drives_the_terminal(detail: str, fix: str, width: int) -> None:
    check = Check("x", "x", Verdict.FAIL, detail, fix)
    assert all(line.plain.isprintable() or line.plain == "" for line in lines(check, width))


def test_a_spinner_only_on_a_terminal() -> None:
    made, out = console()
    with View(made) as view:
        view.progress("waiting")
        view.progress("still waiting")
    assert out.getvalue() == ""
    made, out = console(force_terminal=True, width=80)
    with View(made) as view:
        view.progress("waiting")
        view.progress("still waiting")
        view.tell(OK)
    assert "credit" in out.getvalue()


def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in shown(OK, FAIL, force_terminal=True, width=100)


@pytest.mark.parametrize(
    ("checks", "says"),
    [
        ([OK, OK, SKIP], "all good: 2 checks"),
        ([OK, WARN], "1 warning among 2 checks"),
        ([FAIL, FAIL, WARN, OK], "2 failures and 1 warning among 4 checks"),
    ],
)
def test_the_last_line_counts(checks: list[Check], says: str) -> None:
    assert verdict(checks).startswith(says)


def test_programs_get_it_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    proxy = Check("proxy", "proxy", Verdict.OK, "x")
    other = Check("state", "state", Verdict.OK, "x", instance=3)
    told = document([OK, FAIL, WARN, other, proxy], 1.23456)
    assert [(one["instance"], one["id"]) for one in told["checks"]] == [
        (None, "a"),
        (3, "state"),
        (7, "c"),
        (7, "b"),
        (None, "proxy"),
    ]
    assert (told["verdict"], told["exit_code"], told["took_s"]) == ("fail", 1, 1.235)
    with View(None) as view:
        view.progress("nothing is shown")
        view.tell(OK)
    conclude(view, None, 0.5)
    assert json.loads(capsys.readouterr().out)["verdict"] == "ok"


def test_it_says_how_long_it_took() -> None:
    made, out = console()
    view = View(made)
    view.tell(OK)
    conclude(view, made, 75)
    assert out.getvalue().endswith("all good: 1 checks (1 min 15 s)\n")
