"""The dashboard in a real terminal: beside `vastproxy serve`, attached with `vastproxy top`, in tmux."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.certificates import make_certificate
from tests.helpers.fake_proxy import FakeProxy, backend, event, gpu, overview, request, rows
from tests.helpers.processes import descendants, is_running
from tests.helpers.proxy_process import FAST, environment
from tests.helpers.sshd import make_key
from tests.helpers.tmux import Tmux

#: Two programs are started in most of them, on a machine that may be busy.
pytestmark = pytest.mark.timeout(150)
VASTPROXY = (sys.executable, "-m", "vastproxy")
ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_key(tmp_path / "id")
    return tmp_path


def settings(home: Path, **more: str) -> dict[str, str]:
    """An account whose API does not answer: what is looked at here needs no instances."""
    given = {
        **FAST,
        "LISTEN_ADDR": "127.0.0.1:0",
        "VAST_API_KEY": "test-key",
        "VAST_URL": "http://127.0.0.1:9",
        "VASTPROXY_TUNNELS__STATE_DIR": str(home / "state"),
        "SSH_KEY_PATH": str(home / "id"),
        "PYTHONPATH": ROOT,
        **more,
    }
    return environment(home, **given)


def ended(tmux: Tmux, code: int = 0) -> str:
    """Wait until the program has ended so, and a shell could go on in its terminal. All that the window has shown."""
    tmux.until(lambda: re.search(r"(?m)^isig$", tmux.screen(history=True)) is not None, "a sane terminal")
    shown = tmux.screen(history=True)
    assert f"ended with {code}" in shown
    assert "Traceback" not in shown
    return shown


def server_of(tmux: Tmux) -> int:
    (server,) = [pid for pid in descendants(tmux.pid()) if not has_word(pid, "vastproxy.cli.top")]
    return server


def dashboard_of(tmux: Tmux) -> int:
    (found,) = [pid for pid in descendants(tmux.pid()) if has_word(pid, "vastproxy.cli.top")]
    return found


def has_word(pid: int, word: str) -> bool:
    return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


# -- beside a server ---------------------------------------------------------------------------------------


def test_serve_shows_it_and_goes_on_without_it(home: Path) -> None:
    """q asks; the log goes on in the terminal; Ctrl-C then stops the proxy as ever."""
    with Tmux(home, env=settings(home)) as tmux:
        tmux.run(*VASTPROXY, "serve")
        tmux.shows("● 0/0 healthy")
        tmux.presses("q")
        tmux.shows("Stop the proxy too?")
        tmux.presses("n")
        tmux.shows("the dashboard is closed; the proxy runs until Ctrl-C")
        tmux.presses("C-c")
        assert "closing tunnels" in ended(tmux)


@pytest.mark.parametrize("keys", [("C-c",), ("q", "y"), ("C-c", "C-c")])
def test_serve_is_stopped_from_it(home: Path, keys: tuple[str, ...]) -> None:
    with Tmux(home, env=settings(home)) as tmux:
        tmux.run(*VASTPROXY, "serve")
        tmux.shows("healthy")
        for key in keys:
            tmux.presses(key)
            if key == "q":
                tmux.shows("Stop the proxy too?")
        ended(tmux)


def test_ctrl_c_before_it_is_there(home: Path) -> None:
    """Between the start of the server and its first picture."""
    with Tmux(home, env=settings(home)) as tmux:
        tmux.run(*VASTPROXY, "serve")
        # The first picture hides it, on a busy machine before it has been looked at.
        tmux.until(
            lambda: any(text in tmux.screen(history=True) for text in ("listening on http", "healthy")),
            "it listens",
        )
        tmux.presses("C-c")
        ended(tmux)


def test_its_log_can_be_read_in_it(home: Path) -> None:
    with Tmux(home, size=(130, 30), env=settings(home)) as tmux:
        tmux.run(*VASTPROXY, "serve")
        tmux.shows("healthy")
        tmux.presses("l")
        tmux.shows("the instance list could not be read, keeping the last good one")
        tmux.presses("C-c")
        ended(tmux)


def test_with_keys_and_tls_it_is_let_in(home: Path) -> None:
    """With a key of its own, which nobody has to give it, and whatever name is in the certificate."""
    make_certificate("proxy.test").write(home / "cert.pem", home / "key.pem")
    env = settings(home, VASTPROXY_API_KEYS="somebody-elses", LISTEN_ADDR="0.0.0.0:0")
    with Tmux(home, env=env) as tmux:
        tmux.run(*VASTPROXY, "serve", "--tls-cert", "cert.pem", "--tls-key", "key.pem")
        tmux.shows("0/0 healthy")
        tmux.presses("C-c")
        ended(tmux)


def test_a_dashboard_that_is_killed_leaves_the_proxy_and_the_terminal(home: Path) -> None:
    with Tmux(home, env=settings(home)) as tmux:
        tmux.run(*VASTPROXY, "serve")
        tmux.shows("healthy")
        os.kill(dashboard_of(tmux), signal.SIGKILL)
        tmux.shows("the dashboard has ended by itself (exit code -9); the proxy runs on")
        tmux.presses("C-c")
        ended(tmux)


def test_a_proxy_that_is_killed_takes_it_along(home: Path) -> None:
    with Tmux(home, env=settings(home)) as tmux:
        tmux.run(*VASTPROXY, "serve")
        tmux.shows("healthy")
        top = dashboard_of(tmux)
        os.kill(server_of(tmux), signal.SIGKILL)
        tmux.shows("ended with 137")
        tmux.until(lambda: not is_running(top), "the dashboard has ended")


def test_a_service_manager_ends_both(home: Path) -> None:
    with Tmux(home, env=settings(home)) as tmux:
        tmux.run(*VASTPROXY, "serve")
        tmux.shows("healthy")
        os.kill(server_of(tmux), signal.SIGTERM)
        ended(tmux)


@pytest.mark.parametrize(("words", "env"), [(("--no-tui",), {}), ((), {"TERM": "dumb"})])
def test_lines_where_they_are_wanted(home: Path, words: tuple[str, ...], env: dict[str, str]) -> None:
    with Tmux(home, env=settings(home)) as tmux:
        tmux.run("env", *(f"{name}={value}" for name, value in env.items()), *VASTPROXY, "serve", *words)
        tmux.shows("the instance list could not be read")
        assert "● 0/0 healthy" not in tmux.screen(history=True)
        tmux.presses("C-c")
        ended(tmux)


def test_the_demo_is_shown_in_it(home: Path) -> None:
    """From the first connection to requests on the real proxy; orders work; who leaves is told how to ask."""
    env = environment(home, PYTHONPATH=ROOT)
    with Tmux(home, size=(120, 36), env=env) as tmux:
        tmux.run(*VASTPROXY, "demo", "--instances", "2", "--listen", "127.0.0.1:0")
        tmux.shows("2/2 healthy")
        tmux.shows("Requests 3")
        tmux.shows("🐇 direct")
        tmux.presses("p")
        tmux.shows("● draining")
        tmux.presses("p")
        tmux.shows("2/2 healthy")
        tmux.presses("Enter")
        tmux.shows("esc: back")
        tmux.presses("Escape")
        tmux.until(lambda: "esc: back" not in tmux.screen(), "the dashboard again")
        tmux.presses("q")
        tmux.shows("Stop the proxy too?")
        tmux.presses("n")
        tmux.shows("Ask it yourself")
        tmux.presses("C-c")
        ended(tmux)


# -- attached to a proxy -----------------------------------------------------------------------------------


def test_in_letters_and_without_colour(home: Path) -> None:
    """NO_COLOR: not one colour is sent. --ascii: not one other sign."""
    fleet = overview([*rows(3), backend(7, state="unhealthy", path="relay", error="nobody answers")])
    with FakeProxy(fleet=fleet, events=[event(1)], requests=[request(1)]) as proxy:
        env = environment(home, PYTHONPATH=ROOT, NO_COLOR="1")
        with Tmux(home, env=env) as tmux:
            tmux.run(*VASTPROXY, "top", proxy.url, "--ascii")
            tmux.shows("nobody answers")
            shown = tmux.shows("connecting > healthy")
            assert shown.isascii()
            colours = re.findall(r"\x1b\[([0-9;]*)m", tmux.screen(with_colours=True))
            assert {part for one in colours for part in one.split(";")} <= {
                "",
                "0",
                "1",
                "2",
                "7",
                "39",
                "49",
            }
            assert "R" in next(line for line in shown.splitlines() if "#7" in line)
            tmux.presses("q")
            ended(tmux)


def test_a_locale_without_utf8_gets_letters(home: Path) -> None:
    with FakeProxy(fleet=overview(rows(2))) as proxy:
        env = environment(home, PYTHONPATH=ROOT, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        with Tmux(home, env=env) as tmux:
            tmux.run("env", "LC_ALL=POSIX", "PYTHONIOENCODING=ascii", *VASTPROXY, "top", proxy.url)
            assert tmux.shows("2/2 healthy").isascii()


def test_it_follows_the_terminal_and_the_proxy(home: Path) -> None:
    with (
        FakeProxy(fleet=overview(rows(3))) as proxy,
        Tmux(home, env=environment(home, PYTHONPATH=ROOT)) as tmux,
    ):
        tmux.run(*VASTPROXY, "top", proxy.url)
        tmux.shows("3/3 healthy")
        tmux.resize(130, 30)
        tmux.shows("─ Requests 0 ─")
        tmux.resize(40, 12)
        tmux.until(
            lambda: "3/3 healthy" in (shown := tmux.screen()) and "Requests" not in shown,
            "a small terminal has no room for requests",
        )
        tmux.resize(80, 24)
        proxy.stop()
        tmux.shows("nothing answers at")
        proxy.start()
        tmux.until(lambda: "nothing answers" not in tmux.screen(), "it is back")
        tmux.presses("C-c")
        ended(tmux)


def test_a_proxy_that_is_not_there_is_one_line(home: Path) -> None:
    with FakeProxy(key="k") as proxy:
        env = environment(home, PYTHONPATH=ROOT)
        with Tmux(home, size=(200, 24), env=env) as tmux:
            tmux.run(*VASTPROXY, "top", proxy.url)
            tmux.shows("vastproxy: http://127.0.0.1")
            tmux.shows("give it with --key or VASTPROXY_API_KEYS")
            ended(tmux, 1)


@pytest.mark.parametrize("moving", [False, True], ids=["at rest", "busy"])
def test_few_bytes_are_written(home: Path, moving: bool) -> None:
    """With eight instances: nothing while nothing changes, less than 4 KB a second when everything does."""
    with FakeProxy(fleet=overview(rows(8))) as proxy:
        leader, follower = pty.openpty()
        env = {
            **environment(home, PYTHONPATH=ROOT),
            "TERM": "xterm-256color",
            "COLUMNS": "120",
            "LINES": "36",
        }
        words = (*VASTPROXY, "top", proxy.url)
        process = subprocess.Popen(words, stdin=follower, stdout=follower, stderr=follower, env=env, cwd=home)
        os.close(follower)
        try:
            shown = b""
            while b"8/8 healthy" not in shown or drain(leader, 3.0):
                shown += drain(leader, 0.5)
            written = 0
            for second in range(4):
                if moving:
                    proxy.fleet = overview([changed(row, second) for row in rows(8)])
                    written += len(drain(leader, 15.0, enough=1))
                written += len(drain(leader, 0.7))
            assert written == 0 if not moving else 0 < written < 4 * 4096
            os.write(leader, b"q")
            drain(leader, 1.0)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            os.close(leader)


def changed(row: dict[str, object], second: int) -> dict[str, object]:
    """Every figure is another one."""
    one = gpu(0, utilization_percent=10.0 + second, temperature_c=50.0 + second, power_w=200.0 + second)
    count = row["num_gpus"]
    assert isinstance(count, int)
    more = {"in_flight": second, "tokens_per_s": 300.0 + second, "errors": second, "since_s": 60.0 * second}
    return {**row, **more, "gpus": [one] * count}


def drain(leader: int, seconds: float, *, enough: int = 1 << 30) -> bytes:
    """What is written within so many seconds, or until there are so many bytes."""
    found, until = b"", time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and len(found) < enough:
        if select.select([leader], [], [], left)[0]:
            try:
                found += os.read(leader, 65_536)
            except OSError:  # the other end is closed
                break
    return found
