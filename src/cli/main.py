"""The `vastproxy` command: registers the commands, turns errors into one line and an exit code."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

import vastproxy
from vastproxy.cli.config import config_app
from vastproxy.cli.cost import cost
from vastproxy.cli.demo import demo
from vastproxy.cli.destroy import destroy
from vastproxy.cli.doctor.command import doctor
from vastproxy.cli.drain import drain
from vastproxy.cli.explain import explain
from vastproxy.cli.instances import instances
from vastproxy.cli.keys import keys_app
from vastproxy.cli.machines import machines
from vastproxy.cli.requests import abort, cancel, requests
from vastproxy.cli.serve import serve
from vastproxy.cli.status import status
from vastproxy.cli.top.command import top
from vastproxy.cli.trust import trust
from vastproxy.cli.webhooks import webhooks_app
from vastproxy.errors import VastproxyError
from vastproxy.services.process import is_compiled

INTERRUPTED = 130

#: What can be typed, in the order of the help.
COMMANDS: tuple[Callable[..., Any], ...] = (
    *(serve, demo, top, doctor, status, requests, explain, cancel, abort, drain, instances, cost, machines),
    *(destroy, trust),
)

ABOUT = """One OpenAI-compatible endpoint in front of every GPU you rent on vast.ai.

Finds your running instances, opens SSH to each, checks the inference engine inside and balances
requests over them.
"""
EXAMPLES = """Examples:

\b
  vastproxy demo                      try it without an account
  export VAST_API_KEY=...             the key from https://cloud.vast.ai/manage-keys/
  vastproxy instances                 what runs on the account, and what would be served
  vastproxy doctor                    is everything as it should be, and what to do if not
  vastproxy serve                     proxy on http://127.0.0.1:8080/v1
  vastproxy top                       watch a running proxy in the terminal
  vastproxy status                    how a running proxy and its backends are
  vastproxy status http://gpu-gw:8080 --json
  vastproxy explain 5f1c0e9a2b3d00000001   what became of a request
  vastproxy requests --state running  what runs now; `vastproxy cancel ID` ends one of them
  vastproxy cost --by model           what the last 24 hours cost, and for how many tokens
  vastproxy drain 1234567             no new requests for an instance; --undo takes it back
  vastproxy destroy 1234567           end its contract and delete its data, for ever
  vastproxy trust 1234567             accept the changed host key of an instance
  vastproxy keys create web           make a key for a client
  vastproxy webhooks create URL       let vast.ai tell a proxy at once what happens
  vastproxy config check              is everything set that is needed?
  vastproxy config show --sources     every setting, and where its value comes from
"""

app = typer.Typer(
    name="vastproxy",
    help=ABOUT,
    epilog=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vastproxy {vastproxy.__version__}{' (compiled)' if is_compiled() else ''}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Only carries the options of the whole program; the help text is the app's."""


for command in COMMANDS:
    app.command()(command)
app.add_typer(keys_app)
app.add_typer(config_app)
app.add_typer(webhooks_app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (default: of this process) and exit. The message of an error of ours is one line.

    Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 vast.ai refuses the key, 130 interrupted.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="vastproxy")
    except VastproxyError as error:
        typer.echo(f"vastproxy: {' '.join(str(error).split())}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(1)
    finally:
        _let_go_of_stdout()


def _let_go_of_stdout() -> None:
    """Flush now. If the reader has gone, as after `| head`, the interpreter shall not complain at its end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
