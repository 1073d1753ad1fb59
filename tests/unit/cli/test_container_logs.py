"""`vastproxy logs`: what is new, what a terminal may be shown, and what programs get."""

import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.vastapi import Fault, VastApi
from tests.unit.cli.conftest import Run
from vastproxy.cli.container_logs import following, new_lines, readable
from vastproxy.vastai import VastNotFound, VastUnavailable


@pytest.mark.parametrize(
    ("before", "now", "news"),
    [
        ([], [], []),
        ([], ["a"], ["a"]),
        (["a", "b"], ["a", "b"], []),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["b", "c"], ["a", "b", "c", "d"], ["d"]),
        (["a", "b", "c"], ["b", "c", "d"], ["d"]),
        (["a", "half"], ["a", "half a line", "c"], ["half a line", "c"]),
        (["x", "y"], ["a", "b"], ["a", "b"]),
        (["a", "b"], [], []),
        ([".", "."], [".", ".", "."], []),
    ],
)
def test_only_what_is_new_is_shown(before: list[str], now: list[str], news: list[str]) -> None:
    assert new_lines(before, now) == news


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 60))
def test_a_text_of_different_lines_is_told_whole_and_once(shown: int, more: int, tail: int) -> None:
    """As long as there are not more new lines than are asked for."""
    text = [str(number) for number in range(shown + more)]
    before, now = text[:shown], text[-max(tail, more + 1) :]
    assert before + new_lines(before, now) == text


@given(st.text())
def test_a_container_cannot_drive_our_terminal(text: str) -> None:
    assert all(char == "\t" or char.isprintable() for char in readable(text))


def test_colours_titles_and_progress_bars_are_left_out() -> None:
    assert readable("\x1b[1;32mok\x1b[0m\tdone") == "ok\tdone"
    assert readable("\x1b]0;title\x07text") == "text"
    assert readable("10%\r50%\r100%") == "100%"


def test_following_goes_on_after_what_passes_and_ends_with_what_does_not() -> None:
    answers: list[list[str] | Exception] = [
        ["a", "b"],
        VastUnavailable("not ready"),
        ["a", "b"],
        [],
        ["b", "c"],
        VastNotFound("gone"),
    ]
    slept: list[float] = []

    def look(tail: int) -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    told = following(look, ["a"], sleep=slept.append)
    assert list(_until_gone(told)) == [["b"], ["c"]]
    assert len(slept) == 6


def _until_gone(told: Iterator[list[str]]) -> Iterator[list[str]]:
    with pytest.raises(VastNotFound):
        yield from told


@pytest.fixture
def api() -> Iterator[VastApi]:
    with VastApi() as api:
        api.account.log_polls = 0
        api.account.add(id=7).log.extend(["pulling", "error: no", "\x1b[31mup\x1b[0m"])
        yield api


@pytest.fixture
def logs(run: Run, api: VastApi) -> Callable[..., object]:
    def command(*arguments: str) -> object:
        quick = {
            "VASTPROXY_VAST__RETRIES__ATTEMPTS": "1",
            "VASTPROXY_VAST__MIN_INTERVAL_SCALE": "0",
        }
        return run("logs", *arguments, VAST_URL=api.url, VAST_API_KEY=api.account.api_key, **quick)

    return command


def test_the_last_lines(logs: Run) -> None:
    """A pipe gets them without colours."""
    result = logs("7", "--tail", "2")
    assert (result.exit_code, result.output) == (0, "error: no\nup\n")


def test_what_is_asked_for(logs: Run, api: VastApi) -> None:
    assert logs("7", "--filter", "err", "--daemon").output == "error: no\n"
    sent = [one.json for one in api.requests if one.method == "PUT"]
    assert sent == [{"tail": "200", "filter": "err", "daemon_logs": "true"}]


def test_json(logs: Run) -> None:
    assert json.loads(logs("7", "--json", "-n", "1").output) == {
        "instance": 7,
        "lines": ["\x1b[31mup\x1b[0m"],
    }


def test_an_instance_that_is_not_there_is_one_line(logs: Run) -> None:
    result = logs("8")
    assert result.exit_code == 1
    assert isinstance(result.exception, VastNotFound)


def test_a_log_that_does_not_come_is_said(logs: Run, api: VastApi) -> None:
    api.faults.always(Fault.BAD_GATEWAY_HTML)
    assert isinstance(logs("7").exception, VastUnavailable)
