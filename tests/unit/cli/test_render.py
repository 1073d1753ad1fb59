"""What is printed, on a console of our own."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vastproxy.cli import render


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (7_380, "2 h 3 min"),
        (90_000, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert render.duration(seconds) == text


@given(st.text())
def test_nothing_from_outside_reaches_the_terminal_as_a_command(text: str) -> None:
    assert render.clean(text).isprintable()


def test_colours_only_where_the_console_has_them() -> None:
    found = [("topic", "[bold]finding[/bold]")]
    plain, coloured = io.StringIO(), io.StringIO()
    render.checks(Console(file=plain), found)
    render.checks(Console(file=coloured, force_terminal=True, color_system="standard"), found)
    assert plain.getvalue() == "ok  topic: [bold]finding[/bold]\n"
    assert "\x1b[" in coloured.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert render.stdout().no_color


def shown(**row: object) -> str:
    """One backend, as `status` prints it."""
    out = io.StringIO()
    render.status(Console(file=out, width=140), "http://x", {}, [{"id": 7, "state": "healthy", **row}], None)
    return out.getvalue()


def test_the_path_in_use_and_what_is_worth_knowing_of_the_other() -> None:
    def paths(direct: str, relay: str, **more: object) -> list[dict[str, object]]:
        return [{"path": "direct", "state": direct}, {"path": "relay", "state": relay, **more}]

    assert "+ relay" in shown(path="direct", paths=paths("up", "up"))
    assert "no relay" in shown(path="direct", paths=paths("up", "down", error="refused"))
    assert "relay" not in shown(path="direct", paths=paths("up", "dialing"))
    assert "direct stalls" in shown(path="relay", paths=paths("doubted", "up"))
    assert "direct" in shown(path="direct")


def test_every_engine_and_every_sick_gpu_has_its_line() -> None:
    engines = [
        {"kind": "vllm", "port": 18000, "models": ["a"], "error": None},
        {"kind": "ollama", "port": 11434, "models": ["b", "c"], "error": None},
        {"kind": "llamacpp", "port": 8080, "models": [], "error": "port 8080 is closed"},
    ]
    signs = [{"text": "GPU 0: is too hot", "fault": True}, {"text": "GPU 1: idle", "fault": False}]
    text = shown(engine="vllm", port=18000, models=["a"], engines=engines, gpu_signs=signs)
    assert "vllm:18000" in text
    assert "+ ollama:11434 b, c" in text
    assert "+ llamacpp:8080: port 8080 is closed" in text
    assert "GPU 0: is too hot" in text
    assert "idle" not in text


@pytest.mark.parametrize("garbage", ["x", 5, ["x"], {"a": 1}])
def test_a_proxy_of_another_version_is_shown_as_far_as_it_is_understood(garbage: object) -> None:
    assert "7" in shown(paths=garbage, engines=garbage, gpu_signs=garbage, gpus=garbage)
