"""`vastproxy top`: the terminal dashboard of a running proxy."""

import sys
from typing import Annotated

import typer

from vastproxy.cli.asking import inbound_key, proxy_url
from vastproxy.cli.options import AsciiOnly, ConfigFile, ProxyUrl
from vastproxy.settings import load


def top(
    url: ProxyUrl = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="VASTPROXY_API_KEY",
            help="Key with the right 'admin'. Default: the first of VASTPROXY_API_KEYS.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.2, max=60, help="Time between two looks.")
    ] = 1.0,
    ascii_only: AsciiOnly = False,
    config: ConfigFile = None,
) -> None:
    """Watch a running proxy in the terminal, and give it orders.

    Shows the fleet's figures, every instance with its GPUs, what happens, and the requests in flight. Press ? for the
    keys: drain, abort, destroy, trust, filter, sort, details. It goes on when the proxy is started anew. Where standard
    output is no terminal, it prints what there is now and ends. Colours follow NO_COLOR.

    Examples:

      vastproxy top

      vastproxy top https://gpu-gw.example.com --key vp-...

      vastproxy top gpu-gw:8080 --every 5 --ascii
    """
    loaded = load(config_path=config)
    base = proxy_url(url, loaded)
    # Textual takes a quarter of a second to load, which no other command shall wait for.
    from vastproxy.cli.top import run
    from vastproxy.cli.top.feed import Source

    source = Source(base, key or inbound_key(loaded), every)
    if sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty():
        run.attach(source, ascii_only=ascii_only)
    else:
        run.print_once(source, ascii_only=ascii_only)
