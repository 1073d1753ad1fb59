"""`vastproxy top` without a terminal, and the way to one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.fake_proxy import FakeProxy, backend, overview, rows
from tests.unit.cli.conftest import Run
from vastproxy.cli.top.beside import can_show, reachable

ROOT = Path(__file__).parents[4]


def test_without_a_terminal_it_is_printed_once(run: Run) -> None:
    fleet = overview([backend(), backend(7, state="unhealthy", error="nobody answers")])
    with FakeProxy(fleet=fleet, key="k") as proxy:
        result = run("top", proxy.url, "--key", "k", COLUMNS="120")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split()[:2] == ["vastproxy", "http://127.0.0.1:8080/v1"]
    assert "1/2 healthy" in lines[0]
    assert [line.split()[0] for line in lines[-2:]] == ["#7", "#48001001"]
    assert "nobody answers" in lines[-2]


def test_printed_in_letters(run: Run) -> None:
    with FakeProxy(fleet=overview(rows(2))) as proxy:
        assert run("top", proxy.url, "--ascii").output.isascii()
        proxy.fleet = overview()
        assert "no instances" in run("top", proxy.url).output


def test_the_key_is_found_as_for_other_commands(run: Run) -> None:
    with FakeProxy(key="k") as proxy:
        assert run("top", proxy.url, VASTPROXY_API_KEYS="k,other").exit_code == 0
        refused = run("top", proxy.url)
        assert refused.exit_code == 1
        assert "--key or VASTPROXY_API_KEYS" in str(refused.exception)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("https://[::]:8080", "https://[::1]:8080"),
        ("http://192.168.1.5:8080", "http://192.168.1.5:8080"),
    ],
)
def test_where_a_server_is_reached(url: str, asked: str) -> None:
    assert reachable(url) == asked


def test_a_terminal_is_needed_that_can_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not can_show()
    monkeypatch.setenv("TERM", "xterm")
    assert can_show() == all(os.isatty(number) for number in range(3))


def test_other_commands_do_not_load_what_draws_it() -> None:
    """It takes a quarter of a second."""
    script = "import sys, vastproxy.cli.main; print('textual' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "False\n"
