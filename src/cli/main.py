"""The `vastproxy` command: registers the commands, turns errors into one line and an exit code."""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import vastproxy
from vastproxy.cli.lazy import LazyGroup
from vastproxy.errors import VastproxyError
from vastproxy.services.process import is_compiled

INTERRUPTED = 130

#: What can be typed, in the order of the help, and where it is.
COMMANDS = {
    "serve": "vastproxy.cli.serve:serve",
    "demo": "vastproxy.cli.demo:demo",
    "doctor": "vastproxy.cli.doctor.command:doctor",
    # a proxy that runs
    "top": "vastproxy.cli.top.command:top",
    "status": "vastproxy.cli.status:status",
    "requests": "vastproxy.cli.requests:requests",
    "explain": "vastproxy.cli.explain:explain",
    "cancel": "vastproxy.cli.requests:cancel",
    "abort": "vastproxy.cli.requests:abort",
    "drain": "vastproxy.cli.drain:drain",
    "cost": "vastproxy.cli.cost:cost",
    "machines": "vastproxy.cli.machines:machines",
    # what is rented
    "instances": "vastproxy.cli.instances:instances",
    "logs": "vastproxy.cli.container_logs:logs",
    "ssh": "vastproxy.cli.ssh:ssh",
    "trust": "vastproxy.cli.trust:trust",
    "destroy": "vastproxy.cli.destroy:destroy",
    # how it is set up
    "keys": "vastproxy.cli.keys:keys_app",
    "config": "vastproxy.cli.config:config_app",
    "webhooks": "vastproxy.cli.webhooks:webhooks_app",
}

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
  vastproxy logs 1234567 --follow     what its container writes
  vastproxy ssh 1234567               a shell in it, by the pinned host key
  vastproxy destroy 1234567           end its contract and delete its data, for ever
  vastproxy trust 1234567             accept the changed host key of an instance
  vastproxy keys create web           make a key for a client
  vastproxy webhooks create URL       let vast.ai tell a proxy at once what happens
  vastproxy config check              is everything set that is needed?
  vastproxy config show --sources     every setting, and where its value comes from
"""


class _Commands(LazyGroup):
    places = COMMANDS


app = typer.Typer(
    cls=_Commands,
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (default: of this process) and exit. The message of an error of ours is one line.

    Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 vast.ai refuses the key, 130 interrupted.
    """
    _prepare_streams()
    try:
        app(args=None if arguments is None else list(arguments), prog_name="vastproxy")
    except VastproxyError as error:
        typer.echo(f"vastproxy: {' '.join(str(error).split())}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        where = f": {error.filename}" if error.filename else ""
        typer.echo(f"vastproxy: the system refuses: {why}{where}", err=True)
        sys.exit(1)
    finally:
        _let_go_of_stdout()


def _prepare_streams() -> None:
    """Whoever starts us may have closed a standard stream, and his locale may lack a letter: neither ends a command."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it stays until the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _let_go_of_stdout() -> None:
    """Flush now. If the reader has gone, as after `| head`, or the disk is full, which has been told by now, the
    interpreter shall not complain at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
