"""The dashboard beside a proxy, as a process of its own: what `vastproxy serve` starts on its terminal.

    VASTPROXY_TOP_KEY=… python -m vastproxy.cli.top URL --log DESCRIPTOR --parent PID [--ascii]

It loads nothing of the server, so that it is there soon.
"""

import argparse
import os

from vastproxy.cli.top.feed import Source
from vastproxy.cli.top.run import beside

KEY = "VASTPROXY_TOP_KEY"


def main() -> None:
    """Show the proxy that started us."""
    parser = argparse.ArgumentParser(prog="vastproxy.cli.top")
    parser.add_argument("url")
    parser.add_argument("--log", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--ascii", action="store_true")
    given = parser.parse_args()
    source = Source(given.url, os.environ.pop(KEY, None), is_own=True)
    beside(source, ascii_only=given.ascii, log=given.log, parent=given.parent)


if __name__ == "__main__":
    main()
