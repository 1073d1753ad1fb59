"""What comes from elsewhere is printed as it is: nobody who names a model or an instance writes markup for us."""

import ast
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

import vastproxy.cli
from tests.unit.cli.conftest import Answers, Peer, Run
from tests.unit.cli.test_cost import COST, MACHINES, figures
from tests.unit.cli.test_instances import RUNNING, account, environ
from tests.unit.cli.test_requests import LIST
from tests.unit.cli.test_requests import row as request_row
from tests.unit.cli.test_status import BACKEND, healthz, proxy
from vastproxy.cli import render
from vastproxy.cli.consoles import plain_console
from vastproxy.cli.destroy import Doomed, confirm
from vastproxy.cli.doctor.view import View
from vastproxy.cli.progress import waiting

StartPeer = Callable[[Answers], Peer]
#: Ends nothing, is a style, hides what is in it, is an emoji, is the name of a class of letters.
ODD = ("[/x]", "[bold]a", "[prod]", "a:fire:b", "a-[ab]*")


@pytest.mark.parametrize("odd", ODD)
def test_a_model_and_an_id_that_clients_have_made_up(run: Run, peer: StartPeer, odd: str) -> None:
    there = peer({LIST: (200, {"requests": [request_row(f"id{odd}", "done", model=odd, status=odd)]})})
    result = run("requests", there.url)
    assert result.exception is None
    assert result.output.splitlines()[1].split()[:3] == [f"id{odd}", odd, odd]


@pytest.mark.parametrize("odd", ODD)
def test_names_in_the_ledger(run: Run, peer: StartPeer, odd: str) -> None:
    machine = {"machine_id": 7, "gpu": odd}
    there = peer(
        {
            COST: (200, {"by": "model", "rows": [{"name": odd, **figures()}], "total": figures()}),
            MACHINES: (200, {"machines": [machine]}),
        }
    )
    assert run("cost", there.url).output.splitlines()[1].split()[0] == odd
    assert run("machines", there.url).output.splitlines()[1].split()[:2] == ["7", odd]


@pytest.mark.parametrize("odd", ODD)
def test_backends(run: Run, peer: StartPeer, odd: str) -> None:
    row = {**BACKEND, "state": odd, "gpu_name": odd, "models": [odd], "error": odd, "num_gpus": 1}
    result = run("status", peer(proxy(healthz(reason=odd), row)).url)
    assert result.exception is None
    assert result.output.count(odd) == 5


@pytest.mark.parametrize("odd", ODD)
def test_instances(run: Run, peer: StartPeer, odd: str) -> None:
    result = run("instances", **environ(peer(account({**RUNNING, "label": odd, "gpu_name": odd}))))
    assert result.exception is None
    assert result.output.count(odd) == 2


@pytest.mark.parametrize("odd", ODD)
def test_the_models_of_a_key(run: Run, odd: str) -> None:
    assert run("keys", "create", "web", "--model", odd).exit_code == 0
    assert odd in run("keys", "list").output


@pytest.mark.parametrize("odd", ODD)
def test_what_is_to_be_destroyed(odd: str) -> None:
    """Whoever reads the label before he types the words reads all of it."""
    app = typer.Typer()

    @app.command()
    def ask() -> None:
        confirm(render.stderr(), [Doomed(7, f"1x {odd}", 0.5, f"{odd} llama")], "on the account")

    asked = CliRunner().invoke(app, [], input="").output
    assert f"1x {odd}" in asked
    assert f"{odd} llama" in asked


@pytest.mark.parametrize("odd", [*ODD, "http://[fe80::1]:8080"])
def test_what_is_waited_for(odd: str) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    with waiting(f"asking {odd}", console=console):
        pass
    assert f"asking {odd}" in Text.from_ansi(out.getvalue()).plain


@pytest.mark.parametrize("odd", [*ODD, "http://[fe80::1]:8080"])
def test_what_the_doctor_waits_for(odd: str) -> None:
    for before in ((), ("asking vast.ai",)):
        out = io.StringIO()
        with View(Console(file=out, force_terminal=True, width=80)) as view:
            for text in (*before, f"asking {odd}"):
                view.progress(text)
        assert f"asking {odd}" in Text.from_ansi(out.getvalue()).plain


def test_every_console_is_made_in_one_place() -> None:
    """No other one reads markup in what it prints."""
    root = Path(vastproxy.cli.__file__).parent
    makers = {
        file.relative_to(root).as_posix()
        for file in root.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Console"
    }
    assert makers == {"consoles.py"}


def test_a_plain_console_takes_styles_as_text_alone() -> None:
    out = io.StringIO()
    console = plain_console(file=out, force_terminal=True, color_system="standard")
    console.print("[red]a[/red] 7 :fire:")
    console.print(Text("b", style="red"))
    assert out.getvalue() == "[red]a[/red] 7 :fire:\n\x1b[31mb\x1b[0m\n"
