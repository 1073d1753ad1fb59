"""`vastproxy logs`: what an instance's container has written, as vast.ai keeps it."""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer

from vastproxy.cli.options import AsJson, ConfigFile, InstanceId
from vastproxy.cli.progress import waiting
from vastproxy.settings import load
from vastproxy.vastai import VastClient, VastConfig, VastError, get_client

#: Time between two looks while following. Each is two or more calls to vast.ai.
FOLLOW_S = 5.0
#: Lines asked for at each look while following: more than these in between are not all shown.
FOLLOWED_LINES = 1000
WAIT_S = 20.0
#: Escape sequences of terminals (ECMA-48), which a container must not send to ours.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")

#: Asks for the last so many lines.
Look = Callable[[int], list[str]]


def logs(
    instance_id: InstanceId,
    tail: Annotated[
        int, typer.Option("--tail", "-n", metavar="N", min=1, max=100_000, help="Last lines.")
    ] = 200,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")
    ] = False,
    daemon: Annotated[
        bool,
        typer.Option("--daemon", help="What its machine says: pulling the image, starting the container."),
    ] = False,
    pattern: Annotated[
        str | None, typer.Option("--filter", metavar="TEXT", help="Only lines with this, found by vast.ai.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what the container of an instance has written, also while there is no way in yet.

    vast.ai fetches it from the machine, which takes some seconds. With --follow and --json each line is a document of
    its own.

    Examples:

      vastproxy logs 48001001 --tail 50

      vastproxy logs 48001001 --follow

      vastproxy logs 48001001 --daemon --filter error
    """
    loaded = load(config_path=config)
    with get_client(VastConfig.from_settings(loaded.settings.vast, loaded.environ)) as client:
        look = looker(client, instance_id, pattern=pattern, daemon=daemon)
        write = _writer(as_json=as_json)
        with waiting(f"vast.ai fetches the log of instance {instance_id}"):
            lines = look(tail)
        if not follow:
            if as_json:
                typer.echo(json.dumps({"instance": instance_id, "lines": lines}, indent=2))
            else:
                write(lines)
            return
        write(lines)
        for news in following(look, lines):
            write(news)


def looker(client: VastClient, instance_id: int, *, pattern: str | None, daemon: bool) -> Look:
    """Asks vast.ai for the end of the log. What it returns raises VastError."""

    def look(tail: int) -> list[str]:
        text = client.logs(instance_id, tail=tail, pattern=pattern, daemon=daemon, wait_s=WAIT_S)
        return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text.strip() else []

    return look


def following(
    look: Look, before: Sequence[str], *, sleep: Callable[[float], object] | None = None
) -> Iterator[list[str]]:
    """The lines that are new at each further look, for ever. A look that may succeed later is made again."""
    sleep = threading.Event().wait if sleep is None else sleep
    seen = list(before)
    while True:
        sleep(FOLLOW_S)
        try:
            now = look(FOLLOWED_LINES)
        except VastError as error:
            if not error.retryable:
                raise
            continue
        if news := new_lines(seen, now):
            yield news
        seen = now or seen


def new_lines(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """What `now` has beyond `before`, both being the end of one growing text.

    It is what follows the last place where `before` stands in `now`, or all of `before` but its last line, which may
    have been written half; else where the most of its end stands at the beginning of `now`. All of `now` where they
    have nothing in common. Pure."""
    before, now = list(before), list(now)
    for known in (before, before[:-1]):
        for end in range(len(now), len(known) - 1, -1):
            if known and now[end - len(known) : end] == known:
                return now[end:]
    for overlap in range(min(len(before), len(now)), 0, -1):
        if now[:overlap] == before[-overlap:]:
            return now[overlap:]
    return now


def readable(line: str) -> str:
    """A line without what a terminal obeys; tabs stay, and a progress bar is what it was last."""
    bare = _ESCAPES.sub("", line.rsplit("\r", 1)[-1])
    return "".join(
        char if char == "\t" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in bare
    )


def _writer(*, as_json: bool) -> Callable[[Sequence[str]], None]:
    """Writes lines: for programs as JSON or as they are, and for a terminal without its control sequences."""
    is_terminal = sys.stdout.isatty()

    def write(lines: Sequence[str]) -> None:
        for line in lines:
            typer.echo(json.dumps({"line": line}) if as_json else readable(line) if is_terminal else line)
        sys.stdout.flush()

    return write
