"""The settings of the ledger."""

from typing import Annotated

from pydantic import Field

from vastproxy.settings.section import Section


class LedgerSettings(Section):
    """What instances cost and what they did for it, in a file of SQLite. See docs/COST.md."""

    enabled: bool = True
    """Keep it. It has names of models and of keys, numbers and times: nothing of what is asked or answered."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """The file. Default: ledger.db in tunnels.state_dir, $XDG_STATE_HOME/vastproxy or ~/.local/state/vastproxy."""
    keep_days: Annotated[int, Field(ge=1, le=36_500)] = 400
    """Days of hours that are kept. What is known of machines stays."""
    ask_usage: bool = True
    """Ask SGLang, vLLM and llama.cpp for the number of tokens of each stream (stream_options.include_usage), and take
    the event that has it out again for clients that did not ask."""
