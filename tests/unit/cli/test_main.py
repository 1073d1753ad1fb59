"""The program as a whole: help, version, exit codes, and errors of one line."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import vastproxy
from tests.unit.cli.conftest import Run
from vastproxy.cli.main import COMMANDS, main


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"vastproxy {vastproxy.__version__}\n")


def test_help_has_examples_and_every_command(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "  vastproxy config check " in result.output
    for name in COMMANDS:
        assert f"\n  {name} " in result.output


def test_what_a_command_does_not_need_is_not_imported() -> None:
    """Each press of Tab starts the program anew: it has to be there before people wonder."""
    looked = "import sys, vastproxy.cli.main; print({'asyncssh', 'pydantic', 'starlette'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", looked], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_without_arguments_the_help_is_shown(run: Run) -> None:
    assert "Usage: vastproxy" in run().output


def test_an_unknown_option_is_wrong_usage(run: Run) -> None:
    result = run("status", "--nope")
    assert result.exit_code == 2
    assert "--nope" in result.output


def exit_code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


def test_an_error_of_ours_is_one_line_and_its_exit_code(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "broken.json").write_text("{\n")
    assert exit_code("config", "check", "broken.json") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("vastproxy: broken.json line 2 column 1: not valid JSON")
    assert captured.err.count("\n") == 1


def test_success_is_zero(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("config", "schema") == 0
    assert capsys.readouterr().err == ""


PROCESS = [sys.executable, "-m", "vastproxy"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["instances"], 2, "vastproxy: no vast.ai API key: set VAST_API_KEY"),
        (
            ["config", "show", "--config", "gone.json"],
            2,
            "vastproxy: --config: there is no config file gone.json",
        ),
        (
            ["config", "show", "--config", "bad.json"],
            2,
            "vastproxy: bad.json line 1 column 2: not valid JSON",
        ),
        (
            ["status", "127.0.0.1:1"],
            1,
            "vastproxy: nothing answers at http://127.0.0.1:1; is `vastproxy serve`",
        ),
        (["--frobnicate"], 2, "No such option: --frobnicate"),
    ],
)
def test_exit_codes_of_the_process(workplace: Path, arguments: list[str], code: int, says: str) -> None:
    (workplace / "bad.json").write_text("{")
    done = subprocess.run([*PROCESS, *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == code
    assert done.stdout == ""
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def let_be_interrupted() -> None:
    """Who runs the tests in the background of a shell has made them, and what they start, deaf to interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_interrupt_ends_it_quietly(workplace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [*PROCESS, "status", url], stderr=subprocess.PIPE, preexec_fn=let_be_interrupted
        )
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == b""


def test_a_reader_that_has_gone_is_no_reason_to_complain(workplace: Path) -> None:
    """`vastproxy config schema | true` writes nothing to standard error."""
    process = subprocess.Popen([*PROCESS, "config", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait(30) in (0, 1)


@pytest.fixture
def named(workplace: Path) -> Path:
    """A config file whose name only Unicode can write, as the command shows it."""
    (workplace / "日本.json").write_text("{}")
    return workplace


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_locale_that_lacks_a_letter_is_no_reason_to_fail(named: Path, encoding: str) -> None:
    shown = subprocess.run(
        [*PROCESS, "config", "show", "--config", "日本.json"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=30,
    )
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout.splitlines()[0].endswith(b"/??.json")


@pytest.mark.parametrize("words", ["config schema", "config show"])
def test_a_full_disk_is_one_line(workplace: Path, words: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROCESS, *words.split()], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30
        )
    assert (done.returncode, done.stderr) == (
        1,
        "vastproxy: the system refuses: no space left on device\n",
    )


@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_no_reason_to_fail(workplace: Path, closed: str) -> None:
    line = f"exec {shlex.quote(sys.executable)} -m vastproxy config show {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_home_that_cannot_be_written_is_one_line(workplace: Path) -> None:
    home = workplace / "home"
    home.touch()
    done = subprocess.run(
        [*PROCESS, "--install-completion", "bash"],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("vastproxy: the system refuses: ")
    assert str(home) in done.stderr
    assert done.stderr.count("\n") == 1
