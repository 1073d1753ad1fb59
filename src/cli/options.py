"""Arguments and options that several commands share, so that they are called and explained the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from vastproxy.cli.completion import instance_ids

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Config file. Default: VASTPROXY_CONFIG, ./config/vastai.<environment>.json, "
        "~/.config/vastproxy/vastai.<environment>.json.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
NoDashboard = Annotated[
    bool, typer.Option("--no-tui", help="Write lines, also where a terminal could show the dashboard.")
]
AsciiOnly = Annotated[
    bool, typer.Option("--ascii", help="The dashboard is drawn with letters: no emoji, no lines.")
]
InstanceIds = Annotated[
    list[int] | None,
    typer.Argument(
        metavar="[INSTANCE]...", min=1, help="Ids of instances. Default: all.", autocompletion=instance_ids
    ),
]
InstanceId = Annotated[
    int, typer.Argument(metavar="ID", min=1, help="Id of the instance.", autocompletion=instance_ids)
]
ProxyUrl = Annotated[
    str | None, typer.Argument(metavar="URL", help="Address of the proxy. Default: where server.listen says.")
]
